//! NATS, for the suite of all buses.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::Server;
use crate::cluster::bus::{Events, NodeId};
use crate::cluster::nats::{NatsBus, NatsOptions, Timing};
use crate::cluster::tests::engine::{Engine, Limits};

/// NATS.
pub(in crate::cluster) struct Nats;

/// Options with short limits.
pub(super) fn options(url: String) -> NatsOptions {
    let (ms, limits) = (Duration::from_millis, Limits::default());
    NatsOptions {
        timing: Timing {
            ping_every: ms(100),
            answer: limits.answer,
            reconnect_least: ms(10),
            reconnect_most: ms(100),
            liveness: limits.liveness,
            renew_every: ms(300),
        },
        ..NatsOptions::new(url)
    }
}

impl Engine for Nats {
    type Bus = NatsBus;
    type Server = Server;

    fn server() -> Server {
        Server::start(&[])
    }

    fn port(server: &Server) -> u16 {
        server.port
    }

    fn kill(server: &mut Server) {
        server.kill();
    }

    fn start_again(server: &mut Server) {
        server.start_again();
    }

    fn url(port: u16) -> String {
        format!("nats://127.0.0.1:{port}")
    }

    fn bus(
        url: String,
        limits: Limits,
        id: NodeId,
        events: Arc<dyn Events>,
        runtime: &Handle,
    ) -> Arc<NatsBus> {
        let mut options = options(url);
        options.most_waiting = limits.most_waiting;
        options.timing.answer = limits.answer;
        options.timing.liveness = limits.liveness;
        NatsBus::start(options, id, events, runtime)
    }

    fn topics(server: &Server) -> usize {
        let connections = server.connections();
        let subjects = connections
            .iter()
            .filter_map(|connection| connection["subscriptions_list"].as_array())
            .flatten();
        let is_topic = |subject: &&str| subject.split('.').nth(2) == Some("t");
        subjects
            .filter_map(serde_json::Value::as_str)
            .filter(is_topic)
            .count()
    }

    fn clients(server: &Server) -> usize {
        let connections = server.connections();
        let names = connections.iter().filter_map(|it| it["name"].as_str());
        names.filter(|name| name.starts_with("slackir-")).count()
    }
}
