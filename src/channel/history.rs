//! [`LogRequest`]: the stored messages that a joining client asks for in its params, and the form in which it gets
//! them.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::link::Link;
use crate::log::{Backlog, LogEntry, MessageId};
use crate::message::{Payload, RawJson};
use crate::pubsub::{Want, with_meta};
use crate::serializer::EncodeError;

/// The event of [`HistoryMode::MessagesHistory`], unless the application calls it otherwise.
pub(crate) const MESSAGES_HISTORY: &str = "messages_history";
/// The key under which a list of messages stands.
pub(crate) const MESSAGES: &str = "messages";

/// How a join delivers the topic's history, oldest message first.
///
/// ```
/// use slackir::channel::{Channel, HistoryMode, Join};
///
/// fn accept<Room: Channel>(room: Room) -> Join<Room> {
///     Join::ok(room).with_history(HistoryMode::MessagesHistory)
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryMode {
    /// Not at all.
    #[default]
    None,
    /// One push `messages_history` with `{"messages": [payload, ...]}`; the event may have
    /// [another name](LogRequest::history_event).
    MessagesHistory,
    /// One push a message, of its own event and payload.
    PerEvent,
    /// In the join reply, as its member `messages`, which is empty in a resume. A reply that is no object stays as it
    /// is.
    Reply,
}

impl HistoryMode {
    fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "messages_history" => Some(Self::MessagesHistory),
            "per_event" => Some(Self::PerEvent),
            "reply" => Some(Self::Reply),
            _ => None,
        }
    }

    /// Its name in join params and settings.
    #[cfg(feature = "server")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MessagesHistory => "messages_history",
            Self::PerEvent => "per_event",
            Self::Reply => "reply",
        }
    }
}

/// A client's request for the stored messages of its topic. The application sets the default, the client's join
/// params may change it:
///
/// | param | effect |
/// | --- | --- |
/// | `last_seen_id` | resumes: the messages stored after this one arrive as if they were live |
/// | `meta: true` | stored messages carry `_meta: {"id": .., "at": ..}`: the `last_seen_id` of next time, and the time of publication |
/// | `history` | another mode, by its name, or another number of messages, up to the rule's |
///
/// With one of the first two the join reply carries `recovered`, true if the resume misses nothing, and `last_id`,
/// the id just before the first message sent after the reply. Params of another type are ignored.
///
/// ```
/// use slackir::prelude::*;
///
/// struct Room;
///
/// impl Channel for Room {
///     type Info = ();
///
///     async fn join(params: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
///         let request = LogRequest::from_params(HistoryMode::MessagesHistory, &params);
///         Ok(Join::ok(Room).with_log(request))
///     }
/// }
/// ```
#[derive(Clone)]
pub struct LogRequest {
    mode: HistoryMode,
    /// `None`: the usual one.
    shape: Option<Arc<HistoryShape>>,
    limit: Option<usize>,
    pub(super) meta: bool,
    /// The last message that the client has, if it resumes.
    last_seen: Option<LastSeen>,
}

/// From a stored message to its item of a history; `None` leaves it out.
type HistoryItems = dyn Fn(&LogEntry) -> Option<RawJson> + Send + Sync;

/// The names in a history, and its items.
#[derive(Clone)]
struct HistoryShape {
    /// The event of its push.
    event: ByteString,
    /// The name of its list in its push or reply.
    member: ByteString,
    /// Makes an item of a message. `None`: the item is the payload.
    items: Option<Arc<HistoryItems>>,
    /// Whether the list begins with the newest message.
    newest_first: bool,
}

impl Default for HistoryShape {
    fn default() -> Self {
        Self {
            event: ByteString::from_static(MESSAGES_HISTORY),
            member: ByteString::from_static(MESSAGES),
            items: None,
            newest_first: false,
        }
    }
}

impl fmt::Debug for LogRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogRequest")
            .field("mode", &self.mode)
            .field("limit", &self.limit)
            .field("last_seen", &self.last_seen)
            .finish_non_exhaustive()
    }
}

/// How the messages of a join reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HistoryForm {
    /// Not at all.
    Nothing,
    /// Each as its own push, behind the reply.
    Each,
    /// As one push, behind the reply.
    List,
    /// In the reply.
    Reply,
}

