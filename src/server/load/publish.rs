//! The fan-out load: messages at a rate, or a number of messages in flight.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::LoadError;
use super::client::State;
use super::crowd::{Crowd, JOIN, PUSH};
use super::mark::Mark;
use super::phases::TICK;
use crate::serializer::client_text;

impl Crowd<'_> {
    /// Publishes until the time is over, then waits for the last deliveries.
    pub(super) fn publish_all(&mut self, asked: &AtomicBool) -> Result<(), LoadError> {
        let start = self.began.elapsed();
        if self.config.inflight.is_some() {
            self.publish_in_flight(asked)?;
        } else {
            self.publish_at_rate(start, asked)?;
        }
        let ended = self.began.elapsed();
        self.wait_for(asked, Self::missing)?;
        // Without the wait for what never came.
        self.report.running = if self.report.lost == 0 {
            self.began.elapsed() - start
        } else {
            ended - start
        };
        self.surplus()
    }

    fn publish_at_rate(&mut self, start: Duration, asked: &AtomicBool) -> Result<(), LoadError> {
        let seconds = self.config.seconds.as_secs_f64();
        let messages = (self.config.rate * seconds).round() as u64;
        let between = Duration::from_secs_f64(1.0 / self.config.rate);
        let mut next = 0;
        while next < messages && self.goes_on(asked) {
            let due = start + between.mul_f64(next as f64);
            let now = self.began.elapsed();
            if now < due {
                self.turn((due - now).min(TICK))?;
                self.heartbeat();
                continue;
            }
            self.report.behind = self.report.behind.max(now - due);
            if !self.publish(next as usize % self.topics.len(), due) {
                self.report.held_back += 1;
            }
            next += 1;
            // A load that is behind its schedule reads all the same.
            if next.is_multiple_of(16) {
                self.turn(Duration::ZERO)?;
                self.heartbeat();
            }
        }
        Ok(())
    }

    fn publish_in_flight(&mut self, asked: &AtomicBool) -> Result<(), LoadError> {
        let end = Instant::now() + self.config.seconds;
        self.publishes_until = Some(end);
        while self.goes_on(asked) && Instant::now() < end {
            // A topic may have room because a member has left, or because its publisher reads again.
            for topic in 0..self.topics.len() {
                self.refill(topic);
            }
            self.turn(TICK.min(end.saturating_duration_since(Instant::now())))?;
            self.heartbeat();
        }
        self.publishes_until = None;
        Ok(())
    }

    /// Publishes until the topic has its messages in flight.
    pub(super) fn refill(&mut self, topic: usize) {
        let (Some(inflight), Some(end)) = (self.config.inflight, self.publishes_until) else {
            return;
        };
        while self.topics[topic].in_flight.len() < inflight && Instant::now() < end {
            if self.receivers(topic) == 0 || !self.publish(topic, self.began.elapsed()) {
                return;
            }
        }
    }

    /// The members that a message of the topic goes to.
    fn receivers(&self, topic: usize) -> u32 {
        let sender = u32::from(self.config.others);
        self.topics[topic].members.saturating_sub(sender)
    }

    /// Publishes a message on a topic. It was due at `due`, since the beginning. Returns whether a publisher could send
    /// it.
    fn publish(&mut self, topic: usize, due: Duration) -> bool {
        let Some(place) = self.topics[topic].next() else {
            return false;
        };
        let client = self.topics[topic].publishers[place].client;
        if self.clients[client].is_stuck() {
            return false;
        }
        if self.config.inflight.is_some() {
            let receivers = self.receivers(topic);
            self.topics[topic].fly(place, receivers);
        }
        let publisher = &mut self.topics[topic].publishers[place];
        let mark = Mark {
            due: due.as_nanos() as u64,
            publisher: place as u16,
            number: publisher.sent,
        };
        publisher.sent += 1;
        self.report.messages += 1;
        let payload = self.template.payload(&self.marks, mark);
        let topic = &self.topics[topic].name;
        let reference = format!("{PUSH}{}", mark.number);
        let text = client_text(Some(JOIN), &reference, topic, self.config.event(), &payload);
        self.send_text(client, &text);
        true
    }

    /// Reads for a moment more, because a doubled message may come after the last one.
    fn surplus(&mut self) -> Result<(), LoadError> {
        let end = Instant::now() + TICK;
        while Instant::now() < end {
            self.turn(TICK)?;
        }
        Ok(())
    }

    /// The deliveries that have not come, of the clients whose connections are open.
    fn missing(&self) -> u64 {
        let clients = self.clients.iter().enumerate();
        let joined = clients.filter(|(_, client)| client.state == State::Joined);
        let missing = joined.map(|(at, client)| {
            let due = self.topics[client.topic].due(at, self.config.others);
            due.saturating_sub(client.received)
        });
        missing.sum()
    }
}
