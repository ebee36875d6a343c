//! Tracks which clients are present in a topic. Phoenix: `Phoenix.Presence`.
//!
//! Members of a topic get every change as a `presence_diff` broadcast. A channel sends its own client the
//! whole list once, as `presence_state`, after the join. phoenix.js's `Presence` combines the two.
//!
//! **No client ends with a wrong list.** A change and its diff are published under one lock, and a list is
//! read under the same lock. So a channel that lists after its join gets each change exactly once: in the
//! list or as a diff.

mod builder;
mod count;
mod meta;
#[cfg(feature = "_cluster")]
mod part;
mod refs;
#[cfg(feature = "_cluster")]
mod replication;
mod shared;
mod state;
#[cfg(feature = "_cluster")]
mod tracker;
#[cfg(feature = "_cluster")]
mod wire;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

pub use self::builder::{Changes, PresenceBuilder};
use self::shared::{Process, Shared};
use self::state::NotTracked;
use crate::channel::{Channel, Context, Guard, Join, StopReason};
use crate::message::{Payload, RawJson};
use crate::pubsub::PubSub;

/// The event of every change.
pub const PRESENCE_DIFF: &str = "presence_diff";
/// The event with which a channel sends its client the whole list.
pub const PRESENCE_STATE: &str = "presence_state";
/// The event with the number of keys in a topic, `{"count": 7}`, where members get that in place of lists and
/// changes ([`Changes::Count`]).
pub const PRESENCE_COUNT: &str = "presence_count";

/// Presences by key: `{"u1": {"metas": [{"phx_ref": "..", ..}, ..]}, ..}`.
pub type Presences = Map<String, Value>;

/// Names of members that every JavaScript object has. phoenix.js looks presence keys up in plain objects,
/// so such a key crashes it or corrupts its list.
const DANGEROUS_KEYS: [&str; 12] = [
    "__proto__",
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "constructor",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toLocaleString",
    "toString",
    "valueOf",
];

/// The most bytes of one presence, its key and its meta as JSON text. Members get each change of it, and
/// each client that joins gets all presences.
const MAX_PRESENCE_BYTES: usize = 64_000;
/// The most bytes of all presences of one [`Presence`], those of this node's clients.
const MAX_BYTES: usize = 64_000_000;

/// Why a change was refused. No diff was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// The channel has tracked this key in its topic already.
    #[error("already tracked")]
    AlreadyTracked,
    /// The channel has not tracked this key in its topic.
    #[error("not tracked")]
    NotTracked,
    /// The key would break JavaScript clients.
    #[error("{0:?} cannot be a presence key")]
    DangerousKey(String),
    /// The meta is not a JSON object.
    #[error("a presence meta must be a JSON object")]
    NotAnObject,
    /// The meta has objects or arrays in each other, 128 or more.
    #[error("a presence meta is nested at most 127 deep")]
    TooDeep,
    /// The key and its meta have more than 64,000 bytes.
    #[error("a presence has at most {MAX_PRESENCE_BYTES} bytes")]
    TooLarge,
    /// The presences of all clients leave no room for this one.
    #[error("all presences together have too many bytes")]
    Full,
}

impl From<NotTracked> for PresenceError {
    fn from(_: NotTracked) -> Self {
        Self::NotTracked
    }
}

/// The presences in the topics of one [`PubSub`]. A clone is cheap and refers to the same presences.
///
/// ```
/// use slackir::channel::{Channel, Context, Join, JoinResult};
/// use slackir::message::Payload;
/// use slackir::presence::Presence;
/// use slackir::pubsub::PubSub;
/// use slackir::socket::SocketRouter;
///
/// struct Room;
///
/// impl Channel for Room {
///     type Info = ();
///
///     async fn join(_params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
///         let meta = serde_json::json!({"online_at": 1_700_000_000});
///         Ok(Join::ok(Room).with_presence(&ctx.state::<Presence>(), "user:7", meta))
///     }
/// }
///
/// let pubsub = PubSub::new();
/// let router = SocketRouter::new().state(Presence::new(pubsub)).channel::<Room>("room:*");
/// # let _ = router;
/// ```
#[derive(Clone)]
pub struct Presence {
    shared: Arc<Shared>,
}

impl Presence {
    /// Makes presences without callbacks.
    pub fn new(pubsub: PubSub) -> Self {
        Self::builder(pubsub).build()
    }

    /// Makes presences with callbacks.
    pub fn builder(pubsub: PubSub) -> PresenceBuilder {
        PresenceBuilder::new(pubsub)
    }

