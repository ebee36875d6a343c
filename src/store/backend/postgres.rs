//! PostgreSQL: a server that several Slackirs may share. TLS is libpq's `sslmode`.
//!
//! PgBouncer may give each transaction another session. So nothing here outlives a transaction: no lock, no
//! setting, no prepared statement.

use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::{CacheSize, SimpleConnection};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection};
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use crate::store::backend::Fault;
use crate::store::backend::Migrate;
use crate::store::backend::Prepared;
use crate::store::backend::url::PostgresUrl;
use crate::store::backend::{self, Role};

/// The advisory lock of Slackir's migrations: "slackir" in ASCII.
const MIGRATION_LOCK: i64 = 0x0073_6c61_636b_6972;
/// The longest wait of a start for each lock, unless the URL's options set a `lock_timeout`.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// The wait between two tries to get the migration lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

pub(in crate::store) type PostgresPool = r2d2::Pool<ConnectionManager<PgConnection>>;
pub(in crate::store) type PooledPostgres = r2d2::PooledConnection<ConnectionManager<PgConnection>>;

/// A database, reached or not.
pub(in crate::store) struct PostgresServer {
    url: PostgresUrl,
}

impl PostgresServer {
    pub(in crate::store) fn new(url: &str) -> Result<Self, Fault> {
        Ok(Self {
            url: PostgresUrl::parse(url)?,
        })
    }

    /// Checks that the database can be used, and migrates it.
    pub(in crate::store) fn prepare(&self, run: Migrate<'_>) -> Result<Prepared, Fault> {
        let mut connection = self.connect()?;
        check_encoding(&mut connection)?;
        migrate(&mut connection, run)
    }

    /// For a database that is migrated already.
    pub(in crate::store) fn open_to_read(url: &str) -> Result<Self, Fault> {
        let server = Self::new(url)?;
        server.connect()?;
        Ok(server)
    }

    /// A connection outside any pool. Its errors hold no password.
    fn connect(&self) -> Result<PgConnection, Fault> {
        let mut connection = PgConnection::establish(&self.url.connection_string)
            .map_err(|error| connection_error(self.url.redact(&error.to_string())))?;
        connection.set_prepared_statement_cache_size(CacheSize::Disabled);
        Ok(connection)
    }

    pub(in crate::store) fn pool(&self, role: Role) -> Result<PostgresPool, Fault> {
        let manager = ConnectionManager::new(&self.url.connection_string);
        let pool = role
            .pool()
            // None is opened in the background: a process that ends meanwhile can crash in libpq's own clean-up.
            .min_idle(Some(0))
            // A restarted server has closed the connections of the pool.
            .test_on_check_out(true)
            .connection_customizer(Box::new(Unprepared))
            .build_unchecked(manager);
        Ok(pool)
    }
}

/// Turns prepared statements off: PgBouncer's next session lacks them, or has those of another client.
#[derive(Debug)]
struct Unprepared;

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Unprepared {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        connection.set_prepared_statement_cache_size(CacheSize::Disabled);
        Ok(())
    }
}

/// Why a connection failed: the server refuses it, or is unreachable or not ready yet.
///
/// The text decides, because there is no code: diesel 2.3.14 gives libpq's text (`ConnectionError::BadConnection`),
/// and libpq has no function for the SQLSTATE of a failed connection. If the server's `lc_messages` has other words
/// for these, a refusal counts as unreachable, and the server waits for its database instead of stopping.
fn connection_error(message: String) -> Fault {
    let is_answer = message.contains("FATAL");
    let not_ready = ["starting up", "shutting down", "in recovery"];
    if is_answer && !not_ready.iter().any(|reason| message.contains(reason)) {
        Fault::Connect(message)
    } else {
        Fault::Unreachable(message)
    }
}

