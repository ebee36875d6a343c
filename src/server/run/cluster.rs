//! The server as a node of a cluster.

use std::net::SocketAddr;
#[cfg(feature = "redis")]
use std::time::{Duration, Instant};

use crate::pubsub::Cluster;
#[cfg(feature = "redis")]
use crate::pubsub::{ClusterError, ClusterOptions, SeenNode};
use crate::server::config::{ClusterMisfit, Durability, ServeConfig};
#[cfg(feature = "redis")]
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
        "another server uses the database, and is no node of this server's cluster: {0}; end it, or give both the same redis_url, redis_prefix and durability"
    )]
    Stranger(String),
    /// A node of the cluster is not heard on this node's Redis.
    #[error(
        "another node of this cluster is connected to another Redis: {0}; give all nodes the same redis_url"
    )]
    OtherRedis(String),
    /// The build has no Redis.
    #[cfg(not(feature = "redis"))]
    #[error("redis_url: this build has no cluster; build it with the feature redis")]
    NoRedis,
    /// The node could not be started.
    #[cfg(feature = "redis")]
    #[error("redis_url: {0}")]
    Start(#[from] ClusterError),
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
    let cluster = name(config);
    if let Some(writer) = writer
        && let Some(stranger) = writer.stranger(cluster.clone()).await
    {
        return Err(JoinClusterError::Stranger(stranger));
    }
    let Some(url) = &config.cluster.redis_url else {
        return Ok(None);
    };
    config.check_cluster()?;
    let node = start(url, (config, address), writer)?;
    if let (Some(writer), Some(cluster)) = (writer, cluster) {
        meet(&node, writer, &cluster).await?;
    }
    Ok(Some(node))
}

/// A node without a sign of life for so long is not waited for.
#[cfg(feature = "redis")]
const LIFE: Duration = Duration::from_secs(10);
/// How long a node looks for the others.
#[cfg(feature = "redis")]
const MEETING: Duration = Duration::from_millis(3_500);
/// The others are heard so long after Redis is reached.
#[cfg(feature = "redis")]
const GREETING: Duration = Duration::from_secs(2);

/// Waits until another node is heard over the bus, if the database says that there is one which reaches it.
///
/// # Errors
/// If it lives and is not heard: its bus is another.
#[cfg(feature = "redis")]
async fn meet(
    node: &Cluster,
    writer: &DbWriterHandle,
    cluster: &str,
) -> Result<(), JoinClusterError> {
    let tells = |nodes: Vec<SeenServer>| nodes.into_iter().filter(|node| node.bus_is_up);
    let first: Vec<_> = tells(writer.nodes(cluster).await).collect();
    let (begun, mut up_since) = (Instant::now(), None);
    // Redis may come late.
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
        Some(other) => Err(JoinClusterError::OtherRedis(other.name)),
        None => Ok(()),
    }
}

/// Without the feature there is no node.
#[cfg(not(feature = "redis"))]
async fn meet(node: &Cluster, _: &DbWriterHandle, _: &str) -> Result<(), JoinClusterError> {
    match *node {}
}

/// The name of the cluster; `None` for a server alone. Nodes with another durability are strangers: the database would
/// give the places in their topics here, and Redis there.
pub(super) fn name(config: &ServeConfig) -> Option<String> {
    let prefix = &config.cluster.redis_prefix;
    config.cluster.redis_url.as_ref()?;
    Some(match config.durability {
        Durability::Strict => format!("{prefix}, strict"),
        Durability::Relaxed => prefix.clone(),
    })
}

/// This server's place among the nodes, for the database.
#[cfg(feature = "redis")]
pub(super) fn seat(config: &ServeConfig, cluster: Option<&Cluster>) -> Option<ClusterSeat> {
    let (cluster, name) = (cluster?.clone(), name(config)?);
    let seeing = cluster.clone();
    Some(ClusterSeat {
        cluster: name,
        id: cluster.number(),
        hears: {
            let cluster = cluster.clone();
            Box::new(move |id| cluster.hears(id))
        },
        owes: {
            let cluster = cluster.clone();
            Box::new(move || cluster.owes())
        },
        hurries: {
            let cluster = cluster.clone();
            Box::new(move || cluster.awaits_old_rows())
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
#[cfg(not(feature = "redis"))]
pub(super) fn seat(_: &ServeConfig, cluster: Option<&Cluster>) -> Option<ClusterSeat> {
    match *cluster? {}
}

#[cfg(feature = "redis")]
fn start(
    url: &str,
    (config, address): (&ServeConfig, SocketAddr),
    writer: Option<&DbWriterHandle>,
) -> Result<Cluster, JoinClusterError> {
    let mut options = ClusterOptions::new(url);
    options.prefix.clone_from(&config.cluster.redis_prefix);
    options.ref_window = config.cluster.ref_window;
    options.name = match &config.cluster.node_name {
        Some(name) => name.clone(),
        None => format!("{}:{}", options.name, address.port()),
    };
    Ok(Cluster::start(match writer {
        Some(writer) => options.database(writer),
        None => options,
    })?)
}

#[cfg(not(feature = "redis"))]
fn start(
    _: &str,
    _: (&ServeConfig, SocketAddr),
    _: Option<&DbWriterHandle>,
) -> Result<Cluster, JoinClusterError> {
    Err(JoinClusterError::NoRedis)
}
