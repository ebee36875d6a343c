//! Who is here: track, update, untrack, list. Phoenix: `Phoenix.Presence`.
//!
//! Members of a topic learn of it by `presence_diff` broadcasts; a channel gives its own client the
//! whole picture once, as `presence_state`, when it has joined. phoenix.js's `Presence` puts the
//! two together.
//!
//! **No client ends with a wrong picture.** A change is made and its diff is published inside one
//! lock, and a list is read under the same lock. So a channel that lists after its join has in its
//! list what it will not be told of, and is told of what is not in its list.

#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "its half for several nodes is proven, and waits for the nodes"
    )
)]
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::state::{Diff, Entry, NotTracked, Replica, State, TopicDiff};
use crate::channel::{Channel, Context, Join};
use crate::message::{Payload, RawJson};
use crate::metrics::metrics;
use crate::pubsub::{PubSub, SubscriberId, lock};

/// Event of every change.
pub const PRESENCE_DIFF: &str = "presence_diff";
/// Event with which a channel gives its client the whole picture.
pub const PRESENCE_STATE: &str = "presence_state";

/// Presences by key: `{"u1": {"metas": [{"phx_ref": "..", ..}, ..]}, ..}`.
pub type Presences = Map<String, Value>;

type Fetch = dyn Fn(&str, Presences) -> Presences + Send + Sync;
type HandleMetas = dyn Fn(&str, &Presences, &Presences, &Presences) + Send + Sync;
type Meta = Map<String, Value>;

/// Names that every JavaScript object has. As a presence key they crash or poison the clients of
/// phoenix.js, which looks keys up in plain objects.
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

/// What one presence may take, its key and its meta as JSON text, in bytes: each change of it is sent to
/// every member, and all of them to each that joins.
const MAX_PRESENCE_BYTES: usize = 64_000;
/// What all presences of one [`Presence`] may take.
const MAX_BYTES: usize = 64_000_000;

/// Why a presence was not changed; no diff was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// The channel has tracked this key in its topic already.
    #[error("already tracked")]
    AlreadyTracked,
    /// The channel has not tracked this key in its topic.
    #[error("not tracked")]
    NotTracked,
    /// A key that would harm JavaScript clients.
    #[error("{0:?} cannot be a presence key")]
    DangerousKey(String),
    /// A meta is a JSON object.
    #[error("a presence meta must be a JSON object")]
    NotAnObject,
    /// A key and its meta are larger than one may be.
    #[error("a presence has at most {MAX_PRESENCE_BYTES} bytes")]
    TooLarge,
    /// The metas of all clients leave no room for this one.
    #[error("too much presence")]
    Full,
}

impl From<NotTracked> for PresenceError {
    fn from(_: NotTracked) -> Self {
        Self::NotTracked
    }
}

/// The presences of the topics of one [`PubSub`]. Cloning is cheap and names the same presences.
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
    /// Names this instance among the guards of a channel.
    id: u64,
    pubsub: PubSub,
    fetch: Option<Box<Fetch>>,
    handle_metas: Option<Box<HandleMetas>>,
    refs: Refs,
    presences: Mutex<Counted>,
}

/// The presences, and what they take.
struct Counted {
    state: State<SubscriberId, Meta>,
    bytes: usize,
}

/// Settles what a [`Presence`] does besides keeping metas.
pub struct PresenceBuilder {
    pubsub: PubSub,
    fetch: Option<Box<Fetch>>,
    handle_metas: Option<Box<HandleMetas>>,
}

named_debug!(PresenceBuilder);

impl Presence {
    /// Presences without further data.
    pub fn new(pubsub: PubSub) -> Self {
        Self::builder(pubsub).build()
    }

    /// Presences with callbacks.
    pub fn builder(pubsub: PubSub) -> PresenceBuilder {
        PresenceBuilder {
            pubsub,
            fetch: None,
            handle_metas: None,
        }
    }

    /// Says that this channel's client is present in the channel's topic under `key`, until it is
    /// untracked or the channel ends in whatever way. Several channels may share a key: tabs and
    /// devices of one user. Returns the meta's `phx_ref`.
    ///
    /// # Errors
    /// When the channel has tracked the key already, the key is dangerous, the meta is no object, key
    /// and meta have more than 64,000 bytes, or all presences more than 64 MB.
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

    /// Replaces a meta: one diff with the new one as join and the old one as leave. Returns the
    /// new `phx_ref`; the old one stands in the meta as `phx_ref_prev`.
    ///
    /// # Errors
    /// When the channel has not tracked the key, the meta is no object or too large, or all
    /// presences are.
    pub fn update<C: Channel>(
        &self,
        ctx: &Context<C>,
        key: &str,
        meta: &impl Serialize,
    ) -> Result<String, PresenceError> {
        let meta = object(meta)?;
        self.update_with(ctx, key, |_| meta)
    }

    /// As [`Presence::update`], with a meta made from the current one, `phx_ref` included.
    ///
    /// # Errors
    /// When the channel has not tracked the key, or the meta becomes too large, or all presences are.
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

    /// Takes a key of this channel away; nothing happens if it was not tracked.
    pub fn untrack<C: Channel>(&self, ctx: &Context<C>, key: &str) {
        let (topic, key) = (Arc::from(ctx.topic()), Arc::from(key));
        let left = self
            .shared
            .change(|state, _| Ok(state.leave(&ctx.id(), &topic, &key)));
        debug_assert_eq!(left, Ok(()), "leaving cannot fail");
    }

