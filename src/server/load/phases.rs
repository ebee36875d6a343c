//! The phases of a load: the clients join, stay, and leave. `publish` and `echo` have what they do between.

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
            self.give_up_if_silent();
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, client: usize) -> Result<(), LoadError> {
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

    /// Ends the clients that wait for an answer, if none of them has had one for long.
    pub(super) fn give_up_if_silent(&mut self) {
        if self.pending == 0 || self.moved.elapsed() <= PATIENCE {
            return;
        }
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
