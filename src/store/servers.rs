//! [`Servers`]: the servers that share a PostgreSQL database.
//!
//! Two servers on one database do not see each other's messages and give the same seqs. So each server writes a
//! heartbeat into the table `servers` and reads the heartbeats of the others. Unlike a lock, a row needs no session
//! of its own and works through PgBouncer. A SQLite file is locked by its one server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::metrics::{Query, metrics};
use crate::store::backend::{DbConnection, Fault, Pool, StoreError};
use crate::store::opened::Store;
use crate::store::tables::run;
use crate::store::write::{DbWriterHandle, StorageState};

/// The time between two heartbeats of a server alone.
const BEAT: Duration = Duration::from_secs(2);
/// The time between two heartbeats of a node of a cluster.
const NODE_BEAT: Duration = Duration::from_secs(1);
/// The same while others wait for what it says.
const HURRIED_BEAT: Duration = Duration::from_millis(250);
/// How often a node looks whether its heartbeat has something new to say.
const NEWS: Duration = Duration::from_millis(100);
/// How long a node that has not reached its bus yet shows nobody that it lives: the others would wait for it.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a heartbeat is valid, as PostgreSQL writes it: five heartbeats.
#[cfg(feature = "postgres")]
const LIFE: &str = "interval '10 seconds'";
/// The same for a node, for the other nodes.
const NODE_LIFE: Duration = Duration::from_secs(10);
/// A node whose heartbeat is not older than this is no dead one.
const LIVES: Duration = Duration::from_secs(3);
/// How long another node may live before it is heard over the bus.
const UNHEARD: Duration = Duration::from_secs(6);
/// The longest wait for the last statement.
const LAST_BEAT: Duration = Duration::from_secs(2);

/// Looks for other servers on the database until it is dropped.
#[must_use = "other servers do not see this one after it is dropped"]
pub(crate) struct Servers {
    pool: Pool,
    id: i64,
    others: OtherServers,
    seat: Option<Arc<ClusterSeat>>,
    task: JoinHandle<()>,
}

named_debug!(Servers);

/// The other servers, as of the last heartbeat. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtherServers(Arc<Mutex<Seen>>);

/// What a heartbeat has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The names of the servers that are no nodes of this server's cluster.
    strangers: Vec<String>,
    /// The other nodes of the cluster.
    nodes: Vec<SeenServer>,
    /// When the database was read.
    read_at: Option<Instant>,
}

/// Another node of the cluster, as its row shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenServer {
    /// The number of the node.
    pub id: i64,
    /// The name of the server.
    pub name: String,
    /// The time of its last sign of life, in microseconds of the database's clock.
    pub seen_at: i64,
    /// How long ago that was.
    pub age: Duration,
    /// Whether it reaches the bus.
    pub bus_is_up: bool,
    /// Whether it has messages that it cannot save at the moment, or that come late.
    pub is_behind: bool,
}

/// Hears of the other nodes of the cluster, and whether this one is behind.
pub(crate) type OnSeen = Box<dyn Fn(&[SeenServer], bool) + Send + Sync>;

/// What a node says of itself. It is asked on the thread that writes the heartbeat, too.
pub(crate) type Said<T> = Box<dyn Fn() -> T + Send + Sync>;

/// The cluster of a server, for [`Servers::start`].
pub(crate) struct ClusterSeat {
    /// The name of the cluster.
    pub cluster: String,
    /// The product that its nodes talk over, as sentences name it.
    pub bus: &'static str,
    /// The number of this node.
    pub id: i64,
    /// Whether this node reaches the cluster's bus, and has told over it what it has committed.
    pub bus_is_up: Said<bool>,
    /// How long this node has not reached the bus, and how often it had come to it.
    pub bus_away: Said<(Duration, i64)>,
    /// Whether the node with this number was heard over the bus.
    pub hears: Box<dyn Fn(i64) -> bool + Send + Sync>,
    /// Whether the others must look for what this node has committed.
    pub owes: Said<bool>,
    /// Whether messages of this node may come late to the database, although it can save.
    pub is_behind: Said<bool>,
    /// Whether heartbeats should come four times a second.
    pub hurries: Said<bool>,
    /// Called after each heartbeat: each second, and when `bus_is_up` has changed.
    pub seen: OnSeen,
}

named_debug!(ClusterSeat, cluster);