/// A `last_seen_id`.
#[derive(Clone, Copy, Debug)]
enum LastSeen {
    Id(MessageId),
    /// No id of this server: the gap cannot be filled.
    Unknown,
}

impl LastSeen {
    /// `None` if it is no text.
    fn read(json: &RawValue) -> Option<Self> {
        let id = json.get().starts_with('"').then(|| read::<String>(json))?;
        let id = id.and_then(|id| id.parse().ok());
        Some(id.map_or(Self::Unknown, Self::Id))
    }
}

/// The value of a join param, if it is a `T`. A value of more than 256 bytes is never parsed, so that no client makes
/// the server build a large one.
fn read<T: DeserializeOwned>(json: &RawValue) -> Option<T> {
    const LONGEST: usize = 256;
    let short = Some(json.get()).filter(|text| text.len() <= LONGEST)?;
    serde_json::from_str(short).ok()
}

impl Default for LogRequest {
    /// No history, no resume.
    fn default() -> Self {
        Self::new(HistoryMode::None)
    }
}

impl LogRequest {
    /// Whether the client has named the last message that it has seen.
    pub(super) fn asks_to_resume(&self) -> bool {
        self.last_seen.is_some()
    }

    /// The history in this mode, with the number of messages of the topic's rule.
    ///
    /// ```
    /// # use slackir::channel::{HistoryMode, LogRequest};
    /// let request = LogRequest::new(HistoryMode::PerEvent);
    /// # let _ = request;
    /// ```
    pub fn new(mode: HistoryMode) -> Self {
        Self {
            mode,
            shape: None,
            limit: None,
            meta: false,
            last_seen: None,
        }
    }

    /// Names the push of [`HistoryMode::MessagesHistory`]. Default `messages_history`.
    ///
    /// ```
    /// # use slackir::channel::{HistoryMode, LogRequest};
    /// let request = LogRequest::new(HistoryMode::MessagesHistory).history_event("backlog");
    /// # let _ = request;
    /// ```
    pub fn history_event(mut self, event: impl Into<ByteString>) -> Self {
        self.shape_mut().event = event.into();
        self
    }

    /// Names the list of messages in the push or the reply that carries it. Default `messages`.
    ///
    /// ```
    /// # use slackir::channel::{HistoryMode, LogRequest};
    /// let request = LogRequest::new(HistoryMode::Reply).history_member("posts");
    /// # let _ = request;
    /// ```
    pub fn history_member(mut self, name: impl Into<ByteString>) -> Self {
        self.shape_mut().member = name.into();
        self
    }

    /// Makes the items of a history: `item` gets a stored message, and returns its JSON, or `None` to leave it out.
    /// A history counts its messages before that. In [`HistoryMode::PerEvent`] `item` only chooses: each message
    /// comes under its own event with its own payload. A resume has all messages, as they were sent. Messages that the
    /// channel intercepts go to `handle_replay` instead.
    ///
    /// ```
    /// # use slackir::channel::{HistoryMode, LogRequest};
    /// let request = LogRequest::new(HistoryMode::Reply)
    ///     .items(|entry| (entry.event() == "new_msg").then(|| entry.payload().clone()));
    /// # let _ = request;
    /// ```
    pub fn items(
        mut self,
        item: impl Fn(&LogEntry) -> Option<RawJson> + Send + Sync + 'static,
    ) -> Self {
        self.shape_mut().items = Some(Arc::new(item));
        self
    }

    /// Lists the newest message of a history first. Messages that come as pushes of their own come oldest first.
    ///
    /// ```
    /// # use slackir::channel::{HistoryMode, LogRequest};
    /// let request = LogRequest::new(HistoryMode::Reply).newest_first();
    /// # let _ = request;
    /// ```
    pub fn newest_first(mut self) -> Self {
        self.shape_mut().newest_first = true;
        self
    }

    /// Takes the last seen message from another join param than `last_seen_id`, which a frontend may use for itself.
    /// Without such a param the client does not resume.
    ///
    /// ```
    /// # use slackir::channel::{HistoryMode, LogRequest};
    /// let params = serde_json::json!({"last_seen_id": 7, "resume_after": "1-7"}).into();
    /// let request = LogRequest::from_params(HistoryMode::Reply, &params).resumes_by("resume_after", &params);
    /// # let _ = request;
    /// ```
    pub fn resumes_by(mut self, param: &str, params: &Payload) -> Self {
        let value = match params {
            Payload::Json(json) => json.members([param]).and_then(|[value]| value),
            Payload::Binary(_) => None,
        };
        self.last_seen = value.and_then(LastSeen::read);
        self
    }

