//! The phases of a load: the clients join, publish or stay, and leave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::LoadError;
use super::client::{Client, State};
use super::crowd::Crowd;
use super::frame::opcode;
use crate::serializer::heartbeat_text;

/// Connections that are opened at the same time.
const CONNECTING: usize = 200;
/// The longest wait for a handshake, a join or a delivery.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait for deliveries after the load was asked to end.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// The longest wait for the connections to close.
const LEAVING: Duration = Duration::from_secs(2);
/// The time between two heartbeats of a client, as in phoenix.js.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The longest sleep, after which the clock and the signals are looked at.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// The close code of a client that leaves: 1000.
const NORMAL: [u8; 2] = 1_000_u16.to_be_bytes();

impl Crowd<'_> {
    /// Connects and joins all clients, at the configured rate.
    pub(super) fn join_all(&mut self, asked: &AtomicBool) -> Result<(), LoadError> {
        let between = Duration::from_secs_f64(1.0 / self.config.connect_rate);
        let mut next = 0;
        self.began = Instant::now();
        self.moved = self.began;
        while (next < self.clients.len() || self.pending > 0) && !asked.load(Ordering::Relaxed) {
            let due = between.mul_f64(next as f64);
            let wait = due.saturating_sub(self.began.elapsed());
            if next == self.clients.len() || self.pending >= CONNECTING {
                self.turn(TICK)?;
            } else if !wait.is_zero() {
                self.turn(wait.min(TICK))?;
            } else {
                self.connect(next)?;
                next += 1;
                // Those that are on their way go on, too.
                if self.pending.is_multiple_of(16) {
                    self.turn(Duration::ZERO)?;
                }
            }
            self.heartbeat();
            if self.pending > 0 && self.moved.elapsed() > PATIENCE {
                self.give_up();
            }
        }
        Ok(())
    }

    fn connect(&mut self, client: usize) -> Result<(), LoadError> {
        let opened = self.report.connected;
        let failed = |source| LoadError::System { opened, source };
        let address = self.address_of(client);
        let stream = self.clients[client].connect(address, self.tls.as_ref());
        let stream = stream.map_err(failed)?;
        self.poll.add(stream, client, true).map_err(failed)?;
        self.pending += 1;
        self.moved = Instant::now();
        Ok(())
    }

    /// Ends the clients that get no answer.
    fn give_up(&mut self) {
        for client in 0..self.clients.len() {
            let reason = match self.clients[client].state {
                State::Connecting => "no connection in 10 s",
                State::Upgrading => "no answer to the handshake in 10 s",
                State::Joining => "no reply to the join in 10 s",
                State::New | State::Joined | State::Ended => continue,
            };
            self.end(client, reason);
        }
    }

    /// Publishes at the configured rate, then waits for the last deliveries.
    pub(super) fn publish_all(&mut self, asked: &AtomicBool) -> Result<(), LoadError> {
        let seconds = self.config.seconds.as_secs_f64();
        let messages = (self.config.rate * seconds).round() as u64;
        let between = Duration::from_secs_f64(1.0 / self.config.rate);
        let start = self.began.elapsed();
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
            self.publish(next as usize % self.topics.len(), due);
            next += 1;
            // A load that is behind its schedule reads all the same.
            if next.is_multiple_of(16) {
                self.turn(Duration::ZERO)?;
                self.heartbeat();
            }
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

    /// Reads until nothing is `missing`, or nothing has come for a while: what is missing then is lost.
    pub(super) fn wait_for(
        &mut self,
        asked: &AtomicBool,
        missing: fn(&Self) -> u64,
    ) -> Result<(), LoadError> {
        self.moved = Instant::now();
        loop {
            let patience = if asked.load(Ordering::Relaxed) {
                SHORT_PATIENCE
            } else {
                PATIENCE
            };
            self.report.lost = missing(self);
            if self.report.lost == 0 || self.moved.elapsed() > patience {
                return Ok(());
            }
            self.turn(TICK)?;
            self.heartbeat();
        }
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

    /// Keeps the clients connected.
    pub(super) fn stay(&mut self, asked: &AtomicBool) -> Result<(), LoadError> {
        let start = Instant::now();
        while start.elapsed() < self.config.seconds && self.goes_on(asked) {
            self.turn(TICK)?;
            self.heartbeat();
        }
        self.report.running = start.elapsed();
        Ok(())
    }

    /// Whether nobody has asked the load to end, and there is a client.
    pub(super) fn goes_on(&self, asked: &AtomicBool) -> bool {
        let has_clients = self.report.closed.total() < self.report.joined;
        has_clients && !asked.load(Ordering::Relaxed)
    }

    /// Sends the heartbeats that are due, evenly in time.
    pub(super) fn heartbeat(&mut self) {
        let count = self.clients.len();
        let rounds = self.began.elapsed().as_secs_f64() / HEARTBEAT.as_secs_f64();
        let due = (rounds * count as f64) as u64;
        let heartbeat = heartbeat_text("h");
        while self.heartbeats < due {
            let client = self.heartbeats as usize % count;
            self.heartbeats += 1;
            if self.clients[client].state == State::Joined {
                self.send_text(client, &heartbeat);
            }
        }
    }

    /// Closes all connections in order, and notes the time that the load has used.
    pub(super) fn leave_all(&mut self) -> Result<(), LoadError> {
        self.is_leaving = true;
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        self.report.cpu = Duration::try_from(cpu).unwrap_or_default();
        for client in 0..self.clients.len() {
            if self.clients[client].is_open() {
                self.send_frame(client, opcode::CLOSE, &NORMAL);
            }
        }
        let end = Instant::now() + LEAVING;
        let is_open = |crowd: &Self| crowd.clients.iter().any(Client::is_open);
        while is_open(self) && Instant::now() < end {
            self.turn(TICK)?;
        }
        Ok(())
    }
}
