//! [`Cluster`]: starts this server as a node, and ends it.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::bridge::Bridge;
use super::hears::Hears;
use super::journaled::JournaledStore;
use super::node::Node;
use super::peers::NodeInfo;
use crate::cluster::{Bus, NodeId};
use crate::log::{MemoryStore, MessageStore, SharedLogs};
use crate::prefix::{InvalidPrefix, InvalidPubSubName, check_prefix, check_pubsub_name};
use crate::pubsub::PubSub;

/// How a server takes part in a cluster.
///
/// ```
/// use slackir::pubsub::ClusterOptions;
///
/// let options = ClusterOptions::new("redis://127.0.0.1");
/// assert_eq!(options.prefix, "slackir");
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// The Redis or the NATS that all nodes share: `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS;
    /// `nats://[user:password@]host[:port]`, or `tls://` for TLS. NATS gives messages no order, so the database does, as
    /// for rules with [`strict`](crate::log::LogRule::strict).
    pub url: String,
    /// The beginning of all names there: 1 to 64 ASCII letters, digits, or of `-_.:`. Clusters that share a server need
    /// different ones. Default `slackir`.
    pub prefix: String,
    /// How long all nodes know the client_ref of a message, where Redis gives the order. Each takes 163 bytes of its
    /// memory. Default 600 s.
    pub ref_window: std::time::Duration,
    /// The name of this node on the dashboard and in log lines, the same after a restart. Default: the host's name.
    pub name: String,
    /// The name of the PubSub of a Phoenix application, such as `MyApp.PubSub`, whose adapter `phoenix_pubsub_redis` uses
    /// the same Redis: live events go both ways between its channels and the topics here.
    pub phoenix_bridge: Option<String>,
    database: Option<SharedLogs>,
    /// The name of the cluster in the database's table of servers.
    seat: Option<String>,
}

// Without the URL, which may have a password.
named_debug!(ClusterOptions, prefix, ref_window, name, phoenix_bridge);

impl ClusterOptions {
    /// A node of the cluster at this Redis or NATS. Without a [`database`](Self::database) no topic can keep a log.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "slackir".to_owned(),
            ref_window: std::time::Duration::from_secs(600),
            name: host_name(),
            phoenix_bridge: None,
            database: None,
            seat: None,
        }
    }

    /// Sets the database, which all nodes share: a [`DbWriterHandle`](crate::store::DbWriterHandle) of PostgreSQL. The
    /// rules of logs get their store from [`Cluster::store`].
    pub fn database(mut self, database: impl Into<SharedLogs>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// The server shows this node and the others of the cluster in the database under this name, each second. So the
    /// nodes know when none of them reaches Redis.
    pub(crate) fn seated(mut self, cluster: String) -> Self {
        self.seat = Some(cluster);
        self
    }
}

/// The cluster could not be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The system gives no thread or no random number.
    #[error("the cluster's thread could not be started")]
    Thread(#[source] io::Error),
    /// [`ClusterOptions::url`] is no URL of Redis or NATS.
    #[error(transparent)]
    Url(Box<dyn std::error::Error + Send + Sync>),
    /// [`ClusterOptions::url`] names a server that this build cannot use.
    #[error("this build has no {bus}; build it with the feature {feature}")]
    Missing {
        /// Redis or NATS.
        bus: &'static str,
        /// The feature of this crate.
        feature: &'static str,
    },
    /// [`ClusterOptions::prefix`] does not fit into names.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// [`ClusterOptions::phoenix_bridge`] is no name of a PubSub.
    #[error(transparent)]
    PubSubName(#[from] InvalidPubSubName),
    /// [`ClusterOptions::phoenix_bridge`] is set, and the nodes do not talk over Redis.
    #[error(
        "the bridge to a Phoenix application needs the Redis of its phoenix_pubsub_redis, not NATS"
    )]
    BridgeWithoutRedis,
}

/// This server as a node of a cluster: its topics are those of the other nodes. Clients of all nodes get every message
/// that a log keeps once, and in one order. A clone refers to the same node, which ends with the last of them.
///
/// ```no_run
/// use slackir::log::LogRule;
/// use slackir::pubsub::{Cluster, ClusterOptions, PubSub};
/// use slackir::store::DbWriterHandle;
///
/// # fn example(writer: &DbWriterHandle) -> Result<(), Box<dyn std::error::Error>> {
/// let options = ClusterOptions::new("redis://127.0.0.1").database(writer);
/// let cluster = Cluster::start(options)?;
/// let rule = LogRule::new("room:*", &["shout"], 50, cluster.store());
/// let pubsub = PubSub::with_logs(vec![rule]).in_cluster(&cluster);
/// # let _ = pubsub;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cluster {
    pub(super) node: Arc<Node>,
    /// Ends the thread with the last clone.
    _thread: Arc<oneshot::Sender<()>>,
}

named_debug!(Cluster);