impl Servers {
    /// Shows this server to the others under `name`, and looks for them, every two seconds (a node: every second) on the
    /// current thread's runtime. Nodes of its own cluster are no others. `None` for SQLite.
    pub(crate) fn start(
        writer: &DbWriterHandle,
        name: String,
        seat: Option<ClusterSeat>,
    ) -> Option<Self> {
        let pool = writer.readers().clone();
        if !pool.is_shared() {
            return None;
        }
        let id = seat.as_ref().map_or_else(run::random, |seat| seat.id);
        let others = OtherServers::default();
        let me = Heartbeat {
            id,
            name,
            cluster: seat.as_ref().map(|seat| seat.cluster.clone()),
            bus_is_up: false,
            bus_away: (Duration::ZERO, 0),
            is_behind: false,
        };
        let seat = seat.map(Arc::new);
        let beats = beats(writer.clone(), me, seat.clone(), others.clone());
        let task = actix_rt::spawn(beats);
        Some(Self {
            pool,
            id,
            others,
            seat,
            task,
        })
    }

    /// The other servers.
    pub(crate) fn others(&self) -> OtherServers {
        self.others.clone()
    }

    /// Removes this server's heartbeat. Without this the others notice after ten seconds.
    pub(crate) async fn leave(self) {
        self.task.abort();
        if self.seat.as_ref().is_some_and(|seat| (seat.owes)()) {
            // They look when its heartbeat has expired.
            return;
        }
        let id = self.id;
        let left = self
            .pool
            .clone()
            .read(Query::Other, move |connection| leave(connection, id));
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
    pub(crate) fn names(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .strangers
            .clone()
    }

    /// Whether another node of this server's cluster reaches the bus, as of the last heartbeat. Without the database
    /// nobody knows for long.
    pub(crate) fn reach_the_bus(&self) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = seen.read_at.map_or(NODE_LIFE, |read_at| read_at.elapsed());
        let mut nodes = seen.nodes.iter();
        nodes.any(|node| node.bus_is_up && node.age + since < NODE_LIFE)
    }

    fn set(&self, seen: Seen) {
        let names = &seen.strangers;
        metrics().other_servers.set(names.len() as f64);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.strangers == *names {
            *known = seen;
            return;
        }
        if names.is_empty() {
            tracing::info!("store.servers.alone");
        } else {
            tracing::warn!(
                others = names.join("; "),
                "store.servers.shared: another server uses this database, and its clients do not hear \
                 those of this one: end it, or give both one redis_url or nats_url"
            );
        }
        *known = seen;
    }
}

/// What a server writes of itself.
#[derive(Clone)]
struct Heartbeat {
    id: i64,
    name: String,
    cluster: Option<String>,
    bus_is_up: bool,
    /// See [`ClusterSeat::bus_away`].
    bus_away: (Duration, i64),
    is_behind: bool,
}

impl Heartbeat {
    /// Brings it up to date.
    fn ask(&mut self, writer: &DbWriterHandle, seat: Option<&ClusterSeat>) {
        self.is_behind = writer.state() != StorageState::Available;
        if let Some(seat) = seat {
            self.bus_is_up = (seat.bus_is_up)();
            self.bus_away = (seat.bus_away)();
            self.is_behind |= (seat.is_behind)();
        }
    }
}

async fn beats(
    writer: DbWriterHandle,
    mut me: Heartbeat,
    seat: Option<Arc<ClusterSeat>>,
    others: OtherServers,
) {
    if let Some(seat) = &seat {
        let begun = Instant::now();
        while !(seat.bus_is_up)() && begun.elapsed() < SILENCE {
            tokio::time::sleep(NEWS).await;
        }
    }
    let mut unheard = Unheard::default();
    loop {
        let begun = Instant::now();
        me.ask(&writer, seat.as_deref());
        let mut beaten = me.clone();
        let (asked, seated) = (writer.clone(), seat.clone());
        let readers = writer.readers().clone();
        let seen = readers.read(Query::Other, move |connection| {
            // The database may have been away until now, and the node behind since.
            beaten.ask(&asked, seated.as_deref());
            let seen = beat(connection, &beaten)?;
            Ok((beaten, seen))
        });
        match seen.await {
            Ok((beaten, mut seen)) => {
                me = beaten;
                if let Some(seat) = &seat {
                    (seat.seen)(&seen.nodes, me.is_behind);
                    seen.strangers.extend(unheard.of(&seen.nodes, seat));
                }
                others.set(seen);
            }
            // The writer logs the failure.
            Err(error) => tracing::debug!(%error, "store.servers.unseen"),
        }
        wait(begun, me.bus_is_up, seat.as_deref()).await;
    }
}

/// Nodes of the cluster that say in the database that they reach the bus, and are not heard there: their bus is another.
#[derive(Default)]
struct Unheard(HashMap<i64, Instant>);

