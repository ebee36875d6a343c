//! [`Engine`]: what the suite needs of a bus and of its server.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::support::{Node, Proxy, until};
use crate::cluster::bus::{Bus, Events, NodeId};

/// The limits of a bus in a test.
#[derive(Clone, Copy)]
pub(in crate::cluster) struct Limits {
    /// Bytes that may wait.
    pub(in crate::cluster) most_waiting: u64,
    /// How long the server may take to answer.
    pub(in crate::cluster) answer: Duration,
    /// A node that is silent for so long is dead.
    pub(in crate::cluster) liveness: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            most_waiting: 64 << 20,
            answer: Duration::from_secs(1),
            liveness: Duration::from_secs(2),
        }
    }
}

/// A bus with its server.
pub(in crate::cluster) trait Engine: 'static {
    type Bus: Bus + 'static;
    type Server;

    /// A server of the test's own, which ends with the value.
    fn server() -> Self::Server;
    fn port(server: &Self::Server) -> u16;
    /// Ends the server as a crash would.
    fn kill(server: &mut Self::Server);
    /// Starts it again on the same port, empty.
    fn start_again(server: &mut Self::Server);
    /// The URL of a port on this machine.
    fn url(port: u16) -> String;
    fn bus(
        url: String,
        limits: Limits,
        id: NodeId,
        events: Arc<dyn Events>,
        runtime: &Handle,
    ) -> Arc<Self::Bus>;
    /// How many topics the server has subscriptions of.
    fn topics(server: &Self::Server) -> usize;
    /// How many connections of nodes the server has.
    fn clients(server: &Self::Server) -> usize;
}

/// A node at this port whose bus need not be up.
pub(super) fn node_with<E: Engine>(port: u16, limits: Limits) -> Node<E::Bus> {
    Node::on(|id, events, runtime| E::bus(E::url(port), limits, id, events, runtime))
}

/// A node at this port whose bus is up.
pub(super) fn node_at<E: Engine>(port: u16) -> Node<E::Bus> {
    let node = node_with::<E>(port, Limits::default());
    until("the bus is up", || node.bus.is_up());
    node
}

/// A node of this server whose bus is up.
pub(super) fn node<E: Engine>(server: &E::Server) -> Node<E::Bus> {
    node_at::<E>(E::port(server))
}

/// A node behind a proxy, whose bus is up.
pub(super) fn behind_proxy<E: Engine>(server: &E::Server) -> (Proxy, Node<E::Bus>) {
    let proxy = Proxy::start(E::port(server));
    let node = node_at::<E>(proxy.port);
    (proxy, node)
}