    /// Tracks this channel's client under `key` in the channel's topic, until it is untracked or the
    /// channel ends for any reason. Several channels may share a key, such as the tabs and devices of one
    /// user. Returns the meta's `phx_ref`.
    ///
    /// # Errors
    /// If the channel already tracks the key, the key is dangerous, the meta is not an object, key and meta
    /// have more than 64,000 bytes, or all presences have more than 64 MB.
    pub fn track<C: Channel>(
        &self,
        ctx: &mut Context<C>,
        key: &str,
        meta: &impl Serialize,
    ) -> Result<String, PresenceError> {
        if DANGEROUS_KEYS.contains(&key) {
            return Err(PresenceError::DangerousKey(key.to_owned()));
        }
        let mut meta = meta::object(meta)?;
        let phx_ref = self.shared.refs.next();
        meta.insert("phx_ref".to_owned(), phx_ref.clone().into());
        let meta = meta::encode(key, &meta)?;
        let process = Process::Here(ctx.id());
        self.shared.track(process, ctx.topic(), key, meta)?;
        let shared = &self.shared;
        let topic = ctx.topic().to_owned();
        ctx.end_with(shared.id, || {
            Box::new(Tracked {
                shared: Arc::clone(shared),
                topic: topic.into(),
                process,
                is_lost: false,
            })
        });
        Ok(phx_ref)
    }

    /// Replaces a meta, in one diff with the new meta as join and the old one as leave. Returns the new
    /// `phx_ref`. The new meta holds the old one as `phx_ref_prev`.
    ///
    /// # Errors
    /// If the channel does not track the key, the meta is not an object, or it or all presences together
    /// are too large.
    pub fn update<C: Channel>(
        &self,
        ctx: &Context<C>,
        key: &str,
        meta: &impl Serialize,
    ) -> Result<String, PresenceError> {
        let meta = meta::object(meta)?;
        self.update_with(ctx, key, |_| meta)
    }

    /// Like [`Presence::update`], with a meta made from the current one, which includes `phx_ref`.
    ///
    /// # Errors
    /// If the channel does not track the key, or if the meta or all presences together become too large.
    pub fn update_with<C: Channel>(
        &self,
        ctx: &Context<C>,
        key: &str,
        change: impl FnOnce(&Map<String, Value>) -> Map<String, Value>,
    ) -> Result<String, PresenceError> {
        let phx_ref = self.shared.refs.next();
        let renew = |old: Map<String, Value>| {
            let mut new = meta::stripped(change(&old));
            let previous = old.get("phx_ref").cloned();
            new.extend(previous.map(|previous| ("phx_ref_prev".to_owned(), previous)));
            new.insert("phx_ref".to_owned(), phx_ref.clone().into());
            new
        };
        let process = Process::Here(ctx.id());
        let renew = |old: &RawJson| meta::encode(key, &renew(meta::parse(old)));
        self.shared.update(process, ctx.topic(), key, renew)?;
        Ok(phx_ref)
    }

    /// Untracks a key of this channel. Does nothing if it was not tracked.
    pub fn untrack<C: Channel>(&self, ctx: &Context<C>, key: &str) {
        let process = Process::Here(ctx.id());
        let left = self.shared.change(ctx.topic(), |state, topic| {
            Ok(state.leave(&process, topic, &Arc::from(key)))
        });
        debug_assert_eq!(left, Ok(()), "leaving cannot fail");
    }

    /// All presences in a topic. The metas of a key are in join order.
    pub fn list(&self, topic: &str) -> Presences {
        self.shared.list(topic)
    }

    /// [`Presence::list`] as a payload, without parsing metas that no callback wants.
    pub(crate) fn list_payload(&self, topic: &str) -> Payload {
        self.shared.list_payload(topic)
    }

    /// The number of keys in a topic. Costs the same in a topic of any size. Phoenix has `map_size/1` of a whole
    /// list.
    pub fn count(&self, topic: &str) -> usize {
        self.shared.shard(topic).count(topic)
    }

    /// One key of a topic, as `{"metas": [..]}`. `None` if no client is present under it.
    pub fn get_by_key(&self, topic: &str, key: &str) -> Option<Value> {
        self.shared.get_by_key(topic, key)
    }
}

impl<C: Channel> Join<C> {
    /// Once the client is a member, tracks it under `key` and pushes it `presence_state` with everybody in the
    /// topic, itself included. The client misses no change. The diff of its own join comes before that, and every
    /// version of phoenix.js counts it once; `onJoin` may be called for it twice. If [`Presence::track`] refuses
    /// the key or the meta, the channel crashes.
    pub fn with_presence(
        self,
        presence: &Presence,
        key: impl Into<String>,
        meta: impl Serialize + 'static,
    ) -> Self {
        let (presence, key) = (presence.clone(), key.into());
        self.then(async move |_, ctx| {
            presence.track(ctx, &key, &meta)?;
            ctx.push(PRESENCE_STATE, presence.list_payload(ctx.topic()))?;
            Ok(())
        })
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").finish_non_exhaustive()
    }
}

/// The guard of a channel: untracks all its keys when it ends, with one diff.
struct Tracked {
    shared: Arc<Shared>,
    topic: Arc<str>,
    process: Process,
    /// The client may come back.
    is_lost: bool,
}

impl Guard for Tracked {
    fn ends(&mut self, reason: &StopReason) {
        self.is_lost = reason.is_lost_connection();
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if self.is_lost {
            self.shared.lose_process(self.process, &self.topic);
        } else {
            self.shared.leave_process(self.process, &self.topic);
        }
    }
}
