//! [`Seldom`]: what few channels need, in a block of memory that the others do not have.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::link::Link;
use super::work::ChannelWork;
use crate::message::{Payload, RawJson};
use crate::pubsub::{Broadcast, Subscription, Tap};
use crate::serializer::EncodeError;

/// See the module.
#[derive(Default)]
pub(super) struct Seldom(OnceCell<Box<Parts>>);

#[derive(Default)]
struct Parts {
    /// The pushes of `handle_replay` while a history is built as a list.
    list: RefCell<Option<Vec<RawJson>>>,
    /// To other topics.
    subscriptions: RefCell<Vec<Subscription>>,
    /// The timeout that the running callback has asked for.
    timeout: Cell<Option<Duration>>,
}

impl Seldom {
    fn parts(&self) -> &Parts {
        self.0.get_or_init(Box::default)
    }

    /// From now on pushes are listed.
    pub(super) fn begin_list(&self) {
        *self.parts().list.borrow_mut() = Some(Vec::new());
    }

    /// What was pushed since. From now on pushes are sent.
    pub(super) fn take_list(&self) -> Option<Vec<RawJson>> {
        self.0.get()?.list.take()
    }

    /// Lists a push. `false`: it is to be sent.
    ///
    /// # Errors
    /// If its payload cannot be an item of a list.
    pub(super) fn list(&self, payload: &Payload) -> Result<bool, EncodeError> {
        let Some(parts) = self.0.get() else {
            return Ok(false);
        };
        let mut list = parts.list.borrow_mut();
        let Some(list) = &mut *list else {
            return Ok(false);
        };
        list.push(listable(payload)?);
        Ok(true)
    }

    /// The running callback asks for this timeout.
    pub(super) fn ask_timeout(&self, silence: Duration) {
        self.parts().timeout.set(Some(silence));
    }

    /// The timeout that was asked for since.
    pub(super) fn take_timeout(&self) -> Option<Duration> {
        self.0.get()?.timeout.take()
    }

    /// Keeps a subscription to another topic until the channel ends.
    pub(super) fn keep(&self, subscription: Subscription) {
        self.parts().subscriptions.borrow_mut().push(subscription);
    }

    /// Ends the subscriptions to another topic.
    pub(super) fn unsubscribe(&self, topic: &str) {
        if let Some(parts) = self.0.get() {
            let mut subscriptions = parts.subscriptions.borrow_mut();
            subscriptions.retain(|subscription| subscription.topic().name() != topic);
        }
    }
}

fn listable(payload: &Payload) -> Result<RawJson, EncodeError> {
    match payload {
        Payload::Json(json) if json.is_object() => Ok(json.clone()),
        Payload::Json(_) => Err(EncodeError::NotAnObject),
        Payload::Binary(_) => Err(EncodeError::NoBinary),
    }
}

/// Hands broadcasts of other topics to the channel.
pub(super) struct Elsewhere(pub(super) Rc<Link>);

impl Tap for Elsewhere {
    fn receive(&self, broadcast: &Arc<Broadcast>) {
        self.0.deliver_broadcast(broadcast, ChannelWork::Elsewhere);
    }
}
