//! A node that takes down what its bus tells.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::until;
use crate::cluster::bus::{Answer, Bus, Events, NodeId, ProcessId, Sequencer};
use crate::cluster::redis::{RedisBus, RedisOptions, Timing};
use crate::cluster::wire;
use crate::lock::lock;
use crate::log::{Epoch, MessageId, Seq};

/// One message: its topic, its place and its bytes.
pub(in super::super) type Arrival = (String, Option<MessageId>, Bytes);

/// What a bus has told.
#[derive(Default)]
pub(in super::super) struct Heard {
    pub(in super::super) attached: Mutex<HashMap<String, usize>>,
    pub(in super::super) arrived: Mutex<Vec<Arrival>>,
    pub(in super::super) told: Mutex<Vec<Bytes>>,
    pub(in super::super) answers: Mutex<HashMap<u64, Vec<Answer>>>,
    pub(in super::super) ups: Mutex<Vec<String>>,
    pub(in super::super) downs: AtomicU64,
    /// What the bus has logged.
    pub(in super::super) log: Arc<Mutex<Vec<u8>>>,
    /// Panic at the next arrival.
    pub(in super::super) panic: AtomicBool,
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
pub(in super::super) struct Node {
    pub(in super::super) id: NodeId,
    pub(in super::super) bus: Arc<RedisBus>,
    pub(in super::super) heard: Arc<Heard>,
    nonces: AtomicU64,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Options with short limits.
pub(in super::super) fn options(url: String) -> RedisOptions {
    let ms = Duration::from_millis;
    RedisOptions {
        timing: Timing {
            ping_every: ms(100),
            answer: ms(500),
            echo: ms(300),
            reconnect_least: ms(10),
            reconnect_most: ms(100),
            liveness: ms(5000),
            renew_every: ms(300),
        },
        ..RedisOptions::new(url)
    }
}

impl Node {
    /// A node whose bus is up.
    pub(in super::super) fn start(url: String) -> Self {
        let node = Self::with(options(url));
        until("the bus is up", || node.bus.is_up());
        node
    }

    /// A node whose bus need not be up.
    pub(in super::super) fn with(options: RedisOptions) -> Self {
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
            bus: RedisBus::start(options, id, events, &handle),
            heard,
            nonces: AtomicU64::new(1),
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Attaches a topic and waits for the confirmation.
    pub(in super::super) fn attach(&self, topic: &str) {
        let before = self.attached(topic);
        self.bus.attach(topic);
        until("the topic is attached", || self.attached(topic) > before);
    }

    /// How often the topic was confirmed.
    pub(in super::super) fn attached(&self, topic: &str) -> usize {
        lock(&self.heard.attached).get(topic).copied().unwrap_or(0)
    }

    /// Begins the run of a topic in epoch 0x2f.
    pub(in super::super) fn begin(&self, topic: &str) {
        let token = super::wait(self.bus.lock(topic))
            .expect("up")
            .expect("a free lock");
        let begun = self.bus.begin(topic, token, Epoch::new(0x2f), Seq::ZERO);
        assert_eq!(super::wait(begun), Ok(true));
    }

    /// Publishes to a topic. Returns the nonce.
    pub(in super::super) fn publish(&self, topic: &str) -> u64 {
        self.publish_as(topic, None, true)
    }

    /// Publishes with a client_ref or without the journal.
    pub(in super::super) fn publish_as(
        &self,
        topic: &str,
        client_ref: Option<&str>,
        journal: bool,
    ) -> u64 {
        let nonce = self.nonces.fetch_add(1, SeqCst);
        let message = message(self.id, nonce, "hello");
        self.bus.publish(topic, message, client_ref, journal);
        nonce
    }

    /// The answer to a publish, once it is there. A second one fails the test.
    pub(in super::super) fn answer(&self, nonce: u64) -> Answer {
        until("the publish is answered", || self.answers(nonce) > 0);
        let answers = lock(&self.heard.answers);
        assert_eq!(answers[&nonce].len(), 1, "{:?}", answers[&nonce]);
        answers[&nonce][0]
    }

    /// How often a publish was answered.
    pub(in super::super) fn answers(&self, nonce: u64) -> usize {
        lock(&self.heard.answers).get(&nonce).map_or(0, Vec::len)
    }

    /// The messages of a topic that have arrived.
    pub(in super::super) fn arrived(&self, topic: &str) -> Vec<(Option<MessageId>, Bytes)> {
        let arrived = lock(&self.heard.arrived);
        let of_topic = arrived.iter().filter(|(of, ..)| of == topic);
        of_topic
            .map(|(_, place, message)| (*place, message.clone()))
            .collect()
    }

    /// Publishes until one is taken. Then the bus carries messages again.
    pub(in super::super) fn publish_until_taken(&self, topic: &str) -> MessageId {
        loop {
            if let Answer::Taken(id) = self.answer(self.publish(topic)) {
                return id;
            }
        }
    }
}

impl Drop for Node {
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
pub(in super::super) fn message(author: NodeId, nonce: u64, body: &str) -> Bytes {
    let mut message = vec![1, 1, 0];
    message.extend(author.get().to_le_bytes());
    message.extend(nonce.to_le_bytes());
    message.extend(0_i64.to_le_bytes());
    message.extend(body.as_bytes());
    message.into()
}

/// The nonce of a message.
pub(in super::super) fn nonce_of(message: &[u8]) -> u64 {
    wire::header(message).expect("a header").nonce
}
