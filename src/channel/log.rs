//! How the stored messages of a topic reach a client that joins: what it may ask for in its join
//! params, and what it is answered.

use std::sync::Arc;

use bytestring::ByteString;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::link::Link;
use crate::message::{Payload, RawJson};
use crate::pubsub::{Backlog, LogEntry, MessageId, Want, with_meta};
use crate::serializer::EncodeError;

/// The event of [`HistoryMode::MessagesHistory`], unless the application calls it otherwise.
const MESSAGES_HISTORY: &str = "messages_history";
/// The key under which a list of messages stands.
const MESSAGES: &str = "messages";

/// How a join delivers the topic's history, oldest message first.
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
    /// In the join reply, as its member `messages`. A reply that is no object stays as it is.
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
}

/// What a client wants of its topic's log. The application says what is usual, the client's join
/// params may say more:
///
/// | param | what it does |
/// | --- | --- |
/// | `last_seen_id` | resumes: what was stored after this message comes as it would have come live |
/// | `meta: true` | stored messages carry `_meta: {"id": .., "at": ..}`: the `last_seen_id` of next time, and when they were published |
/// | `history` | another mode, by its name, or another number of messages, up to the rule's |
///
/// With one of the first two the join reply carries `recovered`, whether the resume gives
/// everything that was missed, and `last_id`, the message after which what follows the reply
/// begins. Params of another type are not meant for this and are ignored.
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
#[derive(Clone, Debug)]
pub struct LogRequest {
    mode: HistoryMode,
    history_event: ByteString,
    limit: Option<usize>,
    pub(super) meta: bool,
    /// What the client has seen last, if it resumes.
    last_seen: Option<LastSeen>,
}

/// How the messages of a join reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Not at all.
    Nothing,
    /// Each as its own push, behind the reply.
    Each,
    /// As one push, behind the reply.
    List,
    /// In the reply.
    Reply,
}

/// A `last_seen_id` as it came.
#[derive(Clone, Copy, Debug)]
enum LastSeen {
    Id(MessageId),
    /// Nothing that this server has ever given: the gap cannot be filled.
    Unknown,
}

impl LastSeen {
    /// `None` for what is no text.
    fn read(json: &RawValue) -> Option<Self> {
        let id = json.get().starts_with('"').then(|| read::<String>(json))?;
        let id = id.and_then(|id| id.parse().ok());
        Some(id.map_or(Self::Unknown, Self::Id))
    }
}

/// The value of a join param, if it is a `T`. A longer one is never parsed, so that no client has
/// the server build something of it.
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
    /// The history in this mode, as many messages as the topic's rule says.
    pub fn new(mode: HistoryMode) -> Self {
        Self {
            mode,
            history_event: ByteString::from_static(MESSAGES_HISTORY),
            limit: None,
            meta: false,
            last_seen: None,
        }
    }

    /// What the push of [`HistoryMode::MessagesHistory`] is called. Default `messages_history`.
    pub fn history_event(mut self, event: impl Into<ByteString>) -> Self {
        self.history_event = event.into();
        self
    }

    /// What the client asks for in its join params; `mode` is what it gets when it does not say.
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

    /// What to ask the log for.
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
    pub(super) fn form(&self, backlog: &Backlog) -> Form {
        match self.mode {
            _ if backlog.resumed => Form::Each,
            HistoryMode::PerEvent => Form::Each,
            HistoryMode::None => Form::Nothing,
            HistoryMode::Reply => Form::Reply,
            HistoryMode::MessagesHistory => Form::List,
        }
    }

    /// The join reply that says what the client gets; `list` stands in it if that is the form.
    pub(super) fn reply(
        &self,
        reply: Payload,
        backlog: Option<&Backlog>,
        list: Option<&[RawJson]>,
    ) -> Payload {
        let Payload::Json(mut json) = reply else {
            return reply;
        };
        if let Some(list) = list {
            json = json.with_last(MESSAGES, joined(list));
        }
        let resumed = backlog.is_some_and(|backlog| backlog.resumed);
        if self.meta || self.last_seen.is_some() {
            json = json.with_last("recovered", resumed);
            json = match self.last_id(backlog) {
                Some(id) => json.with_last("last_id", format_args!("\"{id}\"")),
                None => json.with_last("last_id", "null"),
            };
        }
        Payload::Json(json)
    }

    /// After which message that begins which the client gets after the reply. A client that is cut
    /// off half-way through a resume must not skip the rest of it.
    fn last_id(&self, backlog: Option<&Backlog>) -> Option<MessageId> {
        match (self.last_seen, backlog) {
            (Some(LastSeen::Id(id)), Some(backlog)) if backlog.resumed => Some(id),
            (_, backlog) => backlog?.head,
        }
    }

    /// Sends what follows the join reply.
    pub(super) fn push(&self, backlog: &Backlog, link: &Link) -> Result<(), EncodeError> {
        match self.form(backlog) {
            _ if !link.is_heard() => Ok(()),
            Form::Each => self.push_each(&backlog.entries, link),
            Form::List => self.push_list(&self.list(&backlog.entries), link),
            Form::Nothing | Form::Reply => Ok(()),
        }
    }

    /// Sends the history as a list.
    pub(super) fn push_list(&self, list: &[RawJson], link: &Link) -> Result<(), EncodeError> {
        let list = RawJson::EMPTY_OBJECT.with_last(MESSAGES, joined(list));
        link.push(&self.history_event, &Payload::Json(list))
    }

    /// Sends messages as what they were.
    pub(super) fn push_each(
        &self,
        entries: &[Arc<LogEntry>],
        link: &Link,
    ) -> Result<(), EncodeError> {
        entries
            .iter()
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

    /// The payloads of messages, as this client wants them.
    pub(super) fn list(&self, entries: &[Arc<LogEntry>]) -> Vec<RawJson> {
        entries.iter().map(|entry| self.payload(entry)).collect()
    }
}

/// What a client is answered who asks for stored messages: `{"messages": [payload, ...]}`, each
/// with its `_meta`. Unlike a history they do not go through the channel where it intercepts: one that
/// hides stored messages must leave them out itself.
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
    Payload::Json(RawJson::EMPTY_OBJECT.with_last(MESSAGES, joined(&payloads)))
}

/// The payloads as a JSON list, copied as they are.
fn joined(payloads: &[RawJson]) -> String {
    let texts: Vec<&str> = payloads.iter().map(RawJson::get).collect();
    format!("[{}]", texts.join(","))
}
