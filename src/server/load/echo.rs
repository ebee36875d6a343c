//! The echo load: every client sends an event, waits for its reply, and sends the next one.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::LoadError;
use super::client::State;
use super::crowd::{Crowd, JOIN};
use super::phases::TICK;
use crate::serializer::client_text;

/// The ref of a request begins so.
pub(super) const REQUEST: &str = "e";

/// The requests of a client that wait for their replies.
#[derive(Default)]
pub(super) struct Requests {
    /// The number of the next one.
    next: u64,
    /// Their numbers, and when they were sent.
    open: Vec<(u64, Instant)>,
}

impl Crowd<'_> {
    /// Sends requests until the time is over, then waits for the last replies.
    pub(super) fn ask_all(&mut self, asked: &AtomicBool) -> Result<(), LoadError> {
        let start = Instant::now();
        let end = start + self.config.seconds;
        self.moved = start;
        self.report.is_echo = true;
        self.asks_until = Some(end);
        for client in 0..self.clients.len() {
            for _ in 0..self.config.inflight.unwrap_or(1) {
                self.ask(client);
            }
        }
        while self.goes_on(asked) && Instant::now() < end {
            self.turn(TICK.min(end.saturating_duration_since(Instant::now())))?;
            self.heartbeat();
        }
        self.asks_until = None;
        self.wait_for(asked, Self::unanswered)?;
        self.report.running = start.elapsed();
        Ok(())
    }

    pub(super) fn ask(&mut self, client: usize) {
        let this = &mut self.clients[client];
        if this.state != State::Joined {
            return;
        }
        let number = this.requests.next;
        this.requests.next += 1;
        this.requests.open.push((number, Instant::now()));
        self.report.messages += 1;
        let topic = &self.topics[this.topic].name;
        let reference = format!("{REQUEST}{number}");
        let text = client_text(Some(JOIN), &reference, topic, self.config.event(), "{}");
        self.send_text(client, &text);
    }

    /// The reply to a request has come.
    pub(super) fn answered(&mut self, client: usize, number: &str) {
        let requests = &mut self.clients[client].requests.open;
        let number = number.parse().ok();
        let place = requests.iter().position(|(open, _)| Some(*open) == number);
        let Some(place) = place else {
            self.report.doubled += 1;
            return;
        };
        let (_, sent) = requests.swap_remove(place);
        let now = Instant::now();
        let took = now.duration_since(sent).as_nanos() as u64;
        self.report.times.saturating_record(took);
        self.report.replies += 1;
        self.moved = now;
        if self.asks_until.is_some_and(|end| now < end) {
            self.ask(client);
        }
    }

    /// The requests without a reply, of the clients whose connections are open.
    pub(super) fn unanswered(&self) -> u64 {
        let joined = self.clients.iter().filter(|it| it.state == State::Joined);
        joined.map(|client| client.requests.open.len() as u64).sum()
    }
}
