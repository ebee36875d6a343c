//! The server as a node of a cluster.

use std::net::SocketAddr;
#[cfg(feature = "_cluster")]
use std::time::{Duration, Instant};

use crate::pubsub::Cluster;
#[cfg(feature = "_cluster")]
use crate::pubsub::{ClusterError, ClusterOptions, SeenNode};
use crate::server::config::{ClusterBus, ClusterMisfit, Durability, ServeConfig};
#[cfg(feature = "_cluster")]
use crate::store::SeenServer;
use crate::store::{ClusterSeat, DbWriterHandle};

/// The settings do not fit a cluster, or it could not be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinClusterError {
    /// The other settings do not fit.
    #[error(transparent)]
    Misfit(#[from] ClusterMisfit),
    /// Another server uses the database, and is no node of this cluster.
    #[error(
        "another server uses the database, and is no node of this server's cluster: {0}; end it, or give both the same redis_url or nats_url, cluster_prefix and durability"
    )]
    Stranger(String),
    /// A node of the cluster is not heard on this node's Redis or NATS.
    #[error(
        "another node of this cluster is connected to another {bus}: {name}; give all nodes the same {setting}, of one server"
    )]
    OtherBus {
        /// Redis or NATS.
        bus: &'static str,
        /// The other node.
        name: String,
        /// The setting that differs.
        setting: &'static str,
    },
    /// The build has no cluster.
    #[cfg(not(feature = "_cluster"))]
    #[error("{0}: this build has no cluster; build it with the feature redis or nats")]
    NoCluster(&'static str),
    /// The node could not be started.
    #[cfg(feature = "_cluster")]
    #[error("{setting}: {source}")]
    Start {
        /// The setting that names the server.
        setting: &'static str,
        /// What is wrong.
        #[source]
        source: ClusterError,
    },
}

impl JoinClusterError {
    /// The setting that is wrong, or part of what is.
    pub(super) fn setting(&self) -> &'static str {
        match self {
            Self::Misfit(misfit) => misfit.setting(),
            Self::Stranger(_) => "redis_url",
            Self::OtherBus { setting, .. } => setting,
            #[cfg(not(feature = "_cluster"))]
            Self::NoCluster(setting) => setting,
            #[cfg(feature = "_cluster")]
            Self::Start { setting, .. } => setting,
        }
    }
}

/// Joins the cluster of the settings, if they name one.
///
/// # Errors
/// If the settings do not fit, or another server shares the database and not the cluster.
pub(super) async fn join(
    config: &ServeConfig,
    address: SocketAddr,
    writer: Option<&DbWriterHandle>,
) -> Result<Option<Cluster>, JoinClusterError> {
    config.check_cluster()?;
    let cluster = name(config);
    if let Some(writer) = writer
        && let Some(stranger) = writer.stranger(cluster.clone()).await
    {
        return Err(JoinClusterError::Stranger(stranger));
    }
    let Some((bus, url)) = config.cluster.bus() else {
        return Ok(None);
    };
    let node = start((bus, url), (config, address), writer)?;
    if let (Some(writer), Some(cluster)) = (writer, cluster) {
        meet((&node, bus), writer, &cluster).await?;
    }
    Ok(Some(node))
}

/// A node without a sign of life for so long is not waited for.
#[cfg(feature = "_cluster")]
const LIFE: Duration = Duration::from_secs(10);
/// How long a node looks for the others.
#[cfg(feature = "_cluster")]
const MEETING: Duration = Duration::from_millis(3_500);
/// The others are heard so long after Redis or NATS is reached.
#[cfg(feature = "_cluster")]
const GREETING: Duration = Duration::from_secs(2);

