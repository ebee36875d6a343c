//! [`Store`]: an opened database.

use crate::store::backend::{Backend, DbConnection, Fault, Pool, Prepared, Role, StoreError};
use crate::store::options::StoreOptions;
use crate::store::tables::migrations;

/// A database.
pub struct Store {
    pub(in crate::store) backend: Backend,
    pub(in crate::store) readers: Pool,
    adopt: bool,
    /// Whether the database was reached and migrated.
    pub(in crate::store) prepared: bool,
}

named_debug!(Store);

impl Store {
    /// Opens the database of a URL, `sqlite://FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`, creates its tables
    /// if they are missing, and runs all pending migrations or none. A SQLite file is created if it is missing, and
    /// belongs to one server at a time. A PostgreSQL database must exist; several servers may share it.
    ///
    /// # Errors
    /// If the URL is unknown, the database is unreachable, invalid or in use, has tables of another application, or
    /// a migration fails. Then nothing is changed.
    pub fn open(url: &str, options: StoreOptions) -> Result<(Self, Prepared), StoreError> {
        let adopt = options.adopt_ecto_messages;
        let (backend, prepared) = Backend::open(url, &migration(adopt))?;
        let store = Self::new(backend, options, true)?;
        Ok((store, prepared))
    }

    /// Migrates the database as [`Store::open`] does, and does nothing else.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn migrate(url: &str, options: StoreOptions) -> Result<Prepared, StoreError> {
        // Without a pool: a thread that is still connecting would outlive this call.
        let (_, prepared) = Backend::open(url, &migration(options.adopt_ecto_messages))?;
        Ok(prepared)
    }

    /// As [`Store::open`], for a server that starts without its database. If the database is
    /// [unreachable](StoreError::is_unreachable) now, the [`DbWriter`](crate::store::DbWriter) migrates it
    /// later.
    ///
    /// # Errors
    /// As [`Store::open`], except for an unreachable database.
    pub fn open_or_wait(url: &str, options: StoreOptions) -> Result<(Self, Prepared), StoreError> {
        match Self::open(url, options) {
            #[cfg(feature = "postgres")]
            Err(StoreError(error @ Fault::Unreachable(_))) => {
                tracing::error!(
                    %error,
                    "store.unreachable: start the database or mend its URL; messages wait in the \
                     spool"
                );
                let store = Self::new(Backend::unreached(url)?, options, false)?;
                Ok((store, Prepared::default()))
            }
            opened => opened,
        }
    }

    fn new(backend: Backend, options: StoreOptions, prepared: bool) -> Result<Self, Fault> {
        Ok(Self {
            readers: backend.pool(Role::Readers(options.pool_size))?,
            backend,
            adopt: options.adopt_ecto_messages,
            prepared,
        })
    }

    /// Migrates a database that was unreachable when it was opened.
    pub(in crate::store) fn prepare(&mut self) -> Result<(), Fault> {
        if self.prepared {
            return Ok(());
        }
        self.backend.prepare(&migration(self.adopt))?.log();
        self.prepared = true;
        Ok(())
    }
}

/// The migrations. `adopt`: also take over the table of an Ecto application.
fn migration(adopt: bool) -> impl Fn(&mut DbConnection<'_>) -> Result<Prepared, Fault> {
    move |connection| migrations::run(connection, adopt)
}
