//! SQLite and PostgreSQL behind one interface: the database of a URL, its pools, its connections, and a macro that
//! compiles a statement for both.

#[cfg(feature = "sqlite")]
mod checkpoint;
#[cfg(feature = "sqlite")]
mod database_file;
pub(in crate::store) mod error;
#[cfg(feature = "postgres")]
mod postgres;
mod prepared;
#[cfg(feature = "sqlite")]
mod sqlite;
pub(in crate::store) mod url;

use std::time::{Duration, Instant};

use diesel::prelude::*;

#[cfg(feature = "sqlite")]
pub use self::database_file::FileFault;
pub(in crate::store) use self::error::Fault;
pub use self::error::StoreError;
pub use self::prepared::Prepared;
pub use self::url::redacted;
use crate::metrics::{Query, metrics};

/// Migrates in the caller's transaction. `tables::migrations` implements it, because a backend knows no table.
pub(in crate::store) type Migrate<'a> =
    &'a dyn Fn(&mut DbConnection<'_>) -> Result<Prepared, Fault>;

/// The longest wait of a reader for a free connection.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for the writer. Short, because its callers wait for the answer that the database is unreachable.
const WRITER_CHECKOUT_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(not(feature = "sqlite"))]
const NO_SQLITE: Fault = Fault::NotBuiltIn {
    database: "SQLite",
    feature: "sqlite",
};
#[cfg(not(feature = "postgres"))]
const NO_POSTGRES: Fault = Fault::NotBuiltIn {
    database: "PostgreSQL",
    feature: "postgres",
};

/// An opened database.
pub(in crate::store) enum Backend {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::SqliteDatabase),
    #[cfg(feature = "postgres")]
    Postgres(postgres::PostgresServer),
}

/// The role of a pool's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Role {
    /// They only read; at most this many.
    Readers(u32),
    /// The one connection that writes. `strict`: its commits survive a power cut.
    Writer { strict: bool },
}

impl Role {
    pub(in crate::store) fn pool<M: r2d2::ManageConnection>(self) -> r2d2::Builder<M> {
        let (size, timeout) = match self {
            Self::Readers(size) => (size.max(1), CHECKOUT_TIMEOUT),
            Self::Writer { .. } => (1, WRITER_CHECKOUT_TIMEOUT),
        };
        // A failed connection is an error of the caller's `get`.
        r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(1))
            .connection_timeout(timeout)
            .error_handler(Box::new(r2d2::NopErrorHandler))
    }
}

impl Backend {
    /// Opens and migrates the database of the URL.
    pub(in crate::store) fn open(
        url: &str,
        migrate: Migrate<'_>,
    ) -> Result<(Self, Prepared), Fault> {
        match url::Scheme::of(url)? {
            #[cfg(feature = "sqlite")]
            url::Scheme::Sqlite => {
                let (database, prepared) = sqlite::SqliteDatabase::open(url, migrate)?;
                Ok((Self::Sqlite(database), prepared))
            }
            #[cfg(not(feature = "sqlite"))]
            url::Scheme::Sqlite => Err(NO_SQLITE),
            #[cfg(feature = "postgres")]
            url::Scheme::Postgres => {
                let server = postgres::PostgresServer::new(url)?;
                let prepared = server.prepare(migrate)?;
                Ok((Self::Postgres(server), prepared))
            }
            #[cfg(not(feature = "postgres"))]
            url::Scheme::Postgres => Err(NO_POSTGRES),
        }
    }

    /// Opens the database of the URL without migrating it, for connections that only read.
    pub(in crate::store) fn open_to_read(url: &str) -> Result<Self, Fault> {
        match url::Scheme::of(url)? {
            #[cfg(feature = "sqlite")]
            url::Scheme::Sqlite => sqlite::SqliteDatabase::open_to_read(url).map(Self::Sqlite),
            #[cfg(not(feature = "sqlite"))]
            url::Scheme::Sqlite => Err(NO_SQLITE),
            #[cfg(feature = "postgres")]
            url::Scheme::Postgres => {
                postgres::PostgresServer::open_to_read(url).map(Self::Postgres)
            }
            #[cfg(not(feature = "postgres"))]
            url::Scheme::Postgres => Err(NO_POSTGRES),
        }
    }

    /// As [`open_to_read`](Self::open_to_read), with connections that cannot write. Of a file that a server owns, too.
    pub(in crate::store) fn open_to_look(url: &str) -> Result<Self, Fault> {
        match url::Scheme::of(url)? {
            #[cfg(feature = "sqlite")]
            url::Scheme::Sqlite => sqlite::SqliteDatabase::open_to_look(url).map(Self::Sqlite),
            _ => Self::open_to_read(url),
        }
    }

    /// Whether a server has SQLite's file now.
    pub(in crate::store) fn is_owned(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(database) => database.is_owned(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => false,
        }
    }

    /// A database on a server that was not reached yet.
    #[cfg(feature = "postgres")]
    pub(in crate::store) fn unreached(url: &str) -> Result<Self, Fault> {
        postgres::PostgresServer::new(url).map(Self::Postgres)
    }