    /// Everybody in a topic; the metas of a key in the order in which they joined.
    pub fn list(&self, topic: &str) -> Presences {
        let presences = lock(&self.shared.presences);
        let metas = presences
            .state
            .list(topic)
            .into_iter()
            .map(|(key, metas)| (key, metas.into_iter().cloned()));
        let listed = metas.map(|(key, metas)| (key.to_owned(), with_metas(metas.collect())));
        self.shared.fetched(topic, listed.collect())
    }

    /// One key of a topic, `{"metas": [..]}`; `None` if nobody is there under it.
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
    /// Says that the client is present under `key`, and pushes it `presence_state`, with everybody who is. The
    /// client misses nobody and hears of nobody twice: both happen once it is a member. A key or a meta that
    /// [`Presence::track`] refuses crashes the channel.
    pub fn with_presence(
        self,
        presence: &Presence,
        key: impl Into<String>,
        meta: impl Serialize + 'static,
    ) -> Self {
        let (presence, key) = (presence.clone(), key.into());
        self.then(move |_, ctx| {
            presence.track(ctx, &key, &meta)?;
            ctx.push(PRESENCE_STATE, Value::Object(presence.list(ctx.topic())))?;
            Ok(())
        })
    }
}

impl PresenceBuilder {
    /// Adds data to presences before they are sent or listed: it is called with the topic and the
    /// presences of a list, of a diff's joins, then of its leaves, and returns the same keys, each
    /// with its `metas`. It is called under the presences' lock, so it must be quick and must not
    /// use the `Presence`. Phoenix: `fetch/2`.
    pub fn fetch(
        mut self,
        fetch: impl Fn(&str, Presences) -> Presences + Send + Sync + 'static,
    ) -> Self {
        self.fetch = Some(Box::new(fetch));
        self
    }

    /// Hears of every change after its diff was sent: topic, joins, leaves, and everybody who is
    /// there now. Called under the presences' lock, in the order of the changes; it must not use
    /// the `Presence`. Phoenix: `handle_metas/4`.
    pub fn handle_metas(
        mut self,
        handle: impl Fn(&str, &Presences, &Presences, &Presences) + Send + Sync + 'static,
    ) -> Self {
        self.handle_metas = Some(Box::new(handle));
        self
    }

    /// The presences: nobody yet.
    pub fn build(self) -> Presence {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let refs = Refs::new();
        let me = Replica {
            name: Arc::from("local"),
            incarnation: refs.started,
        };
        let shared = Shared {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            pubsub: self.pubsub,
            fetch: self.fetch,
            handle_metas: self.handle_metas,
            refs,
            presences: Mutex::new(Counted {
                state: State::new(me),
                bytes: 0,
            }),
        };
        Presence {
            shared: Arc::new(shared),
        }
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").finish_non_exhaustive()
    }
}

impl Shared {
    /// Makes a change, which is told how many bytes may come in, and tells the members of each topic, in
    /// one critical section.
    fn change(
        &self,
        change: impl FnOnce(
            &mut State<SubscriberId, Meta>,
            usize,
        ) -> Result<Diff<SubscriberId, Meta>, PresenceError>,
    ) -> Result<(), PresenceError> {
        let mut presences = lock(&self.presences);
        let Counted { state, bytes } = &mut *presences;
        let diff = change(state, MAX_BYTES - *bytes)?;
        let before = *bytes;
        for TopicDiff { joins, leaves } in diff.values() {
            *bytes += joins.iter().map(size_of_entry).sum::<usize>();
            *bytes -= leaves.iter().map(size_of_entry).sum::<usize>();
        }
        metrics()
            .presence_bytes
            .increment(*bytes as f64 - before as f64);
        for (topic, TopicDiff { joins, leaves }) in &diff {
            let joins = self.fetched(topic, grouped(joins));
            let leaves = self.fetched(topic, grouped(leaves));
            let payload = Payload::from(json!({"joins": &joins, "leaves": &leaves}));
            self.pubsub.broadcast_live(topic, PRESENCE_DIFF, &payload);
            if let Some(handle_metas) = &self.handle_metas {
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
        Ok(())
    }

    fn fetched(&self, topic: &str, presences: Presences) -> Presences {
        match &self.fetch {
            Some(fetch) => fetch(topic, presences),
            None => presences,
        }
    }
}

/// Ends with a channel, and takes away what it has tracked: one diff a topic.
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

/// What a presence takes: its key and its meta as JSON text.
fn size(key: &str, meta: &Meta) -> usize {
    key.len() + RawJson::encode(meta).map_or(0, |json| json.get().len())
}

fn size_of_entry(entry: &Arc<Entry<SubscriberId, Meta>>) -> usize {
    size(&entry.key, &entry.meta)
}

/// Refuses a presence that is too large, or has no room among the others.
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

/// A meta without the refs, which are the server's to give.
fn stripped(mut meta: Meta) -> Meta {
    meta.remove("phx_ref");
    meta.remove("phx_ref_prev");
    meta
}

/// Makes refs as Phoenix makes them: 8 bytes of time, 2 of the node, 2 of a counter.
struct Refs {
    started: u64,
    counter: AtomicU16,
}

impl Refs {
    fn new() -> Self {
        Self {
            started: now(),
            counter: AtomicU16::new(0),
        }
    }

    fn next(&self) -> String {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&now().to_be_bytes());
        bytes[8..10].copy_from_slice(&self.started.to_le_bytes()[..2]);
        bytes[10..].copy_from_slice(&self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
