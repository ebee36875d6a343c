//! The databases behind one face: which of them a URL means, pools and connections of either, and
//! the macro that writes a statement's body for both.

use std::time::Duration;

use diesel::prelude::*;

#[cfg(feature = "postgres")]
use super::postgres;
use super::{Prepared, StoreError, url};
#[cfg(feature = "sqlite")]
use super::{checkpoint, database_file, sqlite};

/// How long a reader waits for a free connection.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);
/// The writer has other work meanwhile: it tells those who wait that the database is away.
const WRITER_CHECKOUT_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(not(feature = "sqlite"))]
const NO_SQLITE: StoreError = StoreError::NotBuiltIn {
    database: "SQLite",
    feature: "sqlite",
};
#[cfg(not(feature = "postgres"))]
const NO_POSTGRES: StoreError = StoreError::NotBuiltIn {
    database: "PostgreSQL",
    feature: "postgres",
};

/// An opened database.
pub(super) enum Backend {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Database),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Server),
}

/// What the connections of a pool do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// They only read; so many of them at most.
    Readers(u32),
    /// The one connection that writes; `strict`: what it has committed survives a power cut.
    Writer { strict: bool },
}

impl Role {
    pub(super) fn pool<M: r2d2::ManageConnection>(self) -> r2d2::Builder<M> {
        let (size, timeout) = match self {
            Self::Readers(size) => (size.max(1), CHECKOUT_TIMEOUT),
            Self::Writer { .. } => (1, WRITER_CHECKOUT_TIMEOUT),
        };
        // A connection that cannot be made is the error of the one who asks for it.
        r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(1))
            .connection_timeout(timeout)
            .error_handler(Box::new(r2d2::NopErrorHandler))
    }
}

impl Backend {
    /// Opens the database that the URL means and runs the migrations that it lacks. `adopt`: also
    /// where an Ecto application has made its table.
    pub(super) fn open(url: &str, adopt: bool) -> Result<(Self, Prepared), StoreError> {
        match url::Scheme::of(url)? {
            #[cfg(feature = "sqlite")]
            url::Scheme::Sqlite => {
                let (database, prepared) = sqlite::Database::open(url, adopt)?;
                Ok((Self::Sqlite(database), prepared))
            }
            #[cfg(not(feature = "sqlite"))]
            url::Scheme::Sqlite => Err(NO_SQLITE),
            #[cfg(feature = "postgres")]
            url::Scheme::Postgres => {
                let server = postgres::Server::new(url)?;
                let prepared = server.prepare(adopt)?;
                Ok((Self::Postgres(server), prepared))
            }
            #[cfg(not(feature = "postgres"))]
            url::Scheme::Postgres => Err(NO_POSTGRES),
        }
    }

    /// The database that the URL means, as it is: only for connections that read.
    pub(super) fn open_to_read(url: &str) -> Result<Self, StoreError> {
        match url::Scheme::of(url)? {
            #[cfg(feature = "sqlite")]
            url::Scheme::Sqlite => sqlite::Database::open_to_read(url).map(Self::Sqlite),
            #[cfg(not(feature = "sqlite"))]
            url::Scheme::Sqlite => Err(NO_SQLITE),
            #[cfg(feature = "postgres")]
            url::Scheme::Postgres => postgres::Server::open_to_read(url).map(Self::Postgres),
            #[cfg(not(feature = "postgres"))]
            url::Scheme::Postgres => Err(NO_POSTGRES),
        }
    }

    /// A database on a server that was not reached yet.
    #[cfg(feature = "postgres")]
    pub(super) fn unreached(url: &str) -> Result<Self, StoreError> {
        postgres::Server::new(url).map(Self::Postgres)
    }

    /// Does for a database that was not reached what [`open`](Self::open) does.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "a file is never away")
    )]
    pub(super) fn prepare(&self, adopt: bool) -> Result<Prepared, StoreError> {
        match self {
            // A file is never away.
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(Prepared::default()),
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.prepare(adopt),
        }
    }

    pub(super) fn pool(&self, role: Role) -> Result<Pool, StoreError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(database) => database.pool(role).map(Pool::Sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.pool(role).map(Pool::Postgres),
        }
    }

    pub(super) fn guard(&self) -> Result<Guard, StoreError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(database) => Ok(Guard::Sqlite(database.file()?)),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(Guard::Postgres),
        }
    }

    pub(super) fn housekeeper(&self) -> Result<Housekeeper, StoreError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(database) => database.checkpointer().map(Housekeeper::Sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(Housekeeper::Postgres),
        }
    }
}

