//! The storm: all clients but a few lose their connections at once, come back, and resume. The few send requests all the
//! while, and their replies show what a client notices that has stayed.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::LoadError;
use super::client::State;
use super::crowd::Crowd;
use super::phases::TICK;
use super::report::{Storm, times};
use crate::server::config::LoadMode;

/// The sockets are looked at after so many new connections.
const CONNECTS: usize = 16;

/// The reply to a join that asks for the ids of messages.
#[derive(Deserialize)]
struct Resumed {
    #[serde(default)]
    recovered: bool,
    last_id: Option<String>,
}

/// Requests at a rate.
struct Pace {
    since: Instant,
    sent: u64,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            sent: 0,
        }
    }
}

impl Crowd<'_> {
    /// The clients that lose their connections.
    pub(super) fn breaking_off(&self) -> Range<usize> {
        let count = self.clients.len();
        self.config.stay.min(count)..count
    }

    /// Sends requests for a while, and again while all others come back.
    pub(super) fn storm(&mut self, asked: &AtomicBool) -> Result<(), LoadError> {
        let start = Instant::now();
        self.report.is_echo = true;
        let mut pace = Pace::new();
        while start.elapsed() < self.config.seconds && self.goes_on(asked) {
            self.ask_in_turn(&mut pace);
            self.turn(self.until_next(&pace))?;
            self.heartbeat();
        }
        self.wait_for(asked, Self::unanswered)?;
        self.come_back(asked)?;
        self.wait_for(asked, Self::unanswered)?;
        self.report.running = start.elapsed();
        Ok(())
    }

    /// Breaks all connections off but those of clients that stay, and opens them again.
    fn come_back(&mut self, asked: &AtomicBool) -> Result<(), LoadError> {
        let mut away: Vec<usize> = self.breaking_off().collect();
        away.retain(|&client| self.clients[client].state == State::Joined);
        let start = Instant::now();
        for &client in &away {
            let this = &mut self.clients[client];
            this.break_off();
            self.topics[this.topic].left(client, &this.tracks);
        }
        self.report.joined -= away.len() as u64;
        self.report.connected -= away.len() as u64;
        self.report.storm = Some(Storm {
            quiet: std::mem::replace(&mut self.report.times, times()),
            away: away.len() as u64,
            back: 0,
            resumed: 0,
            took: Duration::ZERO,
        });
        self.moved = start;
        let mut pace = Pace::new();
        for clients in away.chunks(CONNECTS) {
            for &client in clients {
                self.connect(client)?;
            }
            self.ask_in_turn(&mut pace);
            self.turn(Duration::ZERO)?;
        }
        while self.pending > 0 && !asked.load(Ordering::Relaxed) {
            self.ask_in_turn(&mut pace);
            self.turn(self.until_next(&pace))?;
            self.heartbeat();
            self.give_up_if_silent();
        }
        if let Some(storm) = &mut self.report.storm {
            storm.took = start.elapsed();
        }
        Ok(())
    }

    /// Sends the requests that are due, each of the next client that stays.
    fn ask_in_turn(&mut self, pace: &mut Pace) {
        let due = pace.since.elapsed().as_secs_f64() * self.config.rate;
        let staying = self.breaking_off().start as u64;
        while (pace.sent as f64) < due {
            self.ask((pace.sent % staying) as usize);
            pace.sent += 1;
        }
    }

    fn until_next(&self, pace: &Pace) -> Duration {
        let next = Duration::from_secs_f64(pace.sent as f64 / self.config.rate);
        next.saturating_sub(pace.since.elapsed()).min(TICK)
    }

    /// The params of a join. In a storm a client names what it has seen.
    pub(super) fn join_params(&self, client: usize, channel: u16) -> Cow<'_, str> {
        if self.config.mode != LoadMode::Storm {
            return Cow::Borrowed(&self.config.join);
        }
        let params = serde_json::from_str::<Map<String, Value>>(&self.config.join);
        let mut params = params.unwrap_or_default();
        params.insert("meta".to_owned(), true.into());
        let seen = self.clients[client].seen.get(usize::from(channel - 1));
        if let Some(Some(seen)) = seen {
            params.insert("last_seen_id".to_owned(), seen.as_str().into());
        }
        Cow::Owned(Value::Object(params).to_string())
    }

    /// Notes from the reply to a join what the client has seen, and whether it has missed nothing.
    pub(super) fn note_seen(&mut self, client: usize, reference: &str, response: &RawValue) {
        if self.config.mode != LoadMode::Storm {
            return;
        }
        let Ok(reply) = serde_json::from_str::<Resumed>(response.get()) else {
            return;
        };
        if let Some(storm) = &mut self.report.storm {
            storm.resumed += u64::from(reply.recovered);
        }
        let channel = reference.parse::<usize>().unwrap_or_default();
        let seen = &mut self.clients[client].seen;
        seen.resize(usize::from(self.config.channels), None);
        if let Some(seen) = channel.checked_sub(1).and_then(|at| seen.get_mut(at)) {
            *seen = reply.last_id;
        }
    }
}
