//! A node that takes down what its bus tells.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::until;
use crate::cluster::bus::{Answer, Bus, Events, NodeId, ProcessId};
use crate::cluster::wire;
use crate::lock::lock;
use crate::log::MessageId;

/// One message: its topic, its place and its bytes.
pub(in crate::cluster) type Arrival = (String, Option<MessageId>, Bytes);

/// What a bus has told.
#[derive(Default)]
pub(in crate::cluster) struct Heard {
    pub(in crate::cluster) attached: Mutex<HashMap<String, usize>>,
    pub(in crate::cluster) arrived: Mutex<Vec<Arrival>>,
    pub(in crate::cluster) told: Mutex<Vec<Bytes>>,
    pub(in crate::cluster) answers: Mutex<HashMap<u64, Vec<Answer>>>,
    pub(in crate::cluster) ups: Mutex<Vec<String>>,
    pub(in crate::cluster) downs: AtomicU64,
    /// What the bus has logged.
    pub(in crate::cluster) log: Arc<Mutex<Vec<u8>>>,
    /// Panic at the next arrival.
    pub(in crate::cluster) panic: AtomicBool,
}

/// Writes log lines for the test to read.
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Events for Heard {
    fn attached(&self, topic: &str) {
        *lock(&self.attached).entry(topic.to_owned()).or_default() += 1;
    }

    fn arrived(&self, topic: &str, place: Option<MessageId>, message: Bytes) {
        assert!(!self.panic.load(SeqCst), "as the test wants");
        lock(&self.arrived).push((topic.to_owned(), place, message));
    }

    fn told(&self, message: Bytes) {
        lock(&self.told).push(message);
    }

    fn answered(&self, nonce: u64, answer: Answer) {
        lock(&self.answers).entry(nonce).or_default().push(answer);
    }

    fn up(&self, process: &ProcessId) {
        lock(&self.ups).push(process.to_string());
    }

    fn down(&self) {
        self.downs.fetch_add(1, SeqCst);
    }
}

/// A node with a bus on a thread of its own. The bus ends when this is dropped.
pub(in crate::cluster) struct Node<B> {
    pub(in crate::cluster) id: NodeId,
    pub(in crate::cluster) bus: Arc<B>,
    pub(in crate::cluster) heard: Arc<Heard>,
    pub(in crate::cluster) nonces: AtomicU64,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<B: Bus> Node<B> {
    /// A node on the bus that `start` starts, which need not be up.
    pub(in crate::cluster) fn on(
        start: impl FnOnce(NodeId, Arc<dyn Events>, &tokio::runtime::Handle) -> Arc<B>,
    ) -> Self {
        let id = NodeId::random().expect("random numbers");
        let heard = Arc::new(Heard::default());
        let (end, ended) = oneshot::channel::<()>();
        let (sender, handle) = std::sync::mpsc::channel();
        let log = Arc::clone(&heard.log);
        let named = std::thread::Builder::new().name("bus".to_owned());
        let thread = named.spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || Log(Arc::clone(&log)))
                .finish();
            let _log = tracing::subscriber::set_default(subscriber);
            super::wait(async {
                sender
                    .send(tokio::runtime::Handle::current())
                    .expect("the test waits for it");
                _ = ended.await;
            });
        });
        let thread = thread.expect("a thread");
        let handle = handle.recv().expect("the thread runs");
        let events: Arc<Heard> = Arc::clone(&heard);
        Self {
            id,
            bus: start(id, events, &handle),
            heard,
            nonces: AtomicU64::new(1),
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Attaches a topic and waits for the confirmation.
    pub(in crate::cluster) fn attach(&self, topic: &str) {
        let before = self.attached(topic);
        self.bus.attach(topic);
        until("the topic is attached", || self.attached(topic) > before);
    }

    /// How often the topic was confirmed.
    pub(in crate::cluster) fn attached(&self, topic: &str) -> usize {
        lock(&self.heard.attached).get(topic).copied().unwrap_or(0)
    }

    /// The messages of a topic that have arrived.
    pub(in crate::cluster) fn arrived(&self, topic: &str) -> Vec<(Option<MessageId>, Bytes)> {
        let arrived = lock(&self.heard.arrived);
        let of_topic = arrived.iter().filter(|(of, ..)| of == topic);
        of_topic
            .map(|(_, place, message)| (*place, message.clone()))
            .collect()
    }
}

impl<B> Drop for Node<B> {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic on the bus's thread fails the test.
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the bus panicked"
            );
        }
    }
}

/// A message with a header.
pub(in crate::cluster) fn message(author: NodeId, nonce: u64, body: &str) -> Bytes {
    let mut message = vec![1, 1, 0];
    message.extend(author.get().to_le_bytes());
    message.extend(nonce.to_le_bytes());
    message.extend(0_i64.to_le_bytes());
    message.extend(body.as_bytes());
    message.into()
}

/// The nonce of a message.
pub(in crate::cluster) fn nonce_of(message: &[u8]) -> u64 {
    wire::header(message).expect("a header").nonce
}
