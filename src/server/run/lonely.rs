//! A node that does not reach its bus, Redis or NATS, while other nodes do is of little use to its clients: they are sent there.

use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::pubsub::Cluster;
use crate::socket::DrainOptions;
use crate::store::OtherServers;

/// An outage that may be over at once.
const ALONE: Duration = Duration::from_secs(10);
/// From then on the balancer knows of it: the files of deploy/ need at most 6 s.
const TOLD: Duration = Duration::from_secs(17);
/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Whether the node has lost its bus for so long that clients are better off with the others, who reach it.
pub(super) fn is_lonely(cluster: &Cluster, others: &OtherServers) -> bool {
    is_lonely_for(ALONE, cluster, others)
}

fn is_lonely_for(time: Duration, cluster: &Cluster, others: &OtherServers) -> bool {
    let since = cluster.away_since();
    since.is_some_and(|since| since.elapsed() > time) && others.reach_the_bus()
}

/// Sends the clients of a lonely node away, once in each outage: who comes back all the same stays. By then the
/// readiness has told the balancer to send them elsewhere. Never returns.
pub(super) async fn keep(
    cluster: Cluster,
    others: OtherServers,
    endpoint: Endpoint,
    options: DrainOptions,
) {
    loop {
        // Strict topics go on without the bus.
        while !cluster.waits_for_bus() || !is_lonely_for(TOLD, &cluster, &others) {
            tokio::time::sleep(LOOK).await;
        }
        tracing::warn!(
            bus = cluster.bus_name(),
            connections = endpoint.connections(),
            "cluster.node.lonely: this node does not reach its Redis or NATS and others do, so its clients are sent \
             away to them; mend its way to the server of redis_url or nats_url"
        );
        tokio::select! {
            () = endpoint.send_away(options) => until_back(&cluster).await,
            // Who is still here can stay.
            () = until_back(&cluster) => {}
        }
    }
}

async fn until_back(cluster: &Cluster) {
    while cluster.away_since().is_some() {
        tokio::time::sleep(LOOK).await;
    }
}
