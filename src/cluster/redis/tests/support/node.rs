//! A node on Redis.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::cluster::bus::{Answer, Bus, Sequencer};
use crate::cluster::redis::{RedisBus, RedisOptions, Timing};
use crate::cluster::tests::support::{self, message, until, wait};
use crate::lock::lock;
use crate::log::{Epoch, MessageId, Seq};

/// A node on Redis.
pub(in super::super) type Node = support::Node<RedisBus>;

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
        Self::on(|id, events, runtime| RedisBus::start(options, id, events, runtime))
    }

    /// Begins the run of a topic in epoch 0x2f.
    pub(in super::super) fn begin(&self, topic: &str) {
        let token = wait(self.bus.lock(topic))
            .expect("up")
            .expect("a free lock");
        let begun = self.bus.begin(topic, token, Epoch::new(0x2f), Seq::ZERO);
        assert_eq!(wait(begun), Ok(true));
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

    /// Publishes until one is taken. Then the bus carries messages again.
    pub(in super::super) fn publish_until_taken(&self, topic: &str) -> MessageId {
        loop {
            if let Answer::Taken(id) = self.answer(self.publish(topic)) {
                return id;
            }
        }
    }
}