impl Cluster {
    /// Starts a node. It connects by itself, and again whenever it has lost its connections.
    ///
    /// # Errors
    /// If the options are wrong, or the system gives no thread.
    pub fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        check_prefix(&options.prefix)?;
        options
            .phoenix_bridge
            .as_deref()
            .map_or(Ok(()), check_pubsub_name)?;
        let scheme = options.url.split(':').next().unwrap_or_default();
        if matches!(scheme, "nats" | "tls") {
            Self::on_nats(options)
        } else {
            Self::on_redis(options)
        }
    }

    #[cfg(feature = "nats")]
    fn on_nats(options: ClusterOptions) -> Result<Self, ClusterError> {
        use crate::cluster::nats::{NatsBus, NatsOptions};
        if options.phoenix_bridge.is_some() {
            return Err(ClusterError::BridgeWithoutRedis);
        }
        let nats = NatsOptions {
            prefix: options.prefix.clone(),
            ..NatsOptions::new(options.url.clone())
        };
        nats.check()
            .map_err(|error| ClusterError::Url(error.into()))?;
        Self::on_bus(options, None, |id, hears, runtime| {
            NatsBus::start(nats, id, Arc::new(hears), runtime)
        })
    }

    #[cfg(not(feature = "nats"))]
    fn on_nats(_: ClusterOptions) -> Result<Self, ClusterError> {
        Err(ClusterError::Missing {
            bus: "NATS",
            feature: "nats",
        })
    }

    #[cfg(feature = "redis")]
    fn on_redis(options: ClusterOptions) -> Result<Self, ClusterError> {
        use crate::cluster::redis::{RedisBus, RedisOptions};
        let bridge = options.phoenix_bridge.as_deref();
        let bridge = bridge.map(|pubsub| Bridge::new(pubsub, &options.prefix));
        let redis = RedisOptions {
            prefix: options.prefix.clone(),
            foreign: bridge.as_ref().map(|bridge| bridge.channel().to_owned()),
            ref_window: options.ref_window,
            ..RedisOptions::new(options.url.clone())
        };
        redis
            .check()
            .map_err(|error| ClusterError::Url(error.into()))?;
        Self::on_bus(options, bridge, |id, hears, runtime| {
            RedisBus::start(redis, id, Arc::new(hears), runtime)
        })
    }

    #[cfg(not(feature = "redis"))]
    fn on_redis(_: ClusterOptions) -> Result<Self, ClusterError> {
        Err(ClusterError::Missing {
            bus: "Redis",
            feature: "redis",
        })
    }

    /// Starts a node on this bus.
    pub(super) fn on_bus<B: Bus + 'static>(
        options: ClusterOptions,
        bridge: Option<Bridge>,
        bus: impl FnOnce(NodeId, Hears, &tokio::runtime::Handle) -> Arc<B>,
    ) -> Result<Self, ClusterError> {
        let id = NodeId::random().map_err(|error| ClusterError::Thread(io::Error::other(error)))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ClusterError::Thread)?;
        let database = options.database.map(|SharedLogs(store)| store);
        let node = Arc::new(Node::new(
            id,
            options.name.into(),
            runtime.handle().clone(),
            (database, options.seat),
            bridge,
        ));
        node.connect(bus(id, Hears(Arc::downgrade(&node)), runtime.handle()));
        node.spawn(Node::watch_others(Arc::downgrade(&node)));
        node.spawn(Node::beat(Arc::downgrade(&node)));
        node.spawn(Node::keep_looking(Arc::downgrade(&node)));
        node.spawn(Node::keep_era(Arc::downgrade(&node)));
        let (thread, ended) = oneshot::channel();
        let run = move || {
            // It ends when the last handle is dropped.
            let _ = runtime.block_on(ended);
        };
        let name = "slackir-cluster".to_owned();
        thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(ClusterError::Thread)?;
        Ok(Self {
            node,
            _thread: Arc::new(thread),
        })
    }

    /// The store for the rules of logs: the shared database, and the messages that are on their way to it. Without a
    /// database [`PubSub::in_cluster`] takes no rules.
    pub fn store(&self) -> Arc<dyn MessageStore> {
        match &self.node.store {
            Some(store) => {
                let node = Arc::downgrade(&self.node);
                Arc::new(JournaledStore::new(Arc::clone(store), node))
            }
            None => Arc::new(MemoryStore::default()),
        }
    }

    /// The nodes that live, this one included.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.node.peers.nodes(self.node.id)
    }

    /// Since when this node does not reach the bus; `None` while it does.
    pub fn away_since(&self) -> Option<std::time::Instant> {
        self.node.away_since()
    }

    /// Call before the clients are sent away: their presences stay with the other nodes until they are back there.
    pub fn stop(&self) {
        self.node
            .leaving
            .store(true, std::sync::atomic::Ordering::Relaxed);
        self.node.tell_life();
        self.node.parts.each(|part| part.stop());
    }

    /// Leaves the cluster, once nobody publishes here any more and everything is saved: waits, for at most `limit`, until
    /// the bus has forgotten what the database has, so that no other node looks after it.
    pub async fn leave(self, limit: std::time::Duration) {
        self.node.parts.each(|part| part.flush());
        self.node.parts.clear();
        if let Some(bus) = self.node.bus() {
            // Otherwise the others look after it.
            let _ = tokio::time::timeout(limit, bus.leave()).await;
        }
    }

    /// The product that the nodes talk over: `Redis` or `NATS`.
    pub fn bus_name(&self) -> &'static str {
        self.node.bus().map_or("", |bus| bus.name())
    }

    /// Whether this node reaches the bus.
    pub fn is_up(&self) -> bool {
        self.node.bus().is_some_and(|bus| bus.is_up())
    }
}

impl PubSub {
    /// Shares the topics with the other nodes of a cluster.
    ///
    /// # Panics
    /// If the cluster shares topics already, or these topics are of a cluster. If a rule keeps messages, and the cluster
    /// has no database.
    pub fn in_cluster(self, cluster: &Cluster) -> Self {
        assert!(
            cluster.node.store.is_some() || self.shared.rules.is_empty(),
            "the logs of a cluster need a database: see ClusterOptions::database"
        );
        cluster.node.share(&self);
        let set = self.shared.node.set(Arc::clone(&cluster.node));
        assert!(set.is_ok(), "topics are of one cluster");
        self
    }
}

/// The name of the machine.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