/// Waits until another node is heard over the bus, if the database says that there is one which reaches it.
///
/// # Errors
/// If it lives and is not heard: its bus is another.
#[cfg(feature = "_cluster")]
async fn meet(
    (node, bus): (&Cluster, ClusterBus),
    writer: &DbWriterHandle,
    cluster: &str,
) -> Result<(), JoinClusterError> {
    let tells = |nodes: Vec<SeenServer>| nodes.into_iter().filter(|node| node.bus_is_up);
    let first: Vec<_> = tells(writer.nodes(cluster).await).collect();
    let (begun, mut up_since) = (Instant::now(), None);
    // The bus may come late.
    let is_open = |up_since: Option<Instant>| {
        let greeted = up_since.is_some_and(|since| since.elapsed() > GREETING);
        begun.elapsed() < MEETING || (up_since.is_some() && !greeted)
    };
    while is_open(up_since) {
        up_since = up_since.or_else(|| node.is_up().then(Instant::now));
        if first.iter().any(|other| node.hears(other.id)) || first.iter().all(|it| it.age > LIFE) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if !node.is_up() {
        return Ok(());
    }
    // One that is dead or hangs has given no sign of life meanwhile.
    let is_elsewhere = |later: &SeenServer| {
        let mut first = first.iter();
        !node.hears(later.id)
            && first.any(|first| first.id == later.id && first.seen_at < later.seen_at)
    };
    match tells(writer.nodes(cluster).await).find(is_elsewhere) {
        Some(other) => Err(JoinClusterError::OtherBus {
            bus: bus.name(),
            name: other.name,
            setting: bus.setting(),
        }),
        None => Ok(()),
    }
}

/// Without the feature there is no node.
#[cfg(not(feature = "_cluster"))]
async fn meet(
    (node, _): (&Cluster, ClusterBus),
    _: &DbWriterHandle,
    _: &str,
) -> Result<(), JoinClusterError> {
    match *node {}
}

/// The name of the cluster; `None` for a server alone. Nodes with another durability are strangers: the database would
/// give the places in their topics here, and Redis there. So are nodes that talk over something else.
pub(super) fn name(config: &ServeConfig) -> Option<String> {
    let prefix = config.cluster.prefix();
    let (bus, _) = config.cluster.bus()?;
    Some(match (bus, config.durability) {
        (ClusterBus::Nats, _) => format!("{prefix}, strict, over NATS"),
        (ClusterBus::Redis, Durability::Strict) => format!("{prefix}, strict"),
        (ClusterBus::Redis, Durability::Relaxed) => prefix.to_owned(),
    })
}

/// This server's place among the nodes, for the database.
#[cfg(feature = "_cluster")]
pub(super) fn seat(config: &ServeConfig, cluster: Option<&Cluster>) -> Option<ClusterSeat> {
    let (cluster, name) = (cluster?.clone(), name(config)?);
    let seeing = cluster.clone();
    Some(ClusterSeat {
        cluster: name,
        bus: cluster.bus_name(),
        id: cluster.number(),
        hears: {
            let cluster = cluster.clone();
            Box::new(move |id| cluster.hears(id))
        },
        owes: {
            let cluster = cluster.clone();
            Box::new(move || cluster.owes())
        },
        is_behind: {
            let cluster = cluster.clone();
            Box::new(move || cluster.is_behind())
        },
        hurries: {
            let cluster = cluster.clone();
            Box::new(move || cluster.awaits_old_rows())
        },
        bus_away: {
            let cluster = cluster.clone();
            Box::new(move || cluster.away_for())
        },
        bus_is_up: Box::new(move || cluster.tells()),
        seen: Box::new(move |servers, is_behind| {
            let nodes = servers.iter().map(|server| SeenNode {
                id: server.id,
                seen_at: server.seen_at,
                age: server.age,
                tells: server.bus_is_up,
                is_behind: server.is_behind,
            });
            seeing.see(&nodes.collect::<Vec<_>>(), is_behind);
        }),
    })
}

/// Without the feature there is no cluster.
#[cfg(not(feature = "_cluster"))]
pub(super) fn seat(_: &ServeConfig, cluster: Option<&Cluster>) -> Option<ClusterSeat> {
    match *cluster? {}
}

#[cfg(feature = "_cluster")]
fn start(
    (bus, url): (ClusterBus, &str),
    (config, address): (&ServeConfig, SocketAddr),
    writer: Option<&DbWriterHandle>,
) -> Result<Cluster, JoinClusterError> {
    let mut options = ClusterOptions::new(url);
    config.cluster.prefix().clone_into(&mut options.prefix);
    options.ref_window = config.cluster.ref_window;
    options
        .phoenix_bridge
        .clone_from(&config.cluster.phoenix_bridge);
    options.name = match &config.cluster.node_name {
        Some(name) => name.clone(),
        None => format!("{}:{}", options.name, address.port()),
    };
    let mut options = match writer {
        Some(writer) => options.database(writer),
        None => options,
    };
    // If Redis gives the order, the database gives it while no node reaches Redis.
    if bus == ClusterBus::Redis
        && config.durability == Durability::Relaxed
        && let Some(cluster) = name(config)
    {
        options = options.seated(cluster);
    }
    Cluster::start(options).map_err(|source| JoinClusterError::Start {
        setting: bus.setting(),
        source,
    })
}

#[cfg(not(feature = "_cluster"))]
fn start(
    (bus, _): (ClusterBus, &str),
    _: (&ServeConfig, SocketAddr),
    _: Option<&DbWriterHandle>,
) -> Result<Cluster, JoinClusterError> {
    Err(JoinClusterError::NoCluster(bus.setting()))
}
