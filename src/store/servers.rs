//! [`Servers`]: the servers that share a PostgreSQL database.
//!
//! Two servers on one database do not see each other's messages and give the same seqs. So each server writes a
//! heartbeat into the table `servers` and reads the heartbeats of the others. Unlike a lock, a row needs no session
//! of its own and works through PgBouncer. A SQLite file is locked by its one server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::metrics::metrics;
use crate::store::backend::{DbConnection, Pool};
use crate::store::tables::run;
use crate::store::{DbWriterHandle, Store, StoreError};

/// The time between two heartbeats.
const BEAT: Duration = Duration::from_secs(2);
/// How long a heartbeat is valid, as PostgreSQL writes it: five heartbeats.
#[cfg(feature = "postgres")]
const LIFE: &str = "interval '10 seconds'";
/// The longest wait for the last statement.
const LAST_BEAT: Duration = Duration::from_secs(2);

/// Looks for other servers on the database until it is dropped.
#[must_use = "other servers do not see this one after it is dropped"]
pub struct Servers {
    pool: Pool,
    id: i64,
    others: OtherServers,
    task: JoinHandle<()>,
}

named_debug!(Servers);

/// The names of the other servers, as of the last heartbeat. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct OtherServers(Arc<Mutex<Vec<String>>>);

impl Servers {
    /// Shows this server to the others under `name`, and looks for them, every two seconds on the current thread's
    /// runtime. `None` for SQLite.
    pub fn start(writer: &DbWriterHandle, name: String) -> Option<Self> {
        let pool = writer.readers().clone();
        if !pool.is_shared() {
            return None;
        }
        let id = run::random();
        let others = OtherServers::default();
        let task = actix_rt::spawn(beats(pool.clone(), id, name, others.clone()));
        Some(Self {
            pool,
            id,
            others,
            task,
        })
    }

    /// The other servers.
    pub fn others(&self) -> OtherServers {
        self.others.clone()
    }

    /// Removes this server's heartbeat. Without this the others notice after ten seconds.
    pub async fn leave(self) {
        self.task.abort();
        let id = self.id;
        let left = self
            .pool
            .clone()
            .read(move |connection| leave(connection, id));
        // If the database is unreachable, the heartbeat expires.
        let _ = tokio::time::timeout(LAST_BEAT, left).await;
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OtherServers {
    /// The names of the other servers.
    pub fn names(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, names: Vec<String>) {
        metrics().other_servers.set(names.len() as f64);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == names {
            return;
        }
        if names.is_empty() {
            tracing::info!("store.servers.alone");
        } else {
            tracing::warn!(
                others = names.join("; "),
                "store.servers.shared: another server uses this database; neither's clients see the \
                 other's messages"
            );
        }
        *known = names;
    }
}

async fn beats(pool: Pool, id: i64, name: String, others: OtherServers) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let name = name.clone();
        let seen = pool
            .clone()
            .read(move |connection| beat(connection, id, &name));
        match seen.await {
            Ok(names) => others.set(names),
            // The writer logs the failure.
            Err(error) => tracing::debug!(%error, "store.servers.unseen"),
        }
    }
}

/// Writes the heartbeat. Returns the names of the other servers.
fn beat(
    connection: &mut DbConnection<'_>,
    id: i64,
    name: &str,
) -> diesel::QueryResult<Vec<String>> {
    match (connection, id, name) {
        #[cfg(feature = "sqlite")]
        (DbConnection::Sqlite(_), ..) => Ok(Vec::new()),
        #[cfg(feature = "postgres")]
        (DbConnection::Postgres(connection), id, name) => postgres::beat(connection, id, name),
    }
}

fn leave(connection: &mut DbConnection<'_>, id: i64) -> diesel::QueryResult<()> {
    match (connection, id) {
        #[cfg(feature = "sqlite")]
        (DbConnection::Sqlite(_), _) => Ok(()),
        #[cfg(feature = "postgres")]
        (DbConnection::Postgres(connection), id) => postgres::leave(connection, id),
    }
}

impl Store {
    /// Refuses a database that a live server uses, because the server's memory would not have the changes of this
    /// process. (A SQLite file in use cannot be opened.)
    ///
    /// # Errors
    /// If there is a live server, or the database cannot be read.
    pub fn check_unused(&self) -> Result<(), StoreError> {
        let mut pooled = self.readers.get()?;
        match living(&mut pooled.connection())?.into_iter().next() {
            Some(server) => Err(StoreError::Shared(server)),
            None => Ok(()),
        }
    }
}

/// The names of the live servers.
fn living(connection: &mut DbConnection<'_>) -> diesel::QueryResult<Vec<String>> {
    match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => Ok(Vec::new()),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(connection) => postgres::others(connection, 0),
    }
}

/// Only PostgreSQL has the table `servers`, so it is not in the schema. All times come from the database's clock.
#[cfg(feature = "postgres")]
mod postgres {
    use diesel::prelude::*;
    use diesel::sql_types::{BigInt, Text};

    use super::LIFE;

    #[derive(QueryableByName)]
    struct Other {
        #[diesel(sql_type = Text)]
        name: String,
    }

    pub(in crate::store) fn beat(
        connection: &mut PgConnection,
        id: i64,
        name: &str,
    ) -> QueryResult<Vec<String>> {
        let alive = "INSERT INTO servers (id, name, seen_at) VALUES ($1, $2, clock_timestamp()) \
                     ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at";
        diesel::sql_query(alive)
            .bind::<BigInt, _>(id)
            .bind::<Text, _>(name)
            .execute(connection)?;
        let dead = "DELETE FROM servers WHERE seen_at < clock_timestamp() - interval '1 hour'";
        diesel::sql_query(dead).execute(connection)?;
        others(connection, id)
    }

    pub(in crate::store) fn others(
        connection: &mut PgConnection,
        id: i64,
    ) -> QueryResult<Vec<String>> {
        let others = format!(
            "SELECT name FROM servers WHERE id <> $1 AND seen_at > clock_timestamp() - {LIFE} \
             ORDER BY name"
        );
        let others = diesel::sql_query(others).bind::<BigInt, _>(id);
        let others: Vec<Other> = others.load(connection)?;
        Ok(others.into_iter().map(|other| other.name).collect())
    }

    pub(in crate::store) fn leave(connection: &mut PgConnection, id: i64) -> QueryResult<()> {
        let gone = diesel::sql_query("DELETE FROM servers WHERE id = $1");
        gone.bind::<BigInt, _>(id).execute(connection).map(drop)
    }
}
