//! Tests of what only the NATS adapter does. They need `nats-server`; the suite of all buses is in `cluster::tests`.

mod engine;
mod examine;
mod limits;
mod server;
mod tls;

pub(in crate::cluster) use self::engine::Nats;
use self::engine::options;
use self::server::Server;
use super::NatsBus;
use crate::cluster::bus::Bus;
use crate::cluster::tests::support::{self, until};

/// A node on NATS.
type Node = support::Node<NatsBus>;

/// A node whose bus is up.
fn node(url: String) -> Node {
    let node = node_with(options(url));
    until("the bus is up", || node.bus.is_up());
    node
}

/// A node whose bus need not be up.
fn node_with(options: super::NatsOptions) -> Node {
    Node::on(|id, events, runtime| NatsBus::start(options, id, events, runtime))
}
