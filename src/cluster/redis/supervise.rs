//! [`supervise`]: the task of the bus. It connects, runs the connections until they are lost, and begins
//! again.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use super::command::Command;
use super::connection::{Former, Pair};
use super::doubt;
use super::error::{ConnectError, Lost, Trouble};
use super::link::Link;
use super::renewals::Renewals;
use super::stored::Stored;
use super::{NAME, Shared};
use crate::cluster::backoff::Backoff;
use crate::cluster::bus::{Answer, Entrance};
use crate::cluster::counters::add;
use crate::cluster::end_on_panic::EndOnPanic;
use crate::cluster::outage::Outage;
use crate::lock::lock;

/// Runs the bus until its owner has dropped it.
pub(super) async fn supervise(shared: Arc<Shared>, mut commands: UnboundedReceiver<Command>) {
    let _guard = EndOnPanic;
    let timing = shared.options.timing;
    let mut backoff = Backoff::new(timing.reconnect_least, timing.reconnect_most);
    let mut upkeep = Upkeep::new();
    let mut outage = Outage::new(NAME);
    while let Some((pair, entrance)) = upkeep
        .connect(&shared, &mut commands, &mut backoff, &mut outage)
        .await
    {
        let since = Instant::now();
        outage.ended(&pair.identity.process);
        shared.set_up(&pair.identity.process);
        drop(entrance);
        let link = Link::new(&shared, pair, &mut upkeep.stored, &mut upkeep.renewals);
        let Err(lost) = link.run(&mut commands).await else {
            return;
        };
        backoff.lost(since);
        outage = match lost {
            Lost::Era => Outage::meant(NAME),
            lost => Outage::begun(NAME, &lost),
        };
        upkeep.lost(&shared);
    }
}

/// What is kept from one connection to the next.
struct Upkeep {
    /// The connection that publishes were written to last.
    former: Option<Former>,
    stored: Stored,
    renewals: Renewals,
}

impl Upkeep {
    /// Before the first connection.
    fn new() -> Self {
        Self {
            former: None,
            stored: Stored::default(),
            renewals: Renewals::new(Instant::now()),
        }
    }

    /// Connects, however often it takes. Meanwhile commands are taken as of a bus that is down. `None`: the
    /// owner has dropped the bus.
    async fn connect(
        &mut self,
        shared: &Arc<Shared>,
        commands: &mut UnboundedReceiver<Command>,
        backoff: &mut Backoff,
        outage: &mut Outage<Trouble>,
    ) -> Option<(Pair, Entrance)> {
        loop {
            let (former, stored) = (&self.former, &mut self.stored);
            let opened = tokio::select! {
                opened = open(shared, former.as_ref()) => opened,
                () = take_while_down(shared, commands, stored) => return None,
            };
            match opened {
                Ok((pair, entrance)) => {
                    self.opened(&pair);
                    return Some((pair, entrance));
                }
                Err(error) => outage.failed(&error, error.trouble()),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.delay()) => {}
                () = take_while_down(shared, commands, &mut self.stored) => return None,
            }
        }
    }

    /// A connection is open.
    fn opened(&mut self, pair: &Pair) {
        let process = |former: &Former| former.process == pair.identity.process;
        if !self.former.as_ref().is_some_and(process) {
            self.stored.clear();
        }
        self.former = Some(pair.identity.clone());
    }

    /// The connection is lost.
    fn lost(&mut self, shared: &Shared) {
        self.stored.lost();
        lock(&shared.topics).lost();
        let (in_doubt, arrived) = {
            let mut publishes = lock(&shared.publishes);
            (publishes.lost(), publishes.arrived())
        };
        add(&shared.counters.in_doubt, in_doubt as u64);
        for (nonce, id) in arrived {
            shared.answer(nonce, Answer::Taken(id));
        }
        shared.set_down();
    }
}

/// Opens both connections and settles what was in doubt.
async fn open(
    shared: &Arc<Shared>,
    former: Option<&Former>,
) -> Result<(Pair, Entrance), ConnectError> {
    let (pair, entrance) = Pair::open(shared).await?;
    let is_same = former.is_some_and(|former| former.process == pair.identity.process);
    if let Some(former) = former {
        pair.kill(former, shared.options.timing.answer).await?;
    }
    if !pair.set_alive(shared).await? {
        lock(&shared.publishes).make_unsure();
    }
    if is_same {
        doubt::settle(shared, &pair).await?;
    } else {
        doubt::give_up(shared);
    }
    pair.subscribe_own(shared).await?;
    Ok((pair, entrance))
}

/// Takes commands while the bus is down. Ends when the owner has dropped the bus.
async fn take_while_down(
    shared: &Shared,
    commands: &mut UnboundedReceiver<Command>,
    stored: &mut Stored,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Attach(topic) => {
                lock(&shared.topics).attach(&topic);
            }
            Command::Detach(topic) => lock(&shared.topics).detach(&topic),
            Command::Stored(topic, seqs) => stored.add(topic, seqs, &shared.counters),
            Command::Send { .. } => add(&shared.counters.dropped, 1),
            // It is written when the bus is up.
            Command::Publish(_) => {}
            // The link looks when it begins.
            Command::ChangeEra => {}
            // Its sender is dropped, which tells that the bus is away.
            Command::Ask(_) => {}
        }
    }
}
