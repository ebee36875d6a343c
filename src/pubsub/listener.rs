//! [`Listener`]: hears topics outside channels. Phoenix: `Endpoint.subscribe/1` in any process.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::{Broadcast, PubSub, SubscriberId, Subscription, Tap};
use crate::waker::WakerSlot;

/// Broadcasts that may wait for a listener.
const BACKLOG: usize = 1_024;
/// Bytes of them that may wait; one broadcast may be larger.
const BACKLOG_BYTES: usize = 64_000_000;

/// Hears the broadcasts of the topics that it subscribes to: in an HTTP handler or a task of the
/// application. It stays on the thread that made it, which needs an actix runtime.
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

/// The listener was too slow: 1,024 broadcasts waited, or 64 MB of them, and one more was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the listener was too slow and has missed broadcasts")]
pub struct Lagged;

/// What waits for a listener.
#[derive(Default)]
struct Mailbox {
    queue: RefCell<VecDeque<Arc<Broadcast>>>,
    bytes: Cell<usize>,
    lagged: Cell<bool>,
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
            self.lagged.set(true);
        }
        drop(queue);
        self.waiting.wake();
    }
}

impl Listener {
    /// Hears nothing yet.
    pub fn new(pubsub: &PubSub) -> Self {
        Self {
            pubsub: pubsub.clone(),
            id: SubscriberId::next(),
            mailbox: Rc::default(),
            subscriptions: Vec::new(),
        }
    }

    /// Hears a topic from now on; subscribing twice delivers twice.
    pub fn subscribe(&mut self, topic: &str) {
        let tap: Rc<dyn Tap> = Rc::clone(&self.mailbox) as Rc<dyn Tap>;
        let subscription = self.pubsub.subscribe_tap(topic, self.id, &tap);
        self.subscriptions.push((topic.to_owned(), subscription));
    }

    /// Hears a topic no more, however often it was subscribed to.
    pub fn unsubscribe(&mut self, topic: &str) {
        self.subscriptions.retain(|(name, _)| name != topic);
    }

    /// The next broadcast.
    ///
    /// # Errors
    /// Once for each time that broadcasts were missed; the ones before them come first.
    pub async fn recv(&mut self) -> Result<Arc<Broadcast>, Lagged> {
        poll_fn(|cx| {
            if let Some(broadcast) = self.mailbox.queue.borrow_mut().pop_front() {
                let bytes = self.mailbox.bytes.get() - broadcast.cost();
                self.mailbox.bytes.set(bytes);
                return Poll::Ready(Ok(broadcast));
            }
            if self.mailbox.lagged.take() {
                return Poll::Ready(Err(Lagged));
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
