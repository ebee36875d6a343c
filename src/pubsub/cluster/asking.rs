//! [`Neighbours`]: requests to other nodes, each with one answer. Long-polling uses them: a client's session lives on one
//! node, and its requests come to any.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::oneshot;

use super::message;
use super::node::Node;
use crate::cluster::wire::{Body, Numbered};
use crate::cluster::{NodeId, To};
use crate::lock::lock;
use crate::pubsub::PubSub;

/// Answers a request of another node; `None` if it is for somebody else.
pub(crate) type Answers = Arc<dyn Fn(Bytes) -> Option<BoxFuture<'static, Bytes>> + Send + Sync>;

/// The requests of a node that have no answer yet, and those who answer the others'.
#[derive(Default)]
pub(super) struct Asked {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
    answers: Mutex<Vec<Answers>>,
}

/// The other nodes of this server's cluster.
#[derive(Clone)]
pub(crate) struct Neighbours(Arc<Node>);

impl PubSub {
    /// The other nodes; `None` for a server alone.
    pub(crate) fn neighbours(&self) -> Option<Neighbours> {
        self.node().map(|node| Neighbours(Arc::clone(node)))
    }
}

impl Neighbours {
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.0
    }

    /// The number of this node, which names it to the others until its process ends.
    pub(crate) fn me(&self) -> u64 {
        self.0.id.get()
    }

    /// The name of this node.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Answers requests of other nodes from now on.
    pub(crate) fn answer_with(&self, answers: Answers) {
        lock(&self.0.asked.answers).push(answers);
    }

    /// Asks a node. `None` if there is no such node, or it does not answer in this time.
    pub(crate) async fn ask(&self, node: u64, request: Bytes, limit: Duration) -> Option<Bytes> {
        let (node, asked) = (NodeId::new(node), &self.0.asked);
        if !self.0.peers.knows(node) {
            return None;
        }
        let number = asked.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&asked.waiting).insert(number, answer);
        let _waits = Waits(asked, number);
        let bytes = request;
        self.0
            .send_to(node, Body::PollRequest(Numbered { number, bytes }));
        let answered = tokio::time::timeout(limit, answered).await;
        answered.ok()?.ok()
    }

    /// Tells a node something that has no answer.
    pub(crate) fn tell(&self, node: u64, bytes: Bytes) {
        let number = u64::MAX;
        let body = Body::PollRequest(Numbered { number, bytes });
        self.0.send_to(NodeId::new(node), body);
    }
}

/// Forgets a request when its caller has its answer, or goes.
struct Waits<'a>(&'a Asked, u64);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        lock(&self.0.waiting).remove(&self.1);
    }
}

impl Node {
    fn send_to(&self, node: NodeId, body: Body) {
        if let Some(bus) = self.bus() {
            let message = message::message(body, self.id, self.nonce());
            bus.send(To::Node(node), message.encode());
        }
    }

    /// Another node asks.
    pub(super) fn answer(self: &Arc<Self>, from: NodeId, Numbered { number, bytes }: Numbered) {
        let answers = lock(&self.asked.answers).clone();
        let Some(answer) = answers.iter().find_map(|answers| answers(bytes.clone())) else {
            // Nobody here knows what it asks for. An empty answer says so at once.
            let bytes = Bytes::new();
            return self.send_to(from, Body::PollAnswer(Numbered { number, bytes }));
        };
        let node = Arc::clone(self);
        self.spawn(async move {
            let bytes = answer.await;
            node.send_to(from, Body::PollAnswer(Numbered { number, bytes }));
        });
    }

    /// Another node has answered.
    pub(super) fn hear_answer(&self, Numbered { number, bytes }: Numbered) {
        if let Some(answer) = lock(&self.asked.waiting).remove(&number) {
            // A caller that has gone needs no answer.
            let _ = answer.send(bytes);
        }
    }
}
