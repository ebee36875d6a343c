//! [`Link`]: the bus while it is up.

use std::sync::Arc;
use std::time::Instant;

use ::redis::{Cmd, Pipeline, RedisError, Value};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, try_join};
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::{Interval, MissedTickBehavior, interval_at, timeout};

use super::Shared;
use super::command::{Command, Question};
use super::connection::{MOST_UNANSWERED, Pair};
use super::error::Lost;
use super::keys::Kind;
use super::publishing::Publish;
use super::questions::{Asking, KEPT_SECONDS};
use super::renewals::Renewals;
use super::reply::{self, ask};
use super::scripts::Scripts;
use super::stored::{Removal, Stored};
use crate::cluster::bus::Answer;
use crate::cluster::counters::{Waiting, add};
use crate::cluster::topics::Batch;
use crate::lock::lock;

/// How many channels one SUBSCRIBE has at most. Many in one cost the server a sixth of as many alone.
const CHANNELS_AT_ONCE: usize = 512;

/// How many SUBSCRIBE and UNSUBSCRIBE may be unconfirmed.
const MOST_BATCHES: usize = 8;

/// How many commands of the bus are taken before replies are looked at again.
const COMMANDS_AT_ONCE: usize = 64;

/// What a future of [`Link`] has ended with.
enum Done {
    /// The reply to a publish.
    Published(u64, Instant, Result<Value, RedisError>),
    /// The scripts are loaded again.
    Loaded(Result<Scripts, RedisError>),
    /// A SUBSCRIBE or an UNSUBSCRIBE is confirmed.
    Subscribed(Result<(), RedisError>),
    /// Rows have left a journal.
    Removed(Result<(), RedisError>),
    /// Both connections have answered a PING, or not in time.
    Pinged(Option<Result<(), RedisError>>),
    /// The liveness key was renewed: whether it existed.
    Renewed(Result<Value, RedisError>),
    /// Anything else.
    Other(Result<(), RedisError>),
}

/// The bus while it is up. Every reply is awaited by a future in `unanswered`, and all state changes between
/// two of them.
pub(super) struct Link<'a> {
    shared: &'a Arc<Shared>,
    pair: Pair,
    asking: Arc<Asking>,
    stored: &'a mut Stored,
    renewals: &'a mut Renewals,
    unanswered: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Whether the scripts are being loaded again. Publishes wait meanwhile, to keep their order.
    loading: bool,
    /// How many SUBSCRIBE and UNSUBSCRIBE are unconfirmed.
    batches: usize,
    /// Whether a PING is not answered.
    pinging: bool,
    /// Who waits for the node's leave, until the rest is done.
    leaving: Option<oneshot::Sender<()>>,
    /// The sign of life is taken back, or is about to be.
    has_left: bool,
}

