//! [`supervise`]: the task of the bus. It connects, runs the connection until it is lost, and begins again.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use super::connection::Opened;
use super::error::Trouble;
use super::link::Link;
use super::{Command, NAME, Shared};
use crate::cluster::backoff::Backoff;
use crate::cluster::counters::add;
use crate::cluster::end_on_panic::EndOnPanic;
use crate::cluster::outage::Outage;
use crate::lock::lock;

/// Runs the bus until its owner has dropped it.
pub(super) async fn supervise(shared: Arc<Shared>, mut commands: UnboundedReceiver<Command>) {
    let _guard = EndOnPanic;
    let timing = shared.options.timing;
    let mut backoff = Backoff::new(timing.reconnect_least, timing.reconnect_most);
    let mut outage = Outage::new(NAME);
    while let Some(opened) = connect(&shared, &mut commands, &mut backoff, &mut outage).await {
        let since = Instant::now();
        outage.ended(&opened.process);
        shared.set_up(&opened.process);
        let Err(lost) = Link::new(&shared, opened).run(&mut commands).await else {
            return;
        };
        backoff.lost(since);
        outage = Outage::begun(NAME, &lost);
        lock(&shared.topics).lost();
        shared.set_down();
    }
}

/// Connects, however often it takes. Meanwhile commands are taken as of a bus that is down. `None`: the owner has
/// dropped the bus.
async fn connect(
    shared: &Arc<Shared>,
    commands: &mut UnboundedReceiver<Command>,
    backoff: &mut Backoff,
    outage: &mut Outage<Trouble>,
) -> Option<Opened> {
    loop {
        let opened = tokio::select! {
            opened = Opened::open(&shared.options, shared.me) => opened,
            () = take_while_down(shared, commands) => return None,
        };
        match opened {
            Ok(opened) => return Some(opened),
            Err(error) => outage.failed(&error, error.trouble()),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.delay()) => {}
            () = take_while_down(shared, commands) => return None,
        }
    }
}

/// Takes commands while the bus is down. Ends when the owner has dropped the bus.
async fn take_while_down(shared: &Shared, commands: &mut UnboundedReceiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Attach(topic) => {
                lock(&shared.topics).attach(&topic);
            }
            Command::Detach(topic) => lock(&shared.topics).detach(&topic),
            Command::Send { .. } => add(&shared.counters.dropped, 1),
            // Its sender is dropped, which tells that the bus is away.
            Command::Leave(_) => {}
        }
    }
}