impl Unheard {
    /// The names of those that were not heard for long.
    fn of(&mut self, nodes: &[SeenServer], seat: &ClusterSeat) -> Vec<String> {
        let is_unheard = |node: &&SeenServer| {
            node.bus_is_up && node.age < LIVES && (seat.bus_is_up)() && !(seat.hears)(node.id)
        };
        let unheard: Vec<_> = nodes.iter().filter(is_unheard).collect();
        self.0
            .retain(|id, _| unheard.iter().any(|node| node.id == *id));
        let mut names = Vec::new();
        for node in unheard {
            let since = self.0.entry(node.id).or_insert_with(Instant::now);
            if since.elapsed() >= UNHEARD {
                names.push(format!("{} over another {}", node.name, seat.bus));
            }
        }
        names
    }
}

/// Waits for the time of the next heartbeat. A node's is due at once when it has lost its bus, or has it again.
async fn wait(begun: Instant, was_up: bool, seat: Option<&ClusterSeat>) {
    let Some(seat) = seat else {
        return tokio::time::sleep(BEAT.saturating_sub(begun.elapsed())).await;
    };
    loop {
        tokio::time::sleep(NEWS).await;
        let beat = if (seat.hurries)() {
            HURRIED_BEAT
        } else {
            NODE_BEAT
        };
        if begun.elapsed() >= beat || (seat.bus_is_up)() != was_up {
            return;
        }
    }
}

