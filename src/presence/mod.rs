//! Tracks which clients are present in a topic. Phoenix: `Phoenix.Presence`.
//!
//! Members of a topic get every change as a `presence_diff` broadcast. A channel sends its own client the
//! whole list once, as `presence_state`, after the join. phoenix.js's `Presence` combines the two.
//!
//! **No client ends with a wrong list.** A change and its diff are published under one lock, and a list is
//! read under the same lock. So a channel that lists after its join gets each change exactly once: in the
//! list or as a diff.

#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the replication between nodes is tested, but no caller uses it yet"
    )
)]
mod state;

mod builder;
mod count;
mod refs;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde_json::{Map, Value, json};

use self::builder::Callbacks;
pub use self::builder::{Changes, PresenceBuilder};
use self::count::Keys;
use self::refs::Refs;
use self::state::{Diff, Entry, NotTracked, State, TopicDiff};
use crate::channel::{Channel, Context, Join};
use crate::lock::lock;
use crate::message::{Payload, RawJson};
use crate::metrics::metrics;
use crate::pubsub::{PubSub, SubscriberId};

/// The event of every change.
pub const PRESENCE_DIFF: &str = "presence_diff";
/// The event with which a channel sends its client the whole list.
pub const PRESENCE_STATE: &str = "presence_state";
/// The event with the number of keys in a topic, `{"count": 7}`, where members get that in place of lists and
/// changes ([`Changes::Count`]).
pub const PRESENCE_COUNT: &str = "presence_count";

/// Presences by key: `{"u1": {"metas": [{"phx_ref": "..", ..}, ..]}, ..}`.
pub type Presences = Map<String, Value>;

type Meta = Map<String, Value>;

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
/// The most bytes of all presences of one [`Presence`].
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

struct Shared {
    /// Identifies this instance among the guards of a channel.
    id: u64,
    pubsub: PubSub,
    callbacks: Callbacks,
    refs: Refs,
    presences: Mutex<Known>,
}

/// The presences, their bytes and the numbers of their keys.
struct Known {
    state: State<SubscriberId, Meta>,
    bytes: usize,
    keys: Keys,
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
        let mut meta = object(meta)?;
        let phx_ref = self.shared.refs.next();
        meta.insert("phx_ref".to_owned(), phx_ref.clone().into());
        let process = ctx.id();
        let (topic, key) = (Arc::from(ctx.topic()), Arc::from(key));
        self.shared.change(|state, room| {
            check_size(&key, &meta, room)?;
            state
                .join(process, &topic, &key, meta)
                .map_err(|_| PresenceError::AlreadyTracked)
        })?;
        let shared = &self.shared;
        ctx.end_with(shared.id, || {
            Box::new(Tracked {
                shared: Arc::clone(shared),
                process,
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
        let meta = object(meta)?;
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
        let (topic, key) = (Arc::from(ctx.topic()), Arc::from(key));
        let renew = |old: &Meta| {
            let mut new = stripped(change(old));
            if let Some(previous) = old.get("phx_ref") {
                new.insert("phx_ref_prev".to_owned(), previous.clone());
            }
            new.insert("phx_ref".to_owned(), phx_ref.clone().into());
            new
        };
        self.shared.change(|state, room| {
            state.try_update(&ctx.id(), &topic, &key, |old| {
                let new = renew(old);
                check_size(&key, &new, room + size(&key, old))?;
                Ok(new)
            })
        })?;
        Ok(phx_ref)
    }

    /// Untracks a key of this channel. Does nothing if it was not tracked.
    pub fn untrack<C: Channel>(&self, ctx: &Context<C>, key: &str) {
        let (topic, key) = (Arc::from(ctx.topic()), Arc::from(key));
        let left = self
            .shared
            .change(|state, _| Ok(state.leave(&ctx.id(), &topic, &key)));
        debug_assert_eq!(left, Ok(()), "leaving cannot fail");
    }

    /// All presences in a topic. The metas of a key are in join order.
    pub fn list(&self, topic: &str) -> Presences {
        let presences = lock(&self.shared.presences);
        self.shared.everybody(&presences.state, topic)
    }

    /// The number of keys in a topic. Costs the same in a topic of any size. Phoenix has `map_size/1` of a whole
    /// list.
    pub fn count(&self, topic: &str) -> usize {
        let presences = lock(&self.shared.presences);
        presences.keys.get(topic).map_or(0, |keys| keys.count)
    }

    /// One key of a topic, as `{"metas": [..]}`. `None` if no client is present under it.
    pub fn get_by_key(&self, topic: &str, key: &str) -> Option<Value> {
        let presences = lock(&self.shared.presences);
        let metas = presences.state.get_by_key(topic, key).into_iter().cloned();
        let metas: Vec<Meta> = metas.collect();
        if metas.is_empty() {
            return None;
        }
        let one = Presences::from_iter([(key.to_owned(), with_metas(metas))]);
        self.shared.fetched(topic, one).remove(key)
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
            ctx.push(PRESENCE_STATE, Value::Object(presence.list(ctx.topic())))?;
            Ok(())
        })
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").finish_non_exhaustive()
    }
}

impl Shared {
    /// Everybody in a topic.
    fn everybody(&self, state: &State<SubscriberId, Meta>, topic: &str) -> Presences {
        let metas = state.list(topic).into_iter();
        let metas = metas.map(|(key, metas)| (key, metas.into_iter().cloned()));
        let listed = metas.map(|(key, metas)| (key.to_owned(), with_metas(metas.collect())));
        self.fetched(topic, listed.collect())
    }

