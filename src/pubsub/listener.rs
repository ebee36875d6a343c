//! [`Listener`]: receives broadcasts outside channels. Phoenix: `Endpoint.subscribe/1` in any process.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::{Broadcast, PubSub, SubscriberId, Subscription, Tap};
use crate::waker::WakerSlot;

/// The most pending broadcasts.
const BACKLOG: usize = 1_024;
/// The most bytes of pending broadcasts; a single one may be larger.
const BACKLOG_BYTES: usize = 64_000_000;

/// Receives broadcasts of the topics that it subscribes to, in an HTTP handler or a task of the
/// application. It stays on its thread, and needs an actix runtime there.
///
/// ```
/// use slackir::pubsub::{Listener, PubSub};
///
/// # actix_rt::System::new().block_on(async {
/// let pubsub = PubSub::new();
/// let mut listener = Listener::new(&pubsub);
/// listener.subscribe("room:1");
/// pubsub.broadcast("room:1", "news", serde_json::json!({"n": 1})).await.unwrap();
/// assert_eq!(listener.recv().await.unwrap().event(), "news");
/// # });
/// ```
pub struct Listener {
    pubsub: PubSub,
    id: SubscriberId,
    mailbox: Rc<Mailbox>,
    subscriptions: Vec<(String, Subscription)>,
}

named_debug!(Listener);

/// The listener was too slow: broadcasts were dropped because 1,024 others, or 64 MB of them, were pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the listener was too slow and has missed {missed} broadcasts")]
#[non_exhaustive]
pub struct Lagged {
    /// The number of broadcasts that were dropped since the last one that was received.
    pub missed: u64,
}

/// The pending broadcasts of a listener.
#[derive(Default)]
struct Mailbox {
    queue: RefCell<VecDeque<Arc<Broadcast>>>,
    bytes: Cell<usize>,
    missed: Cell<u64>,
    waiting: WakerSlot,
}

impl Tap for Mailbox {
    fn receive(&self, broadcast: &Arc<Broadcast>) {
        let mut queue = self.queue.borrow_mut();
        let bytes = self.bytes.get() + broadcast.cost();
        if queue.is_empty() || (queue.len() < BACKLOG && bytes <= BACKLOG_BYTES) {
            self.bytes.set(bytes);
            queue.push_back(Arc::clone(broadcast));
        } else {
            self.missed.set(self.missed.get() + 1);
        }
        drop(queue);
        self.waiting.wake();
    }
}

impl Listener {
    /// Makes a listener without subscriptions.
    pub fn new(pubsub: &PubSub) -> Self {
        Self {
            pubsub: pubsub.clone(),
            id: SubscriberId::next(),
            mailbox: Rc::default(),
            subscriptions: Vec::new(),
        }
    }

    /// Subscribes to a topic; subscribing twice delivers twice.
    pub fn subscribe(&mut self, topic: &str) {
        let tap: Rc<dyn Tap> = Rc::clone(&self.mailbox) as Rc<dyn Tap>;
        let subscription = self.pubsub.subscribe_tap(topic, self.id, &tap);
        self.subscriptions.push((topic.to_owned(), subscription));
    }

    /// Ends all subscriptions to a topic.
    pub fn unsubscribe(&mut self, topic: &str) {
        self.subscriptions.retain(|(name, _)| name != topic);
    }

    /// The next broadcast.
    ///
    /// # Errors
    /// If the listener was too slow: once for each gap, after the broadcasts from before the gap.
    pub async fn recv(&mut self) -> Result<Arc<Broadcast>, Lagged> {
        poll_fn(|cx| {
            if let Some(broadcast) = self.mailbox.queue.borrow_mut().pop_front() {
                let bytes = self.mailbox.bytes.get() - broadcast.cost();
                self.mailbox.bytes.set(bytes);
                return Poll::Ready(Ok(broadcast));
            }
            let missed = self.mailbox.missed.take();
            if missed > 0 {
                return Poll::Ready(Err(Lagged { missed }));
            }
            self.mailbox.waiting.remember(cx);
            Poll::Pending
        })
        .await
    }

    pub(super) fn id(&self) -> SubscriberId {
        self.id
    }
}