/// Writes the heartbeat. Returns what it shows of the other servers.
fn beat(connection: &mut DbConnection<'_>, me: &Heartbeat) -> diesel::QueryResult<Seen> {
    match (connection, me) {
        #[cfg(feature = "sqlite")]
        (DbConnection::Sqlite(_), _) => Ok(Seen::default()),
        #[cfg(feature = "postgres")]
        (DbConnection::Postgres(connection), me) => postgres::beat(connection, me),
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

impl DbWriterHandle {
    /// The other nodes of the cluster, living and dead. None if the database is away.
    pub(crate) async fn nodes(&self, cluster: &str) -> Vec<SeenServer> {
        let cluster = cluster.to_owned();
        let nodes = self.look(Query::Other, move |connection| nodes(connection, &cluster));
        nodes.await.unwrap_or_default()
    }

    /// The name of a live server on the database with which a node of this cluster must not share it, or a server alone
    /// with a cluster. `None` if there is none, and for SQLite.
    pub(crate) async fn stranger(&self, cluster: Option<String>) -> Option<String> {
        let strangers = self.look(Query::Other, move |connection| {
            strangers(connection, cluster.as_deref())
        });
        // The start does not wait for a database that is away.
        strangers.await.ok()?.into_iter().next()
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
        let living = living(&mut pooled.connection()).map_err(Fault::from)?;
        match living.into_iter().next() {
            Some(server) => Err(Fault::Shared(server).into()),
            None => Ok(()),
        }
    }
}

/// The names of the live servers that are in a cluster while this one is not, or in another one.
fn strangers(
    connection: &mut DbConnection<'_>,
    cluster: Option<&str>,
) -> diesel::QueryResult<Vec<String>> {
    match (connection, cluster) {
        #[cfg(feature = "sqlite")]
        (DbConnection::Sqlite(_), _) => Ok(Vec::new()),
        #[cfg(feature = "postgres")]
        (DbConnection::Postgres(connection), cluster) => postgres::strangers(connection, cluster),
    }
}

/// The nodes of a cluster.
fn nodes(connection: &mut DbConnection<'_>, cluster: &str) -> diesel::QueryResult<Vec<SeenServer>> {
    match (connection, cluster) {
        #[cfg(feature = "sqlite")]
        (DbConnection::Sqlite(_), _) => Ok(Vec::new()),
        #[cfg(feature = "postgres")]
        (DbConnection::Postgres(connection), cluster) => postgres::nodes(connection, 0, cluster),
    }
}

/// The names of the live servers.
fn living(connection: &mut DbConnection<'_>) -> diesel::QueryResult<Vec<String>> {
    match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => Ok(Vec::new()),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(connection) => postgres::others(connection, 0, None),
    }
}

/// Only PostgreSQL has the table `servers`, so it is not in the schema. All times come from the database's clock.
#[cfg(feature = "postgres")]
mod postgres {
    use diesel::prelude::*;
    use diesel::sql_types::{BigInt, Bool, Nullable, Text};

    use std::time::{Duration, Instant};

    use super::{Heartbeat, LIFE, Seen, SeenServer};

    #[derive(QueryableByName)]
    struct Other {
        #[diesel(sql_type = Text)]
        name: String,
    }

    pub(in crate::store) fn beat(
        connection: &mut PgConnection,
        me: &Heartbeat,
    ) -> QueryResult<Seen> {
        // A node that has come to the bus meanwhile has said so already.
        let alive = "INSERT INTO servers \
                     (id, name, cluster, bus_up, bus_away_ms, entrances, behind, seen_at) \
                     VALUES ($1, $2, $3, $4, $6, $7, $5, clock_timestamp()) \
                     ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, \
                     name = excluded.name, behind = excluded.behind, \
                     bus_up = CASE WHEN servers.entrances > excluded.entrances \
                     THEN servers.bus_up ELSE excluded.bus_up END, \
                     bus_away_ms = CASE WHEN servers.entrances > excluded.entrances \
                     THEN servers.bus_away_ms ELSE excluded.bus_away_ms END";
        let (away, entrances) = me.bus_away;
        let away = i64::try_from(away.as_millis()).unwrap_or(i64::MAX);
        diesel::sql_query(alive)
            .bind::<BigInt, _>(me.id)
            .bind::<Text, _>(&me.name)
            .bind::<Nullable<Text>, _>(&me.cluster)
            .bind::<Bool, _>(me.bus_is_up)
            .bind::<Bool, _>(me.is_behind)
            .bind::<BigInt, _>(away)
            .bind::<BigInt, _>(entrances)
            .execute(connection)?;
        let dead = "DELETE FROM servers WHERE seen_at < clock_timestamp() - interval '1 hour'";
        diesel::sql_query(dead).execute(connection)?;
        Ok(Seen {
            strangers: others(connection, me.id, me.cluster.as_deref())?,
            nodes: match &me.cluster {
                Some(cluster) => nodes(connection, me.id, cluster)?,
                None => Vec::new(),
            },
            read_at: Some(Instant::now()),
        })
    }

    #[derive(QueryableByName)]
    struct Node {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = BigInt)]
        seen_at: i64,
        #[diesel(sql_type = BigInt)]
        age: i64,
        #[diesel(sql_type = Bool)]
        bus_up: bool,
        #[diesel(sql_type = Bool)]
        behind: bool,
    }

    /// The nodes of the cluster but this one, living and dead.
    pub(in crate::store) fn nodes(
        connection: &mut PgConnection,
        me: i64,
        cluster: &str,
    ) -> QueryResult<Vec<SeenServer>> {
        let nodes = "SELECT id, name, (extract(epoch FROM seen_at) * 1000000)::bigint AS seen_at, \
                     (extract(epoch FROM clock_timestamp() - seen_at) * 1000000)::bigint AS age, \
                     bus_up, behind FROM servers WHERE id <> $1 AND cluster = $2";
        let nodes: Vec<Node> = diesel::sql_query(nodes)
            .bind::<BigInt, _>(me)
            .bind::<Text, _>(cluster)
            .load(connection)?;
        let seen = nodes.into_iter().map(|node| SeenServer {
            id: node.id,
            name: node.name,
            seen_at: node.seen_at,
            age: Duration::from_micros(u64::try_from(node.age).unwrap_or_default()),
            bus_is_up: node.bus_up,
            is_behind: node.behind,
        });
        Ok(seen.collect())
    }

    /// The live servers but this one and the nodes of its cluster.
    pub(in crate::store) fn others(
        connection: &mut PgConnection,
        id: i64,
        cluster: Option<&str>,
    ) -> QueryResult<Vec<String>> {
        let others = format!(
            "SELECT name FROM servers WHERE id <> $1 AND seen_at > clock_timestamp() - {LIFE} \
             AND ($2 IS NULL OR cluster IS DISTINCT FROM $2) ORDER BY name"
        );
        let others = diesel::sql_query(others)
            .bind::<BigInt, _>(id)
            .bind::<Nullable<Text>, _>(cluster);
        let others: Vec<Other> = others.load(connection)?;
        Ok(others.into_iter().map(|other| other.name).collect())
    }

    pub(in crate::store) fn strangers(
        connection: &mut PgConnection,
        cluster: Option<&str>,
    ) -> QueryResult<Vec<String>> {
        let strangers = format!(
            "SELECT name FROM servers WHERE seen_at > clock_timestamp() - {LIFE} \
             AND cluster IS DISTINCT FROM $1 ORDER BY name"
        );
        let strangers = diesel::sql_query(strangers).bind::<Nullable<Text>, _>(cluster);
        let strangers: Vec<Other> = strangers.load(connection)?;
        Ok(strangers.into_iter().map(|other| other.name).collect())
    }

    pub(in crate::store) fn leave(connection: &mut PgConnection, id: i64) -> QueryResult<()> {
        let gone = diesel::sql_query("DELETE FROM servers WHERE id = $1");
        gone.bind::<BigInt, _>(id).execute(connection).map(drop)
    }
}