impl<'a> Link<'a> {
    /// Begins with open connections.
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        pair: Pair,
        stored: &'a mut Stored,
        renewals: &'a mut Renewals,
    ) -> Self {
        Self {
            shared,
            asking: Arc::new(Asking::new(&pair, shared.me)),
            pair,
            stored,
            renewals,
            unanswered: FuturesUnordered::new(),
            loading: false,
            batches: 0,
            pinging: false,
            leaving: None,
            has_left: false,
        }
    }

    /// Runs until the connections are lost, or, with `Ok`, until the owner has dropped the bus.
    pub(super) async fn run(
        mut self,
        commands: &mut UnboundedReceiver<Command>,
    ) -> Result<(), Lost> {
        let timing = self.shared.options.timing;
        let mut pings = every(timing.ping_every);
        let mut renewals = every(timing.renew_every);
        self.check_era()?;
        self.write_publishes();
        self.subscribe();
        self.remove_stored();
        loop {
            let has_room = self.unanswered.len() < MOST_UNANSWERED;
            tokio::select! {
                biased;
                () = self.pair.lost.notified() => return Err(Lost::Closed),
                _ = pings.tick() => self.ping()?,
                _ = renewals.tick() => self.renew(),
                Some(done) = self.unanswered.next() => self.done(done)?,
                command = commands.recv(), if has_room => {
                    let Some(command) = command else {
                        return self.end().await;
                    };
                    self.command(command);
                    for _ in 1..COMMANDS_AT_ONCE {
                        let Ok(command) = commands.try_recv() else { break };
                        self.command(command);
                    }
                    self.check_era()?;
                    self.subscribe();
                    self.remove_stored();
                }
            }
        }
    }

    /// Ends the connection if its era is over.
    fn check_era(&self) -> Result<(), Lost> {
        if self.shared.events.era() == self.pair.era {
            Ok(())
        } else {
            Err(Lost::Era)
        }
    }

    /// Carries out a command.
    fn command(&mut self, command: Command) {
        match command {
            Command::Publish(nonce) => {
                // In a new era it is written to the next connection.
                if !self.loading
                    && self.check_era().is_ok()
                    && let Some(publish) = lock(&self.shared.publishes).write(nonce)
                {
                    self.publish(nonce, &publish);
                }
            }
            Command::Send {
                to,
                message,
                waiting,
                taken,
            } => {
                let mut publish = ::redis::cmd("PUBLISH");
                publish
                    .arg(self.pair.keys.channel(to.to()))
                    .arg(&message[..]);
                self.send(publish, waiting, taken);
            }
            Command::Attach(topic) => {
                let is_subscribed = lock(&self.shared.topics).attach(&topic);
                if is_subscribed {
                    self.shared.events.attached(&topic);
                }
            }
            Command::Detach(topic) => lock(&self.shared.topics).detach(&topic),
            Command::Stored(topic, seqs) => self.stored.add(topic, seqs, &self.shared.counters),
            Command::Ask(Question::Leave(answer)) => {
                self.leaving = Some(answer);
                self.leave_if_done();
            }
            Command::Ask(question) => self.ask(question),
            // The link looks after each command.
            Command::ChangeEra => {}
        }
    }

    /// Expects the end of a future, which writes a command when it is polled first. Commands are written in
    /// the order of calls: the futures are polled first in that order, and none yields before it has written,
    /// as tokio would have it after many of them.
    fn expect(&self, done: impl Future<Output = Done> + Send + 'static) {
        self.unanswered.push(unconstrained(done).boxed());
    }

    /// Writes a publish.
    fn publish(&self, nonce: u64, publish: &Publish) {
        let call = self.pair.publish(publish, &self.shared.options);
        let connection = self.pair.commands.clone();
        let written = Instant::now();
        let reply = async move { Done::Published(nonce, written, ask(&connection, call).await) };
        self.expect(reply);
    }

    /// Writes all publishes that wait, in the order of calls.
    fn write_publishes(&self) {
        let all = lock(&self.shared.publishes).write_all();
        for (nonce, publish) in all {
            self.publish(nonce, &publish);
        }
    }

    /// Writes a message that needs no order.
    fn send(&self, publish: Cmd, waiting: Waiting, taken: Option<oneshot::Sender<()>>) {
        add(&self.shared.counters.sent, 1);
        let connection = self.pair.commands.clone();
        let sent = async move {
            let reply = ask(&connection, publish).await;
            drop(waiting);
            if let Some(taken) = taken.filter(|_| reply.is_ok()) {
                // A sender that waits no longer needs no answer.
                let _ = taken.send(());
            }
            Done::Other(reply.map(drop))
        };
        self.expect(sent);
    }

    /// Puts a question. After the limit it has no answer.
    fn ask(&self, question: Question) {
        let limit = question.limit(self.shared.options.timing.answer);
        let put = Arc::clone(&self.asking).put(question);
        let answered = async move { Done::Other(timeout(limit, put).await.unwrap_or(Ok(()))) };
        self.expect(answered);
    }

    /// Subscribes and unsubscribes what is due. Few topics wait for the commands under way, so that the next
    /// command has more of them.
    fn subscribe(&mut self) {
        let mut topics = lock(&self.shared.topics);
        while self.batches == 0
            || (self.batches < MOST_BATCHES && topics.waiting() >= CHANNELS_AT_ONCE)
        {
            let Some(batch) = topics.batch(CHANNELS_AT_ONCE) else {
                return;
            };
            self.batches += 1;
            self.expect(self.subscription(&batch));
        }
    }

    /// Writes one SUBSCRIBE and one UNSUBSCRIBE.
    fn subscription(&self, batch: &Batch) -> impl Future<Output = Done> + Send + use<> {
        let channels = |topics: &[Arc<str>]| -> Vec<String> {
            let channel = |topic: &Arc<str>| self.pair.keys.topic(topic, Kind::Channel);
            topics.iter().map(channel).collect()
        };
        let (on, off) = (channels(&batch.subscribe), channels(&batch.unsubscribe));
        let mut connection = self.pair.subscriptions.clone();
        let subscribed = async move {
            if !on.is_empty() {
                connection.subscribe(on).await?;
            }
            if !off.is_empty() {
                connection.unsubscribe(off).await?;
            }
            Ok(())
        };
        subscribed.map(Done::Subscribed)
    }

    /// Begins the next round of removals from journals, if the last one is over.
    fn remove_stored(&mut self) {
        let keys = &self.pair.keys;
        let removal = |(topic, seqs): &Removal| {
            let mut remove = ::redis::cmd("HDEL");
            remove.arg(keys.topic(topic, Kind::Journal));
            for seq in seqs {
                remove.arg(seq.get());
            }
            remove
        };
        let round: Vec<Cmd> = self.stored.next_round().iter().map(removal).collect();
        for remove in round {
            let connection = self.pair.commands.clone();
            let removed = async move { ask(&connection, remove).await.map(drop) };
            self.expect(removed.map(Done::Removed));
        }
    }

    /// Sends a PING over both connections, and looks for echoes that are late.
    fn ping(&mut self) -> Result<(), Lost> {
        let (shared, timing) = (self.shared, self.shared.options.timing);
        let is_late = {
            let topics = lock(&shared.topics);
            let was_subscribed_at = |topic: &str, at| topics.was_subscribed_at(topic, at);
            let mut publishes = lock(&shared.publishes);
            publishes
                .echoes
                .is_late(Instant::now(), timing.echo, was_subscribed_at)
        };
        if is_late {
            return Err(Lost::NoEcho);
        }
        if !std::mem::replace(&mut self.pinging, true) {
            let (one, other) = (self.pair.commands.clone(), self.pair.subscriptions.clone());
            let pinged = async move {
                let both = try_join(
                    ask(&one, ::redis::cmd("PING")),
                    ask(&other, ::redis::cmd("PING")),
                );
                let both = timeout(timing.answer, both).await.ok();
                Done::Pinged(both.map(|both| both.map(drop)))
            };
            self.expect(pinged);
        }
        Ok(())
    }

    /// Takes back the sign of life, once the journals have nothing that the database has.
    fn leave_if_done(&mut self) {
        if self.stored.is_done()
            && let Some(answer) = self.leaving.take()
        {
            self.has_left = true;
            self.ask(Question::Leave(answer));
        }
    }

    /// Renews the liveness key and the keys of some topics.
    fn renew(&mut self) {
        if self.has_left {
            return;
        }
        let life = self.shared.options.timing.liveness.as_millis();
        let mut renew = ::redis::cmd("PEXPIRE");
        renew
            .arg(self.pair.keys.node(self.shared.me))
            .arg(u64::try_from(life).unwrap_or(u64::MAX));
        let connection = self.pair.commands.clone();
        let renewed = async move { Done::Renewed(ask(&connection, renew).await) };
        self.expect(renewed);

        let topics = self
            .renewals
            .take(Instant::now(), &lock(&self.shared.topics));
        if topics.is_empty() {
            return;
        }
        let mut renewals = Pipeline::with_capacity(topics.len());
        for topic in topics {
            let key = self.pair.keys.topic(&topic, Kind::Topic);
            renewals.cmd("EXPIRE").arg(key).arg(KEPT_SECONDS).ignore();
        }
        let mut connection = self.pair.commands.clone();
        let renewed = async move { Done::Other(renewals.exec_async(&mut connection).await) };
        self.expect(renewed);
    }

    /// Goes on after a reply.
    fn done(&mut self, done: Done) -> Result<(), Lost> {
        match done {
            Done::Published(nonce, written, reply) => self.published(nonce, written, reply)?,
            Done::Loaded(scripts) => {
                self.pair.scripts = scripts?;
                self.loading = false;
                self.write_publishes();
            }
            Done::Subscribed(result) => {
                // Half of a batch would leave the books wrong.
                result?;
                self.batches -= 1;
                self.subscribe();
            }
            Done::Removed(result) => {
                result.or_else(Lost::by)?;
                self.stored.confirmed();
                self.remove_stored();
                self.leave_if_done();
            }
            Done::Pinged(answered) => {
                answered.ok_or(Lost::Silent)??;
                self.pinging = false;
            }
            Done::Renewed(existed) => self.renewed(&existed?),
            Done::Other(result) => result.or_else(Lost::by)?,
        }
        Ok(())
    }

    /// Answers a publish.
    fn published(
        &mut self,
        nonce: u64,
        written: Instant,
        reply: Result<Value, RedisError>,
    ) -> Result<(), Lost> {
        let answer = match reply {
            Ok(reply) => reply::answer(&reply),
            Err(error) if reply::is_no_script(&error) => {
                self.load_again(nonce);
                return Ok(());
            }
            Err(error) if reply::is_out_of_memory(&error) => {
                self.full(&error);
                Some(Answer::Full)
            }
            Err(error) if reply::is_fatal(&error) => return Err(error.into()),
            Err(error) => {
                tracing::error!(
                    %error,
                    "cluster.publish.failed: Redis could not order a message; see that nothing else \
                     writes keys with the prefix of this cluster"
                );
                None
            }
        };
        let counters = &self.shared.counters;
        let micros = written.elapsed().as_micros();
        add(
            &counters.reply_micros,
            u64::try_from(micros).unwrap_or(u64::MAX),
        );
        add(&counters.replies, 1);
        let answer = answer.unwrap_or(Answer::Unconfirmed);
        if answer == Answer::Full {
            add(&counters.refused, 1);
        }
        let Some(ended) = self.shared.answer(nonce, answer) else {
            return Ok(());
        };
        if matches!(answer, Answer::Taken(_)) && !ended.echoed {
            let topic = &ended.publish.topic;
            let is_subscribed = lock(&self.shared.topics).was_subscribed_at(topic, written);
            if is_subscribed {
                lock(&self.shared.publishes).expect_echo(nonce, topic, written);
            }
        }
        Ok(())
    }

    /// The server has no memory left.
    fn full(&self, error: &RedisError) {
        if let Some(refused) = self.shared.full.count() {
            tracing::error!(
                %error, refused,
                "cluster.redis.full: Redis has no memory for messages, and they are refused; raise its maxmemory, or \
                 see why the database does not take what waits"
            );
        }
    }

    /// The server does not know the scripts any more. All publishes up to the reply of SCRIPT LOAD come here,
    /// and are written again after it.
    fn load_again(&mut self, nonce: u64) {
        lock(&self.shared.publishes).put_back(nonce);
        if !std::mem::replace(&mut self.loading, true) {
            let connection = self.pair.commands.clone();
            let loaded = async move { Done::Loaded(Scripts::load(&connection).await) };
            self.expect(loaded);
        }
    }

    /// The liveness key was renewed. If it was gone, the server has lost data, or other nodes have taken this
    /// one for dead.
    fn renewed(&mut self, existed: &Value) {
        if *existed == Value::Int(1) || self.has_left {
            return;
        }
        lock(&self.shared.publishes).make_unsure();
        let mut set = ::redis::cmd("SET");
        let life = self.shared.options.timing.liveness.as_millis();
        set.arg(self.pair.keys.node(self.shared.me))
            .arg(1)
            .arg("PX")
            .arg(u64::try_from(life).unwrap_or(u64::MAX));
        let connection = self.pair.commands.clone();
        let set = async move { Done::Other(ask(&connection, set).await.map(drop)) };
        self.expect(set);
    }

    /// The owner has dropped the bus: waits a little for what is written, and removes what is stored.
    async fn end(mut self) -> Result<(), Lost> {
        let limit = self.shared.options.timing.answer;
        let rest = async {
            while let Some(done) = self.unanswered.next().await {
                self.done(done)?;
            }
            Ok(())
        };
        timeout(limit, rest).await.unwrap_or(Ok(()))
    }
}

/// Ticks after each `period`. A tick that is missed is left out.
fn every(period: std::time::Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
