//! PostgreSQL: a server, which several Slackirs may share. TLS to it is libpq's `sslmode`.

use diesel::prelude::*;
use diesel::r2d2::ConnectionManager;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::StoreError;
use super::backend::Role;
use super::url::PostgresUrl;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgresql");

/// Names the migrations of Slackir among the advisory locks of a database: "slackir" in ASCII.
const MIGRATION_LOCK: i64 = 0x0073_6c61_636b_6972;

pub(super) type Pool = r2d2::Pool<ConnectionManager<PgConnection>>;
pub(super) type Pooled = r2d2::PooledConnection<ConnectionManager<PgConnection>>;

/// A database, reached or not.
pub(super) struct Server {
    url: PostgresUrl,
}

impl Server {
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        Ok(Self {
            url: PostgresUrl::parse(url)?,
        })
    }

    /// Checks that the database can be used, and runs the migrations that it lacks; their names.
    pub(super) fn prepare(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = PgConnection::establish(&self.url.connection_string)
            .map_err(|error| refused(self.url.redact(&error.to_string())))?;
        check_encoding(&mut connection)?;
        let applied = migrate(&mut connection)?;
        check_writable(&mut connection)?;
        Ok(applied)
    }

    /// A database that somebody else has migrated.
    pub(super) fn open_to_read(url: &str) -> Result<Self, StoreError> {
        let url = PostgresUrl::parse(url)?;
        Ok(Self { url })
    }

    pub(super) fn pool(&self, role: Role) -> Result<Pool, StoreError> {
        let manager = ConnectionManager::new(&self.url.connection_string);
        let pool = role
            .pool()
            // A server that was restarted has closed the connections of the pool.
            .test_on_check_out(true)
            .build_unchecked(manager);
        Ok(pool)
    }
}

/// A server that says no is there; one that says nothing, or that it is not there yet, is away.
fn refused(message: String) -> StoreError {
    // The severity with which PostgreSQL refuses a connection, in every language.
    let answered = message.contains("FATAL");
    let not_now = ["starting up", "shutting down", "in recovery"];
    if answered && !not_now.iter().any(|reason| message.contains(reason)) {
        StoreError::Connect(message)
    } else {
        StoreError::Unreachable(message)
    }
}

/// Another encoding than UTF-8 would refuse some messages, one by one and much later.
fn check_encoding(connection: &mut PgConnection) -> Result<(), StoreError> {
    let encoding: String = diesel::select(diesel::dsl::sql::<Text>(
        "current_setting('server_encoding')",
    ))
    .get_result(connection)?;
    match &*encoding {
        "UTF8" | "SQL_ASCII" => Ok(()),
        _ => Err(StoreError::Encoding(encoding)),
    }
}

/// One server at a time: those that start together wait for the first. The lock ends with this
/// connection, which nothing else uses.
fn migrate(connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    let got: bool = diesel::select(
        diesel::dsl::sql::<Bool>("pg_try_advisory_lock(")
            .bind::<BigInt, _>(MIGRATION_LOCK)
            .sql(")"),
    )
    .get_result(connection)?;
    if !got {
        tracing::info!("store.migrate.waiting");
        diesel::sql_query("SELECT pg_advisory_lock($1)")
            .bind::<BigInt, _>(MIGRATION_LOCK)
            .execute(connection)?;
    }
    let applied = connection
        .run_pending_migrations(MIGRATIONS)
        .map_err(StoreError::Migration)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

/// A server that only follows another, and a user who may only read, would take no message.
fn check_writable(connection: &mut PgConnection) -> QueryResult<()> {
    diesel::sql_query("UPDATE messages SET seq = seq WHERE FALSE").execute(connection)?;
    diesel::sql_query("INSERT INTO messages SELECT * FROM messages WHERE FALSE")
        .execute(connection)?;
    Ok(())
}
