//! [`Ending`]: how a server ends, in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use tokio::task::JoinHandle;

use super::database;
use crate::endpoint::Endpoint;
use crate::pubsub::Cluster;
use crate::server::hook::Hook;
use crate::server::told::TellTask;
use crate::server::traces::Traces;
use crate::socket::DrainOptions;
use crate::store::{RetentionTask, Servers};

/// The longest wait for the last words of a node.
const LEAVING: Duration = Duration::from_secs(2);

/// The time in which clients that were just accepted get their answers, before those who connect are refused.
const ACCEPTED: Duration = Duration::from_millis(200);

/// What a server ends, each part before those that it needs.
pub(super) struct Ending {
    /// The sockets of clients.
    pub(super) endpoint: Endpoint,
    pub(super) options: DrainOptions,
    pub(super) retention: Option<RetentionTask>,
    /// Tasks that may end at any time.
    pub(super) tasks: Vec<JoinHandle<()>>,
    pub(super) hook: Option<Arc<Hook>>,
    pub(super) told: Option<TellTask>,
    /// The sockets of the dashboard.
    pub(super) dashboard: Option<Endpoint>,
    /// The HTTP server of clients.
    pub(super) clients: ServerHandle,
    /// Whether somebody else keeps the listening socket open: clients that connect from now on wait for the next server.
    pub(super) listener_stays: bool,
    /// The HTTP server of operators.
    pub(super) operators: Option<ServerHandle>,
    /// Whether messages are saved.
    pub(super) saves: bool,
    pub(super) servers: Option<Servers>,
    /// Ends when everything is saved.
    pub(super) cluster: Option<Cluster>,
    pub(super) traces: Traces,
}

impl Ending {
    /// Ends all parts. Returns the number of messages that could not be saved.
    pub(super) async fn run(self) -> usize {
        let deadline = Instant::now() + self.options.shutdown;
        if self.listener_stays {
            self.clients.pause().await;
            tokio::time::sleep(ACCEPTED).await;
        }
        drop(self.retention);
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some(cluster) = &self.cluster {
            cluster.stop();
        }
        send_away(&self.endpoint, self.options).await;
        if let Some(hook) = self.hook {
            // The notices about the members that have gone.
            hook.finish().await;
        }
        if let Some(told) = self.told {
            told.finish().await;
        }
        if let Some(dashboard) = &self.dashboard {
            send_away(dashboard, self.options).await;
        }
        // Nobody may publish over HTTP any more when the last row is saved.
        self.clients.stop(true).await;
        let unsaved = if self.saves {
            database::save_everything(self.endpoint.pubsub(), deadline).await
        } else {
            0
        };
        if let Some(servers) = self.servers {
            servers.leave().await;
        }
        if let Some(cluster) = self.cluster {
            cluster.leave(LEAVING).await;
        }
        self.traces.finish(deadline).await;
        if let Some(operators) = self.operators {
            operators.stop(true).await;
        }
        unsaved
    }
}

/// Closes all connections, with the request to reconnect, and waits until their channels have terminated.
async fn send_away(endpoint: &Endpoint, options: DrainOptions) {
    let left = endpoint.drain(options).await;
    if left > 0 {
        tracing::warn!(
            connections = left,
            "serve.shutdown.connections_left: they were cut; raise shutdown_timeout to give them \
             longer"
        );
    }
}