/// Connections of one role. Clones share them.
#[derive(Clone)]
pub(super) enum Pool {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Pool),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Pool),
}

impl Pool {
    /// Whether other servers may use the database as well.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }

    pub(super) fn get(&self) -> Result<Pooled, StoreError> {
        Ok(match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => Pooled::Sqlite(pool.get()?),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => Pooled::Postgres(pool.get()?),
        })
    }

    /// Reads on a thread that may wait for the database.
    pub(super) async fn read<T: Send + 'static>(
        self,
        query: impl FnOnce(&mut Connection<'_>) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, Box<dyn std::error::Error + Send + Sync>> {
        let read = tokio::task::spawn_blocking(move || -> Result<T, StoreError> {
            let mut pooled = self.get()?;
            Ok(query(&mut pooled.connection())?)
        });
        Ok(read.await??)
    }
}

/// A connection that goes back to its pool.
pub(super) enum Pooled {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Pooled),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Pooled),
}

impl Pooled {
    pub(super) fn connection(&mut self) -> Connection<'_> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pooled) => Connection::Sqlite(pooled),
            #[cfg(feature = "postgres")]
            Self::Postgres(pooled) => Connection::Postgres(pooled),
        }
    }
}

/// What a statement runs on. Statements are written once, with [`on_each_backend`].
pub(super) enum Connection<'a> {
    #[cfg(feature = "sqlite")]
    Sqlite(&'a mut SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(&'a mut PgConnection),
}

impl Connection<'_> {
    /// All of `body` or nothing. It may write: SQLite's lock is taken at its start, because a
    /// transaction that has read first could not wait for it.
    pub(super) fn transaction<T, E: From<diesel::result::Error>>(
        &mut self,
        body: impl FnOnce(&mut Connection<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => {
                connection.immediate_transaction(|inner| body(&mut Connection::Sqlite(inner)))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => diesel::Connection::transaction(*connection, |inner| {
                body(&mut Connection::Postgres(inner))
            }),
        }
    }
}

/// Looks whether the database is still the one that was opened.
pub(super) enum Guard {
    #[cfg(feature = "sqlite")]
    Sqlite(database_file::DatabaseFile),
    /// PostgreSQL's files are its own business.
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Guard {
    /// # Errors
    /// What has happened to it.
    pub(super) fn check(&mut self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Ok(file.check()?),
            #[cfg(feature = "postgres")]
            Self::Postgres => Ok(()),
        }
    }
}

/// Work beside the commits.
pub(super) enum Housekeeper {
    #[cfg(feature = "sqlite")]
    Sqlite(checkpoint::Checkpointer),
    /// PostgreSQL looks after itself.
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Housekeeper {
    /// After each commit.
    pub(super) fn committed(&mut self, pooled: &mut Pooled) -> QueryResult<()> {
        match (self, pooled) {
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(checkpointer), Pooled::Sqlite(pooled)) => checkpointer.committed(pooled),
            #[cfg(feature = "postgres")]
            (_, Pooled::Postgres(_)) => Ok(()),
            #[cfg(all(feature = "sqlite", feature = "postgres"))]
            (Self::Postgres, Pooled::Sqlite(_)) => Ok(()),
        }
    }

    /// Leaves files of which a copy is whole. At the end: it takes long.
    pub(super) fn settle(&mut self, pooled: &mut Pooled) -> QueryResult<()> {
        match (self, pooled) {
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(checkpointer), Pooled::Sqlite(pooled)) => checkpointer.settle(pooled),
            #[cfg(feature = "postgres")]
            (_, Pooled::Postgres(_)) => Ok(()),
            #[cfg(all(feature = "sqlite", feature = "postgres"))]
            (Self::Postgres, Pooled::Sqlite(_)) => Ok(()),
        }
    }
}

/// Writes one body for the typed connection of each database. Diesel's `MultiConnection` does not
/// compile for batches, conflicts and `RETURNING`, and functions generic over the connection need
/// pages of bounds.
macro_rules! on_each_backend {
    ($connection:expr, |$typed:ident| $body:expr) => {
        match $connection {
            #[cfg(feature = "sqlite")]
            $crate::store::backend::Connection::Sqlite(connection) => {
                let $typed = &mut **connection;
                $body
            }
            #[cfg(feature = "postgres")]
            $crate::store::backend::Connection::Postgres(connection) => {
                let $typed = &mut **connection;
                $body
            }
        }
    };
}
pub(super) use on_each_backend;
