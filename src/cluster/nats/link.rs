//! [`Link`]: the bus while it is up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Interval, MissedTickBehavior, interval_at, timeout};

use super::connection::{ALL, FIRST_TOPIC, LIFE, Line, NODE, Opened};
use super::error::Lost;
use super::lives::Sign;
use super::protocol::{self, Op};
use super::subjects::Subjects;
use super::unconfirmed::{Asked, Unconfirmed};
use super::{Command, Shared};
use crate::cluster::counters::add;
use crate::lock::lock;

/// How many topics are subscribed before the rest is looked at again.
const TOPICS_AT_ONCE: usize = 512;

/// How many commands of the bus are taken before the connection is looked at again.
const COMMANDS_AT_ONCE: usize = 64;

/// The bus while it is up.
pub(super) struct Link<'a> {
    shared: &'a Arc<Shared>,
    line: Line,
    subjects: Subjects,
    /// The longest message that the server takes.
    max_payload: usize,
    /// The topics of the subscriptions.
    by_sid: HashMap<u64, Arc<str>>,
    sids: HashMap<Arc<str>, u64>,
    next_sid: u64,
    /// What was written since the last PING.
    unconfirmed: Unconfirmed,
    /// The PING that has no answer yet. There is at most one.
    asked: Option<Asked>,
    /// When the own sign of life came back last.
    echoed: Instant,
    has_left: bool,
}

impl<'a> Link<'a> {
    /// Begins with an open connection.
    pub(super) fn new(shared: &'a Arc<Shared>, opened: Opened) -> Self {
        Self {
            shared,
            line: opened.line,
            subjects: opened.subjects,
            max_payload: opened.info.longest_message(),
            by_sid: HashMap::new(),
            sids: HashMap::new(),
            next_sid: FIRST_TOPIC,
            unconfirmed: Unconfirmed::default(),
            asked: None,
            echoed: Instant::now(),
            has_left: false,
        }
    }

    /// Runs until the connection is lost, or, with `Ok`, until the owner has dropped the bus.
    pub(super) async fn run(
        mut self,
        commands: &mut UnboundedReceiver<Command>,
    ) -> Result<(), Lost> {
        let timing = self.shared.options.timing;
        let mut pings = every(timing.ping_every);
        let mut renewals = every(timing.renew_every);
        self.give_sign();
        loop {
            self.subscribe();
            self.ask();
            let has_room = self.line.has_room();
            tokio::select! {
                _ = pings.tick() => self.ping()?,
                _ = renewals.tick() => self.renew()?,
                moved = self.line.moved() => {
                    moved?;
                    self.read()?;
                }
                command = commands.recv(), if has_room => {
                    let Some(command) = command else {
                        return self.end().await;
                    };
                    self.command(command);
                    for _ in 1..COMMANDS_AT_ONCE {
                        let Ok(command) = commands.try_recv() else { break };
                        self.command(command);
                    }
                }
            }
        }
    }

    /// Carries out a command.
    fn command(&mut self, command: Command) {
        match command {
            Command::Attach(topic) => {
                let is_subscribed = lock(&self.shared.topics).attach(&topic);
                if is_subscribed {
                    self.shared.events.attached(&topic);
                }
            }
            Command::Detach(topic) => lock(&self.shared.topics).detach(&topic),
            Command::Send { message, .. } if message.len() > self.max_payload => {
                self.too_long(&message);
            }
            Command::Send {
                to,
                message,
                waiting,
                taken,
            } => {
                let subject = self.subjects.of(to.to());
                protocol::publish(&mut self.line.output, &subject, &message);
                add(&self.shared.counters.sent, 1);
                self.unconfirmed.sent(waiting, taken);
            }
            Command::Leave(left) => {
                self.has_left = true;
                self.give_sign();
                self.unconfirmed.leaves = Some(left);
            }
        }
    }

    /// The server would close the connection. Whoever needs the message gets it from the database.
    fn too_long(&self, message: &Bytes) {
        add(&self.shared.counters.dropped, 1);
        if let Some(dropped) = self.shared.too_long.count() {
            tracing::warn!(
                bytes = message.len(),
                max_payload = self.max_payload,
                dropped,
                "cluster.message.too_long: NATS takes no message of this length; saved messages reach other nodes \
                 a second late, others do not; raise max_payload in the configuration of NATS"
            );
        }
    }

