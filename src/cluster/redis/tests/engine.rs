//! Redis, for the suite of all buses.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::support::{Server, node};
use crate::cluster::bus::{Events, NodeId};
use crate::cluster::redis::RedisBus;
use crate::cluster::tests::engine::{Engine, Limits};

/// Redis.
pub(in crate::cluster) struct Redis;

impl Engine for Redis {
    type Bus = RedisBus;
    type Server = Server;

    fn server() -> Server {
        Server::start()
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
        format!("redis://127.0.0.1:{port}")
    }

    fn bus(
        url: String,
        limits: Limits,
        id: NodeId,
        events: Arc<dyn Events>,
        runtime: &Handle,
    ) -> Arc<RedisBus> {
        let mut options = node::options(url);
        options.most_waiting = limits.most_waiting;
        options.timing.answer = limits.answer;
        options.timing.liveness = limits.liveness;
        RedisBus::start(options, id, events, runtime)
    }

    fn topics(server: &Server) -> usize {
        let pattern = format!("{}:*", server.keys());
        server
            .run::<Vec<String>>(&["PUBSUB", "CHANNELS", &pattern])
            .len()
    }

    fn clients(server: &Server) -> usize {
        let clients: String = server.run(&["CLIENT", "LIST"]);
        clients.matches("name=slackir").count()
    }
}
