//! [`Tail`]: what is said in one topic, as it comes, for ten minutes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::channel::Info;
use super::rooms::viewed;
use super::session::unix_seconds;
use crate::channel::Handle;
use crate::pubsub::{Broadcast, Listener, PubSub};

/// How long a tail lasts.
const LIFETIME: Duration = Duration::from_secs(600);
/// The most messages of a second. The others are counted.
pub(super) const MAX_PER_SECOND: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);

/// A task that listens to a topic until the value is dropped.
pub(super) struct Tail {
    topic: String,
    number: u64,
    until: u64,
    task: JoinHandle<()>,
}

/// What the task tells the channel.
pub(super) enum TailNews {
    /// The payload of a push.
    Message(Value),
    /// The time is over.
    End,
}

impl Tail {
    pub(super) fn begin(pubsub: &PubSub, topic: String, to: Handle<Info>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut listener = Listener::new(pubsub);
        listener.subscribe(&topic);
        let mut follower = Follower {
            topic: topic.clone(),
            number,
            to,
            passed: 0,
            skipped: 0,
            second: Instant::now(),
        };
        Self {
            topic,
            number,
            until: unix_seconds() + LIFETIME.as_secs(),
            task: actix_rt::spawn(async move { follower.follow(listener).await }),
        }
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Tells it from those before.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Its end, in seconds since 1970.
    pub(super) fn until(&self) -> u64 {
        self.until
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    topic: String,
    number: u64,
    to: Handle<Info>,
    /// The messages of this second that were passed on.
    passed: u32,
    /// The messages that were not, since the last notice.
    skipped: u64,
    /// The end of this second.
    second: Instant,
}

impl Follower {
    async fn follow(&mut self, mut listener: Listener) {
        let end = Instant::now() + LIFETIME;
        loop {
            let wake = if self.skipped > 0 {
                self.second.min(end)
            } else {
                end
            };
            let heard = timeout_at(wake, listener.recv()).await;
            self.turn();
            match heard {
                Ok(Ok(broadcast)) if self.passed < MAX_PER_SECOND => {
                    self.passed += 1;
                    self.tell(TailNews::Message(self.shown(&broadcast)));
                }
                Ok(Ok(_)) => self.skipped += 1,
                Ok(Err(lagged)) => self.skipped += lagged.missed,
                Err(_) if Instant::now() >= end => return self.tell(TailNews::End),
                Err(_) => {}
            }
        }
    }

    /// Begins a new second, if this one is over.
    fn turn(&mut self) {
        if Instant::now() < self.second {
            return;
        }
        self.second = Instant::now() + SECOND;
        self.passed = 0;
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 {
            let payload = json!({ "messages": skipped });
            let notice = self.message("(skipped)", &payload);
            self.tell(TailNews::Message(notice));
        }
    }

    fn shown(&self, broadcast: &Broadcast) -> Value {
        self.message(broadcast.event(), &viewed(broadcast.payload()))
    }

    fn message(&self, event: &str, payload: &Value) -> Value {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = u64::try_from(at.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        json!({ "topic": self.topic, "event": event, "payload": payload, "at": at })
    }

    fn tell(&self, news: TailNews) {
        // An error: the channel has ended, and drops the tail.
        let _ = self.to.send(Info::Tail(self.number, news));
    }
}