/// Refuses an encoding that cannot hold every text: single messages would fail much later.
fn check_encoding(connection: &mut PgConnection) -> Result<(), Fault> {
    let encoding: String = diesel::select(diesel::dsl::sql::<Text>(
        "current_setting('server_encoding')",
    ))
    .get_result(connection)?;
    match &*encoding {
        "UTF8" | "SQL_ASCII" => Ok(()),
        _ => Err(Fault::Encoding(encoding)),
    }
}

/// Migrates. Only one server does so at a time; the others wait. PostgreSQL releases each lock with the transaction,
/// even if this server is killed.
fn migrate(connection: &mut PgConnection, run: Migrate<'_>) -> Result<Prepared, Fault> {
    let patience = lock_patience(connection)?;
    let asked = Instant::now();
    let mut waiting = false;
    loop {
        let tried = Instant::now();
        let done = connection.transaction(|connection| attempt(connection, patience, run));
        match done {
            Ok(Some(prepared)) => return Ok(prepared),
            Ok(None) if asked.elapsed() < patience => {
                if !std::mem::replace(&mut waiting, true) {
                    tracing::info!("store.migrate.waiting");
                }
                thread::sleep(LOCK_PAUSE);
            }
            Ok(None) => {
                let held = "the lock of slackir's migrations";
                let holder = holder(connection)?.unwrap_or_else(|| "nobody any more".to_owned());
                return Err(held_by(held, patience, holder));
            }
            Err(error) if tried.elapsed() < patience => return Err(error),
            Err(error) => {
                return Err(match holder(connection)? {
                    Some(holder) => held_by("a table", patience, holder),
                    None => error,
                });
            }
        }
    }
}

/// One attempt. `None` if another server migrates.
fn attempt(
    connection: &mut PgConnection,
    patience: Duration,
    run: Migrate<'_>,
) -> Result<Option<Prepared>, Fault> {
    let got: bool = diesel::select(
        diesel::dsl::sql::<Bool>("pg_try_advisory_xact_lock(")
            .bind::<BigInt, _>(MIGRATION_LOCK)
            .sql(")"),
    )
    .get_result(connection)?;
    if !got {
        return Ok(None);
    }
    let timeout = format!("SET LOCAL lock_timeout = {}", patience.as_millis());
    connection.batch_execute(&timeout)?;
    run(&mut backend::DbConnection::Postgres(connection)).map(Some)
}

fn lock_patience(connection: &mut PgConnection) -> QueryResult<Duration> {
    let millis: i64 = diesel::select(diesel::dsl::sql::<BigInt>(
        "(SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout')",
    ))
    .get_result(connection)?;
    Ok(match u64::try_from(millis) {
        Ok(0) | Err(_) => LOCK_PATIENCE,
        Ok(millis) => Duration::from_millis(millis),
    })
}

fn held_by(held: &'static str, patience: Duration, holder: String) -> Fault {
    Fault::Held {
        held,
        seconds: patience.as_secs(),
        holder,
    }
}

/// The holder of the migration lock or of a lock on the tables.
fn holder(connection: &mut PgConnection) -> QueryResult<Option<String>> {
    #[derive(QueryableByName)]
    struct LockHolder {
        #[diesel(sql_type = Nullable<Text>)]
        holder: Option<String>,
    }
    let holder: LockHolder = diesel::sql_query(
        "SELECT string_agg(concat_ws(', ', 'process ' || pid, 'user ' || usename, \
             nullif(application_name, ''), 'from ' || host(client_addr), \
             state || ' since ' || date_trunc('second', state_change)), '; ') AS holder \
         FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid IN ( \
             SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database \
             WHERE granted AND datname = current_database() AND ( \
                 locktype = 'advisory' AND objsubid = 1 \
                     AND classid::bigint << 32 | objid::bigint = $1 \
                 OR locktype = 'relation' \
                     AND relation IN (to_regclass('messages'), to_regclass('topics'))))",
    )
    .bind::<BigInt, _>(MIGRATION_LOCK)
    .get_result(connection)?;
    Ok(holder.holder)
}