    fn shape_mut(&mut self) -> &mut HistoryShape {
        Arc::make_mut(self.shape.get_or_insert_default())
    }

    fn member(&self) -> &str {
        self.shape.as_ref().map_or(MESSAGES, |shape| &shape.member)
    }

    fn item_maker(&self) -> Option<&HistoryItems> {
        self.shape.as_ref()?.items.as_deref()
    }

    /// Messages as a history of this request lists them, each with its `_meta`: the answer to a client that asks for
    /// older ones. As [`stored_messages`], it does not pass `handle_replay`.
    pub fn page(&self, entries: &[Arc<LogEntry>]) -> Payload {
        let paged = Self {
            meta: true,
            ..self.clone()
        };
        paged.plain_page(entries)
    }

    /// As [`page`](Self::page), with `_meta` only if the request asks for it.
    pub fn plain_page(&self, entries: &[Arc<LogEntry>]) -> Payload {
        self.listed(&self.list(entries))
    }

    /// The request in a client's join params; `mode` is the default.
    ///
    /// ```
    /// # use slackir::channel::{HistoryMode, LogRequest};
    /// let params = serde_json::json!({"last_seen_id": "1-7"}).into();
    /// let request = LogRequest::from_params(HistoryMode::PerEvent, &params);
    /// # let _ = request;
    /// ```
    pub fn from_params(mode: HistoryMode, params: &Payload) -> Self {
        let mut request = Self::new(mode);
        let members = match params {
            Payload::Json(json) => json.members(["last_seen_id", "meta", "history"]),
            Payload::Binary(_) => None,
        };
        let Some([last_seen, meta, history]) = members else {
            return request;
        };
        request.meta = meta.is_some_and(|meta| meta.get() == "true");
        request.last_seen = last_seen.and_then(LastSeen::read);
        if let Some(history) = history {
            match read::<u64>(history) {
                Some(limit) => request.limit = Some(usize::try_from(limit).unwrap_or(usize::MAX)),
                None => {
                    let named = read::<String>(history).and_then(|name| HistoryMode::named(&name));
                    request.mode = named.unwrap_or(request.mode);
                }
            }
        }
        request
    }

    /// The request, as the log takes it.
    pub(super) fn want(&self) -> Want {
        let limit = match self.mode {
            HistoryMode::None => Some(0),
            _ => self.limit,
        };
        match self.last_seen {
            Some(LastSeen::Id(id)) => Want::Resume(id, limit),
            Some(LastSeen::Unknown) | None => Want::History(limit),
        }
    }

    /// The form in which the messages reach the client.
    pub(super) fn form(&self, backlog: &Backlog) -> HistoryForm {
        match self.mode {
            _ if backlog.resumed => HistoryForm::Each,
            HistoryMode::PerEvent => HistoryForm::Each,
            HistoryMode::None => HistoryForm::Nothing,
            HistoryMode::Reply => HistoryForm::Reply,
            HistoryMode::MessagesHistory => HistoryForm::List,
        }
    }

    /// The join reply with `recovered`, `last_id` and, if the history has that form, its `list`.
    pub(super) fn reply(
        &self,
        reply: Payload,
        backlog: Option<&Backlog>,
        list: Option<&[RawJson]>,
    ) -> Payload {
        let Payload::Json(mut json) = reply else {
            return reply;
        };
        let resumed = backlog.is_some_and(|backlog| backlog.resumed);
        if let Some(list) = list {
            json = json.with_last(self.member(), self.joined(list));
        } else if resumed && self.mode == HistoryMode::Reply {
            // A page that reads the list of its joins finds one.
            json = json.with_last(self.member(), "[]");
        }
        if self.meta || self.last_seen.is_some() {
            json = json.with_last("recovered", resumed);
            json = match self.last_id(backlog) {
                Some(id) => json.with_last("last_id", format_args!("\"{id}\"")),
                None => json.with_last("last_id", "null"),
            };
        }
        Payload::Json(json)
    }