    /// Makes a change and tells the members of each topic, in one critical section. `change` gets the number of
    /// bytes that are left.
    fn change(
        self: &Arc<Self>,
        change: impl FnOnce(
            &mut State<SubscriberId, Meta>,
            usize,
        ) -> Result<Diff<SubscriberId, Meta>, PresenceError>,
    ) -> Result<(), PresenceError> {
        let mut presences = lock(&self.presences);
        let Known { state, bytes, keys } = &mut *presences;
        let diff = change(state, MAX_BYTES - *bytes)?;
        let before = *bytes;
        for TopicDiff { joins, leaves } in diff.values() {
            let change = joins.len() as f64 - leaves.len() as f64;
            metrics().presences.increment(change);
            *bytes += joins.iter().map(size_of_entry).sum::<usize>();
            *bytes -= leaves.iter().map(size_of_entry).sum::<usize>();
        }
        metrics()
            .presence_bytes
            .increment(*bytes as f64 - before as f64);
        for (topic, diff) in &diff {
            let count_changed = count::count(keys, state, topic, diff);
            let changes = self.callbacks.changes(topic);
            if changes == Changes::Count && count_changed {
                count::tell(self, keys, topic);
            }
            if changes == Changes::Diffs || self.callbacks.handle_metas.is_some() {
                self.tell_diff(state, topic, diff, changes);
            }
        }
        Ok(())
    }

    /// Sends a diff to the members of its topic, if they get diffs, and to `handle_metas`.
    fn tell_diff(
        &self,
        state: &State<SubscriberId, Meta>,
        topic: &str,
        TopicDiff { joins, leaves }: &TopicDiff<SubscriberId, Meta>,
        changes: Changes,
    ) {
        let joins = self.fetched(topic, grouped(joins));
        let leaves = self.fetched(topic, grouped(leaves));
        if changes == Changes::Diffs {
            let payload = Payload::from(json!({"joins": &joins, "leaves": &leaves}));
            self.pubsub.broadcast_live(topic, PRESENCE_DIFF, &payload);
        }
        if let Some(handle_metas) = &self.callbacks.handle_metas {
            let now = state.list(topic).into_iter();
            let now = now.map(|(key, metas)| {
                (
                    key.to_owned(),
                    with_metas(metas.into_iter().cloned().collect()),
                )
            });
            handle_metas(topic, &joins, &leaves, &now.collect());
        }
    }

    fn fetched(&self, topic: &str, presences: Presences) -> Presences {
        match &self.callbacks.fetch {
            Some(fetch) => fetch(topic, presences),
            None => presences,
        }
    }
}

/// The guard of a channel: untracks all its keys when it ends, with one diff for each topic.
struct Tracked {
    shared: Arc<Shared>,
    process: SubscriberId,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let left = self
            .shared
            .change(|state, _| Ok(state.leave_process(&self.process)));
        debug_assert_eq!(left, Ok(()), "leaving cannot fail");
    }
}

/// The metas of a diff by key.
fn grouped(entries: &[Arc<Entry<SubscriberId, Meta>>]) -> Presences {
    let mut keys: BTreeMap<&str, Vec<Meta>> = BTreeMap::new();
    for entry in entries {
        keys.entry(&entry.key).or_default().push(entry.meta.clone());
    }
    keys.into_iter()
        .map(|(key, metas)| (key.to_owned(), with_metas(metas)))
        .collect()
}

fn with_metas(metas: Vec<Meta>) -> Value {
    let metas = metas.into_iter().map(Value::Object).collect();
    Value::Object(Map::from_iter([("metas".to_owned(), Value::Array(metas))]))
}

fn object(meta: &impl Serialize) -> Result<Meta, PresenceError> {
    match serde_json::to_value(meta) {
        Ok(Value::Object(meta)) => Ok(stripped(meta)),
        _ => Err(PresenceError::NotAnObject),
    }
}

/// The bytes of a presence: its key, and its meta as JSON text.
fn size(key: &str, meta: &Meta) -> usize {
    key.len() + RawJson::encode(meta).map_or(0, |json| json.get().len())
}

fn size_of_entry(entry: &Arc<Entry<SubscriberId, Meta>>) -> usize {
    size(&entry.key, &entry.meta)
}

/// Refuses a presence that is too large by itself or for `room`.
fn check_size(key: &str, meta: &Meta, room: usize) -> Result<(), PresenceError> {
    let size = size(key, meta);
    if size > MAX_PRESENCE_BYTES {
        return Err(PresenceError::TooLarge);
    }
    if size > room {
        return Err(PresenceError::Full);
    }
    Ok(())
}

/// Removes the refs from a meta: only the server sets them.
fn stripped(mut meta: Meta) -> Meta {
    meta.remove("phx_ref");
    meta.remove("phx_ref_prev");
    meta
}