    /// Subscribes and unsubscribes what is due.
    fn subscribe(&mut self) {
        while self.line.has_room() {
            let Some(batch) = lock(&self.shared.topics).batch(TOPICS_AT_ONCE) else {
                return;
            };
            for topic in &batch.subscribe {
                let sid = self.next_sid;
                self.next_sid += 1;
                protocol::subscribe(&mut self.line.output, &self.subjects.topic(topic), sid);
                self.by_sid.insert(sid, Arc::clone(topic));
                self.sids.insert(Arc::clone(topic), sid);
            }
            for topic in &batch.unsubscribe {
                if let Some(sid) = self.sids.remove(topic) {
                    protocol::unsubscribe(&mut self.line.output, sid);
                    self.by_sid.remove(&sid);
                }
            }
            self.unconfirmed.subscribed(batch);
        }
    }

    /// Asks the server to confirm what was written, once it has confirmed what was before.
    fn ask(&mut self) {
        if self.asked.is_none() && !self.unconfirmed.is_empty() {
            self.write_ping();
        }
    }

    fn write_ping(&mut self) {
        protocol::ping(&mut self.line.output);
        self.asked = Some(Asked {
            since: Instant::now(),
            about: std::mem::take(&mut self.unconfirmed),
        });
    }

    /// Sees that the server answers.
    fn ping(&mut self) -> Result<(), Lost> {
        let limit = self.shared.options.timing.answer;
        match &self.asked {
            Some(asked) if asked.since.elapsed() > limit => Err(Lost::Silent),
            Some(_) => Ok(()),
            None => {
                self.write_ping();
                Ok(())
            }
        }
    }

    /// Gives the next sign of life, and sees that the last ones came back.
    fn renew(&mut self) -> Result<(), Lost> {
        if self.has_left {
            return Ok(());
        }
        let timing = self.shared.options.timing;
        if self.echoed.elapsed() > 2 * timing.renew_every + timing.answer {
            return Err(Lost::NoEcho);
        }
        lock(&self.shared.lives).forget(Instant::now());
        self.give_sign();
        Ok(())
    }

    fn give_sign(&mut self) {
        let sign = Sign {
            node: self.shared.me,
            lives: !self.has_left,
        };
        protocol::publish(&mut self.line.output, &self.subjects.life(), &sign.encode());
    }

    /// Goes on after what the server has sent.
    fn read(&mut self) -> Result<(), Lost> {
        while let Some(op) = self.line.next()? {
            match op {
                Op::Message { sid, payload } => self.message(sid, payload),
                Op::Ping => protocol::pong(&mut self.line.output),
                Op::Pong => self.confirmed(),
                Op::Info(info) => self.max_payload = info.longest_message(),
                Op::Ok => {}
                // Without the subscription that it refuses, or the message, the node would be deaf or dumb.
                Op::Error(text) => return Err(Lost::Server(text)),
            }
        }
        Ok(())
    }

    /// A message of a subscription. One whose end is written has none here.
    fn message(&mut self, sid: u64, payload: Bytes) {
        let shared = self.shared;
        if sid == LIFE {
            if let Some(sign) = Sign::decode(&payload) {
                if sign.node == shared.me {
                    self.echoed = Instant::now();
                }
                lock(&shared.lives).heard(sign, Instant::now());
            }
            return;
        }
        add(&shared.counters.received, 1);
        if sid == ALL || sid == NODE {
            shared.events.told(payload);
        } else if let Some(topic) = self.by_sid.get(&sid) {
            shared.events.arrived(topic, None, payload);
        }
    }

    /// The server has done all that was written before the last PING.
    fn confirmed(&mut self) {
        let Some(Asked { mut about, .. }) = self.asked.take() else {
            return;
        };
        about.confirm_sent();
        for topic in &about.topics.unsubscribe {
            lock(&self.shared.topics).unsubscribed(topic);
        }
        for topic in &about.topics.subscribe {
            let is_attached = lock(&self.shared.topics).subscribed(topic);
            if is_attached {
                self.shared.events.attached(topic);
            }
        }
        if let Some(left) = about.leaves {
            // Nobody may wait any longer.
            let _ = left.send(());
        }
    }

    /// The owner has dropped the bus: waits a little until the server has taken everything.
    async fn end(mut self) -> Result<(), Lost> {
        let limit = self.shared.options.timing.answer;
        let rest = async {
            self.ask();
            while self.asked.is_some() || !self.line.output.is_empty() {
                self.line.moved().await?;
                self.read()?;
                self.ask();
            }
            Ok(())
        };
        timeout(limit, rest).await.unwrap_or(Ok(()))
    }
}

/// Ticks after each `period`. A tick that is missed is left out.
fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