    /// The id just before the first message sent after the join reply. In a resume it is the client's own, so that
    /// a client that is cut off half-way does not skip the rest.
    fn last_id(&self, backlog: Option<&Backlog>) -> Option<MessageId> {
        match (self.last_seen, backlog) {
            (Some(LastSeen::Id(id)), Some(backlog)) if backlog.resumed => Some(id),
            (_, backlog) => backlog?.head,
        }
    }

    /// Sends the messages that follow the join reply.
    pub(super) fn push(&self, backlog: &Backlog, link: &Link) -> Result<(), EncodeError> {
        match self.form(backlog) {
            _ if !link.is_heard() => Ok(()),
            HistoryForm::Each => self.push_each(&backlog.entries, backlog.resumed, link),
            HistoryForm::List => self.push_list(&self.list(&backlog.entries), link),
            HistoryForm::Nothing | HistoryForm::Reply => Ok(()),
        }
    }

    /// Sends the history as a list.
    pub(super) fn push_list(&self, list: &[RawJson], link: &Link) -> Result<(), EncodeError> {
        let shape = self.shape.as_ref();
        let event = shape.map_or(MESSAGES_HISTORY, |shape| &shape.event);
        link.push(event, &self.listed(list))
    }

    fn listed(&self, list: &[RawJson]) -> Payload {
        Payload::Json(RawJson::EMPTY_OBJECT.with_last(self.member(), self.joined(list)))
    }

    /// A history as a JSON list, in the order of the request.
    fn joined(&self, list: &[RawJson]) -> String {
        if self.shape.as_ref().is_some_and(|shape| shape.newest_first) {
            joined(list.iter().rev())
        } else {
            joined(list.iter())
        }
    }

    /// Sends messages under their own events. A history leaves out the messages without an item.
    pub(super) fn push_each(
        &self,
        entries: &[Arc<LogEntry>],
        resumed: bool,
        link: &Link,
    ) -> Result<(), EncodeError> {
        let items = self.item_maker().filter(|_| !resumed);
        entries
            .iter()
            .filter(|entry| items.is_none_or(|item| item(entry).is_some()))
            .try_for_each(|entry| link.push(entry.event(), &Payload::Json(self.payload(entry))))
    }

    /// The payload of a message, as this client wants it.
    pub(super) fn payload(&self, entry: &LogEntry) -> RawJson {
        if self.meta {
            with_meta(entry.payload(), Some(entry.meta()))
        } else {
            entry.payload().clone()
        }
    }

    /// The item of a message in a history. `None`: the history leaves it out.
    pub(super) fn item(&self, entry: &LogEntry) -> Option<RawJson> {
        let Some(item) = self.item_maker() else {
            return Some(self.payload(entry));
        };
        let item = item(entry)?;
        Some(if self.meta && item.is_object() {
            with_meta(&item, Some(entry.meta()))
        } else {
            item
        })
    }

    /// The items of messages in a history.
    pub(super) fn list(&self, entries: &[Arc<LogEntry>]) -> Vec<RawJson> {
        entries
            .iter()
            .filter_map(|entry| self.item(entry))
            .collect()
    }
}

/// The answer to a client that asks for stored messages: `{"messages": [payload, ...]}`, each with its `_meta`.
/// Unlike a history they do not pass [`Channel::handle_replay`](super::Channel::handle_replay): a channel that hides
/// stored messages must leave them out itself.
///
/// ```
/// use slackir::channel::stored_messages;
///
/// let none = serde_json::json!({"messages": []});
/// assert_eq!(stored_messages(&[]), none.into());
/// ```
pub fn stored_messages(entries: &[Arc<LogEntry>]) -> Payload {
    let payload = |entry: &Arc<LogEntry>| with_meta(entry.payload(), Some(entry.meta()));
    let payloads: Vec<_> = entries.iter().map(payload).collect();
    Payload::Json(RawJson::EMPTY_OBJECT.with_last(MESSAGES, joined(payloads.iter())))
}

/// The payloads as a JSON list, copied as they are.
fn joined<'a>(payloads: impl Iterator<Item = &'a RawJson>) -> String {
    let texts: Vec<&str> = payloads.map(RawJson::get).collect();
    format!("[{}]", texts.join(","))
}
