//! [`Servers`]: who else uses a PostgreSQL database.
//!
//! Two servers on one database do not hear each other, and give out the same seqs. Each leaves a sign of
//! life in the table `servers`, as rows that need no session of their own, so that it works through
//! PgBouncer; each looks for those of others. A SQLite file is locked by its one server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::backend::{Connection, Pool};
use super::{DbWriterHandle, Store, StoreError, run};
use crate::metrics::metrics;

/// How often a server shows that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// How long a sign of life counts, in PostgreSQL's words: five beats.
#[cfg(feature = "postgres")]
const LIFE: &str = "interval '10 seconds'";
/// How long the end may take.
const LAST_BEAT: Duration = Duration::from_secs(2);

/// The other servers of the database. It looks for them until it is dropped.
#[must_use = "others do not see a server without it"]
pub struct Servers {
    pool: Pool,
    id: i64,
    others: OtherServers,
    task: JoinHandle<()>,
}

named_debug!(Servers);

/// The names of the other servers that were seen last. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct OtherServers(Arc<Mutex<Vec<String>>>);

impl Servers {
    /// Shows this server to others under `name`, and looks for them, every two seconds on the current
    /// thread's runtime. `None` for SQLite.
    pub fn start(writer: &DbWriterHandle, name: String) -> Option<Self> {
        let pool = writer.readers().clone();
        if !pool.is_shared() {
            return None;
        }
        let id = run::new_epoch();
        let others = OtherServers::default();
        let task = actix_rt::spawn(beats(pool.clone(), id, name, others.clone()));
        Some(Self {
            pool,
            id,
            others,
            task,
        })
    }

    /// The others.
    pub fn others(&self) -> OtherServers {
        self.others.clone()
    }

    /// Tells the others that this server is gone. Without it they notice after ten seconds.
    pub async fn leave(self) {
        self.task.abort();
        let id = self.id;
        let left = self
            .pool
            .clone()
            .read(move |connection| leave(connection, id));
        // A database that is away learns it by the silence.
        let _ = tokio::time::timeout(LAST_BEAT, left).await;
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OtherServers {
    /// Their names.
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
            // The writer says it louder.
            Err(error) => tracing::debug!(%error, "store.servers.unseen"),
        }
    }
}

/// Shows this server; the names of the others.
fn beat(connection: &mut Connection<'_>, id: i64, name: &str) -> diesel::QueryResult<Vec<String>> {
    match (connection, id, name) {
        #[cfg(feature = "sqlite")]
        (Connection::Sqlite(_), ..) => Ok(Vec::new()),
        #[cfg(feature = "postgres")]
        (Connection::Postgres(connection), id, name) => postgres::beat(connection, id, name),
    }
}

fn leave(connection: &mut Connection<'_>, id: i64) -> diesel::QueryResult<()> {
    match (connection, id) {
        #[cfg(feature = "sqlite")]
        (Connection::Sqlite(_), _) => Ok(()),
        #[cfg(feature = "postgres")]
        (Connection::Postgres(connection), id) => postgres::leave(connection, id),
    }
}

impl Store {
    /// Refuses a database that a server uses, which would not learn what is changed in it. (A SQLite file
    /// cannot be opened then.)
    ///
    /// # Errors
    /// When a server lives, or the database cannot be read.
    pub fn check_unused(&self) -> Result<(), StoreError> {
        let mut pooled = self.readers.get()?;
        match living(&mut pooled.connection())?.into_iter().next() {
            Some(server) => Err(StoreError::Shared(server)),
            None => Ok(()),
        }
    }
}

/// The names of the servers that live.
fn living(connection: &mut Connection<'_>) -> diesel::QueryResult<Vec<String>> {
    match connection {
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(_) => Ok(Vec::new()),
        #[cfg(feature = "postgres")]
        Connection::Postgres(connection) => postgres::others(connection, 0),
    }
}

/// The table is PostgreSQL's alone, and so is not in the schema. The clock is the database's.
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

    pub(super) fn beat(
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

    pub(super) fn others(connection: &mut PgConnection, id: i64) -> QueryResult<Vec<String>> {
        let others = format!(
            "SELECT name FROM servers WHERE id <> $1 AND seen_at > clock_timestamp() - {LIFE} \
             ORDER BY name"
        );
        let others = diesel::sql_query(others).bind::<BigInt, _>(id);
        let others: Vec<Other> = others.load(connection)?;
        Ok(others.into_iter().map(|other| other.name).collect())
    }

    pub(super) fn leave(connection: &mut PgConnection, id: i64) -> QueryResult<()> {
        let gone = diesel::sql_query("DELETE FROM servers WHERE id = $1");
        gone.bind::<BigInt, _>(id).execute(connection).map(drop)
    }
}