    /// Migrates a database of [`unreached`](Self::unreached).
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "a file is always reachable")
    )]
    pub(in crate::store) fn prepare(&self, migrate: Migrate<'_>) -> Result<Prepared, Fault> {
        match self {
            // A file is always reachable.
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(Prepared::default()),
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.prepare(migrate),
        }
    }

    pub(in crate::store) fn pool(&self, role: Role) -> Result<Pool, Fault> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(database) => database.pool(role).map(Pool::Sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.pool(role).map(Pool::Postgres),
        }
    }

    pub(in crate::store) fn guard(&self) -> Result<Guard, Fault> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(database) => Ok(Guard::Sqlite(database.file()?)),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(Guard::Postgres),
        }
    }

    pub(in crate::store) fn housekeeper(&self) -> Result<Housekeeper, Fault> {
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
pub(in crate::store) enum Pool {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::SqlitePool),
    #[cfg(feature = "postgres")]
    Postgres(postgres::PostgresPool),
}

impl Pool {
    /// Whether other servers may use the database as well.
    pub(in crate::store) fn is_shared(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }

    pub(in crate::store) fn get(&self) -> Result<Pooled, Fault> {
        Ok(match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => Pooled::Sqlite(pool.get()?),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => Pooled::Postgres(pool.get()?),
        })
    }

    /// Reads on a thread of the runtime's blocking pool.
    pub(in crate::store) async fn read<T: Send + 'static>(
        self,
        kind: Query,
        query: impl FnOnce(&mut DbConnection<'_>) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, error::AnyError> {
        let begun = Instant::now();
        let read = tokio::task::spawn_blocking(move || -> Result<T, Fault> {
            let mut pooled = self.get()?;
            Ok(query(&mut pooled.connection())?)
        });
        let read = read.await;
        metrics().database_read(kind).record(begun.elapsed());
        Ok(read??)
    }
}

/// A connection that goes back to its pool.
pub(in crate::store) enum Pooled {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::PooledSqlite),
    #[cfg(feature = "postgres")]
    Postgres(postgres::PooledPostgres),
}

impl Pooled {
    pub(in crate::store) fn connection(&mut self) -> DbConnection<'_> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pooled) => DbConnection::Sqlite(pooled),
            #[cfg(feature = "postgres")]
            Self::Postgres(pooled) => DbConnection::Postgres(pooled),
        }
    }
}

/// A connection to either database. [`on_each_backend`] runs a statement on it.
pub(in crate::store) enum DbConnection<'a> {
    #[cfg(feature = "sqlite")]
    Sqlite(&'a mut SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(&'a mut PgConnection),
}

impl DbConnection<'_> {
    /// Commits all of `body`, or nothing. SQLite's write lock is taken at the start, because a transaction that has
    /// read cannot wait for it.
    pub(in crate::store) fn transaction<T, E: From<diesel::result::Error>>(
        &mut self,
        body: impl FnOnce(&mut DbConnection<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => {
                connection.immediate_transaction(|inner| body(&mut DbConnection::Sqlite(inner)))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => Connection::transaction(*connection, |inner| {
                body(&mut DbConnection::Postgres(inner))
            }),
        }
    }
}

/// Checks that the database is still the one that was opened.
pub(in crate::store) enum Guard {
    #[cfg(feature = "sqlite")]
    Sqlite(database_file::DatabaseFile),
    /// PostgreSQL guards its own files.
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Guard {
    /// # Errors
    /// The fault.
    pub(in crate::store) fn check(&mut self) -> Result<(), Fault> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Ok(file.check()?),
            #[cfg(feature = "postgres")]
            Self::Postgres => Ok(()),
        }
    }
}

/// Work beside the commits.
pub(in crate::store) enum Housekeeper {
    #[cfg(feature = "sqlite")]
    Sqlite(checkpoint::Checkpointer),
    /// PostgreSQL needs none.
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Housekeeper {
    /// Call it after each commit.
    pub(in crate::store) fn committed(&mut self, pooled: &mut Pooled) -> QueryResult<()> {
        match (self, pooled) {
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(checkpointer), Pooled::Sqlite(pooled)) => checkpointer.committed(pooled),
            #[cfg(feature = "postgres")]
            (_, Pooled::Postgres(_)) => Ok(()),
            #[cfg(all(feature = "sqlite", feature = "postgres"))]
            (Self::Postgres, Pooled::Sqlite(_)) => Ok(()),
        }
    }

    /// Moves everything into the database file, so that a copy of this file is complete. Slow: call it when the
    /// writer is idle.
    pub(in crate::store) fn tidy(&mut self, pooled: &mut Pooled) -> QueryResult<()> {
        match (self, pooled) {
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(checkpointer), Pooled::Sqlite(pooled)) => checkpointer.tidy(pooled),
            #[cfg(feature = "postgres")]
            (_, Pooled::Postgres(_)) => Ok(()),
            #[cfg(all(feature = "sqlite", feature = "postgres"))]
            (Self::Postgres, Pooled::Sqlite(_)) => Ok(()),
        }
    }
}

/// Compiles one body for the typed connection of each database. Diesel's `MultiConnection` does not compile for
/// batches, conflicts and `RETURNING`. Functions generic over the connection need pages of bounds.
macro_rules! on_each_backend {
    ($connection:expr, |$typed:ident| $body:expr) => {
        match $connection {
            #[cfg(feature = "sqlite")]
            $crate::store::backend::DbConnection::Sqlite(connection) => {
                let $typed = &mut **connection;
                $body
            }
            #[cfg(feature = "postgres")]
            $crate::store::backend::DbConnection::Postgres(connection) => {
                let $typed = &mut **connection;
                $body
            }
        }
    };
}
pub(in crate::store) use on_each_backend;
