//! The data that travels between the layers: [`Message`], [`Payload`], [`Reply`] and their parts.
//!
//! No layer parses a payload. A client's payload is a slice of the bytes that were read (or a copy, if an
//! object in it has a key twice), and is sent on as the same bytes. Phoenix: `Phoenix.Socket.Message`,
//! `.Reply`, `.Broadcast`.

mod invalid;
mod members;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub use self::invalid::InvalidPayload;

/// The event with which a client joins a topic.
pub const PHX_JOIN: &str = "phx_join";
/// The event with which a client leaves a topic.
pub const PHX_LEAVE: &str = "phx_leave";
/// The event of every reply.
pub const PHX_REPLY: &str = "phx_reply";
/// The event after a channel has ended in order.
pub const PHX_CLOSE: &str = "phx_close";
/// The event after a channel has crashed.
pub const PHX_ERROR: &str = "phx_error";
/// The topic on which clients send their heartbeat.
pub const PHOENIX_TOPIC: &str = "phoenix";
/// The event of the heartbeat.
pub const HEARTBEAT: &str = "heartbeat";
/// The event on a socket's id that ends its connections.
pub(crate) const DISCONNECT: &str = "disconnect";

/// Whether an event of this name means something to phoenix.js itself: the protocol's, and those of presences.
pub(crate) fn is_of_protocol(event: &str) -> bool {
    event.starts_with("phx_") || event.starts_with("presence_")
}

/// The reasons of the server's own error replies. Clients match on these texts.
pub mod reason {
    /// A room does not let the client in.
    pub const UNAUTHORIZED: &str = "unauthorized";
    /// No channel is joined, or none is routed, for the topic.
    pub const UNMATCHED_TOPIC: &str = "unmatched topic";
    /// `join` panicked.
    pub const JOIN_CRASHED: &str = "join crashed";
    /// The connection has its maximum of channels.
    pub const TOO_MANY_CHANNELS: &str = "too many channels joined";
    /// A topic or an event is longer than 255 bytes.
    pub const NAME_TOO_LONG: &str = "topic or event too long";
    /// The topic keeps messages, and its name has a NUL character, which PostgreSQL cannot store.
    pub const NUL_IN_TOPIC: &str = "topic must not hold NUL";
    /// The client exceeds its rate of joins, pushes or bytes. The response says when to retry, as
    /// `retry_after_ms`.
    pub const RATE_LIMITED: &str = "rate limited";
    /// The user or the address is muted for a while.
    pub const MUTED: &str = "muted";
    /// The unhandled messages of all clients leave no room for this one. The response says when to retry,
    /// as `retry_after_ms`.
    pub const OVERLOADED: &str = "overloaded";
    /// A ref or a join_ref is longer than 255 bytes.
    pub const REF_TOO_LONG: &str = "ref too long";
    /// The built-in channels do not handle this event.
    pub const UNKNOWN_EVENT: &str = "unknown event";
    /// The payload does not have the form that the event needs.
    pub const INVALID_PAYLOAD: &str = "invalid payload";
    /// The payload is longer than the room allows.
    pub const MESSAGE_TOO_LONG: &str = "message too long";
    /// There is no stored message with this id.
    pub const UNKNOWN_MESSAGE: &str = "unknown message";
    /// The database did not confirm the message in time. It may still store the message.
    pub const UNCONFIRMED: &str = "unconfirmed";
    /// The database rejects the message, now and at every retry.
    pub const REJECTED: &str = "rejected";
    /// The application's backend, which has to decide, does not answer.
    pub const UNAVAILABLE: &str = "unavailable";
    /// The database cannot store or read messages at present.
    pub const STORAGE_UNAVAILABLE: &str = "storage unavailable";
}

/// The longest topic, and the longest event, of a client in bytes: the limit of a binary frame's header.
pub const MAX_NAME_LEN: usize = 255;

/// The longest `ref`, and the longest `join_ref`, of a client in bytes of its text: the limit of a binary
/// frame's header. A channel stores its join_ref and repeats it in every message that it sends.
pub const MAX_REF_LEN: usize = 255;

/// A piece of valid JSON text that was not parsed. Clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(ByteString);

impl RawJson {
    /// The empty object, `{}`.
    pub const EMPTY_OBJECT: Self = Self(ByteString::from_static("{}"));
    /// The payload of `phx_error`, as since Phoenix 1.8.10.
    pub(crate) const CHANNEL_CRASH: Self =
        Self(ByteString::from_static(r#"{"reason":"channel_crash"}"#));
    /// The value `null`.
    pub const NULL: Self = Self(ByteString::from_static("null"));

    /// Encodes a value.
    ///
    /// # Errors
    /// If `value` has no JSON form, for example a map whose keys are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(|text| Self(text.into()))
    }

    /// Wraps text that is known to be one JSON value: a slice that a JSON parser accepted, or the output of
    /// an encoder.
    pub(crate) fn trusted(text: ByteString) -> Self {
        Self(text)
    }

    /// The JSON text.
    pub fn get(&self) -> &str {
        &self.0
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Reads the value.
    ///
    /// # Errors
    /// If the value is not a `T`, or is nested deeper than 128 levels.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The values of the members with these names, unparsed. If a name is repeated, its first member
    /// counts. `None` if the value is not an object. Takes one pass over the text and allocates nothing.
    pub(crate) fn members<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Option<[Option<&RawValue>; N]> {
        members::members(&self.0, names)
    }

    /// Adds a member to an object. It comes last, so it overrides an earlier member of the same name.
    /// `value` is JSON text. Returns any other value unchanged.
    pub(crate) fn with_last(&self, key: &str, value: impl fmt::Display) -> Self {
        let Some(members) = self.0.trim_end().strip_suffix('}').map(str::trim_end) else {
            return self.clone();
        };
        let comma = if members.ends_with('{') { "" } else { "," };
        Self(format!("{members}{comma}\"{key}\":{value}}}").into())
    }

    /// Copies the text into its own allocation, so that it does not keep its read buffer alive.
    pub(crate) fn detach(&self) -> Self {
        Self(ByteString::from(&*self.0))
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RawJson {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl From<serde_json::Value> for RawJson {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<Box<RawValue>> for RawJson {
    fn from(raw: Box<RawValue>) -> Self {
        Self(String::from(Box::<str>::from(raw)).into())
    }
}

/// A `ref` or `join_ref`: any JSON value, returned to the client exactly as it was sent.
#[derive(Clone, Debug)]
pub struct Ref(RawJson);

impl Ref {
    /// The ref `null`, which means that there is none.
    pub const NULL: Self = Self(RawJson::NULL);

    pub(crate) fn trusted(text: ByteString) -> Self {
        Self(RawJson(text))
    }

    /// Whether the ref is longer than [`MAX_REF_LEN`].
    pub(crate) fn is_too_long(&self) -> bool {
        let text = self.get();
        let inner = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        inner.unwrap_or(text).len() > MAX_REF_LEN
    }

    /// Whether the ref is `null`.
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// The JSON text of the ref.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    pub(crate) fn detach(&self) -> Self {
        Self(self.0.detach())
    }
}

/// Refs are equal as JSON values and without type conversion: `"3"`, `3` and `3.0` all differ.
impl PartialEq for Ref {
    fn eq(&self, other: &Self) -> bool {
        if self.get() == other.get() {
            return true;
        }
        // Only an escape (`"\u0033"`) or inner white space can make equal values look different.
        let unusual = |text: &str| !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'"');
        if !unusual(self.get()) && !unusual(other.get()) {
            return false;
        }
        match (
            self.0.parse::<serde_json::Value>(),
            other.0.parse::<serde_json::Value>(),
        ) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        }
    }
}

/// A topic or an event. A client may send any JSON value, but only strings can match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A string, unescaped.
    Text(ByteString),
    /// A value of another JSON type, kept for the error reply.
    Other(RawJson),
}

impl Name {
    /// The name, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) => None,
        }
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// The content of a message: unparsed JSON, or bytes.
///
/// ```
/// use serde::Deserialize;
/// use slackir::message::Payload;
///
/// #[derive(Deserialize)]
/// struct Shout {
///     name: String,
/// }
///
/// let payload = Payload::from(serde_json::json!({"name": "ada", "message": "hi"}));
/// let shout: Shout = payload.parse().unwrap();
/// assert_eq!(shout.name, "ada");
/// assert!(payload.is_object());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Any JSON value, usually an object.
    Json(RawJson),
    /// The data of a binary frame.
    Binary(Bytes),
}

impl Payload {
    /// The empty object, which Phoenix sends as an empty payload.
    pub const EMPTY: Self = Self::Json(RawJson::EMPTY_OBJECT);

    /// Encodes a value.
    ///
    /// # Errors
    /// If `value` has no JSON form.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        RawJson::encode(value).map(Self::Json)
    }

    /// Reads a JSON payload.
    ///
    /// # Errors
    /// If the payload is binary, or is not a `T`. The error names the wrong field.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InvalidPayload> {
        match self {
            Self::Json(json) => {
                let read = json.parse();
                read.map_err(|_| InvalidPayload::explain::<T>(json.get()))
            }
            Self::Binary(_) => Err(InvalidPayload::new("expected JSON, not binary")),
        }
    }

    /// The data of a binary payload.
    ///
    /// # Errors
    /// If the payload is JSON.
    pub fn binary(&self) -> Result<&Bytes, InvalidPayload> {
        match self {
            Self::Binary(data) => Ok(data),
            Self::Json(_) => Err(InvalidPayload::new("expected binary, not JSON")),
        }
    }

    /// Whether this is a JSON object.
    pub fn is_object(&self) -> bool {
        matches!(self, Self::Json(json) if json.is_object())
    }

    /// The `reason` of an error reply, if it is a string.
    pub(crate) fn reason(&self) -> Option<String> {
        let Self::Json(json) = self else { return None };
        let [reason] = json.members(["reason"])?;
        serde_json::from_str(reason?.get()).ok()
    }

    /// Size of the content in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a size for accounting, not a container"
    )]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(json) => json.get().len(),
            Self::Binary(data) => data.len(),
        }
    }
}

impl From<serde_json::Value> for Payload {
    fn from(value: serde_json::Value) -> Self {
        Self::Json(value.into())
    }
}

/// Bytes, which are sent as a binary frame.
///
/// ```
/// use slackir::message::{Binary, IntoPayload, Payload};
///
/// let payload = Binary(vec![1, 2, 3].into()).into_payload();
/// assert!(matches!(payload, Payload::Binary(data) if data == [1, 2, 3][..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary(pub Bytes);

/// A value that can be sent: any value that serde can write as JSON, a [`Payload`], or [`Binary`].
///
/// ```
/// use serde::Serialize;
/// use slackir::message::Reply;
///
/// #[derive(Serialize)]
/// struct Created {
///     id: u64,
/// }
///
/// let reply = Reply::ok(Created { id: 7 });
/// assert_eq!(reply, Reply::ok(serde_json::json!({"id": 7})));
/// ```
pub trait IntoPayload {
    /// Makes the payload.
    ///
    /// # Panics
    /// If the value has no JSON form, for example a map whose keys are not strings: this is a bug of the
    /// program. In a callback it crashes the channel, as in Phoenix. [`Payload::encode`] returns an error
    /// instead.
    fn into_payload(self) -> Payload;
}

impl<T: Serialize> IntoPayload for T {
    fn into_payload(self) -> Payload {
        match Payload::encode(&self) {
            Ok(payload) => payload,
            Err(error) => panic!("the value has no JSON form: {error}"),
        }
    }
}

impl IntoPayload for Payload {
    fn into_payload(self) -> Payload {
        self
    }
}

impl IntoPayload for &Payload {
    fn into_payload(self) -> Payload {
        self.clone()
    }
}

impl IntoPayload for Binary {
    fn into_payload(self) -> Payload {
        Payload::Binary(self.0)
    }
}

/// A message from a client. Phoenix: `Phoenix.Socket.Message`.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The ref of the join to which the message belongs.
    pub join_ref: Ref,
    /// The client's own ref for the message. The reply repeats it.
    pub reference: Ref,
    /// The topic of the channel.
    pub topic: Name,
    /// The event.
    pub event: Name,
    /// The content.
    pub payload: Payload,
}

/// The answer to one message: a status and a response.
///
/// ```
/// use slackir::message::Reply;
///
/// let done = Reply::ok(serde_json::json!({"id": 7}));
/// assert_eq!(done.status(), "ok");
/// let no = Reply::error(serde_json::json!({"reason": "unauthorized"}));
/// assert_eq!(no.status(), "error");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    status: Cow<'static, str>,
    response: Payload,
}

impl Reply {
    /// `ok` with a response. Pass `Payload::EMPTY` if there is none.
    pub fn ok(response: impl IntoPayload) -> Self {
        Self::with_status("ok", response)
    }

    /// `error` with a response.
    pub fn error(response: impl IntoPayload) -> Self {
        Self::with_status("error", response)
    }

    /// `error` with `{"reason": reason}`.
    pub fn error_because(reason: &str) -> Self {
        Self::error(serde_json::json!({ "reason": reason }))
    }

    /// Any other status. phoenix.js runs the `receive` hooks of that name.
    pub fn with_status(status: impl Into<Cow<'static, str>>, response: impl IntoPayload) -> Self {
        Self {
            status: status.into(),
            response: response.into_payload(),
        }
    }

    /// `ok`, `error`, or the application's own status.
    pub fn status(&self) -> &str {
        &self.status
    }

    /// The reason of an error, if it has one; `None` if this is no error.
    pub(crate) fn failure(&self) -> Option<Option<String>> {
        (self.status == "error").then(|| self.response.reason())
    }

    /// The response.
    pub fn response(&self) -> &Payload {
        &self.response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_added_last() {
        for (object, want) in [
            ("{}", r#"{"m":[1]}"#),
            (r#"{"a":1}"#, r#"{"a":1,"m":[1]}"#),
            ("{ }", r#"{"m":[1]}"#),
            ("{\"a\" : {} }\n", r#"{"a" : {},"m":[1]}"#),
            ("[]", "[]"),
        ] {
            let json = RawJson::trusted(ByteString::from_static(object));
            assert_eq!(json.with_last("m", "[1]").get(), want);
        }
    }

    /// Requirement 105.
    #[test]
    fn refs_compare_without_type_conversion() {
        let reference = |text: &'static str| Ref::trusted(ByteString::from_static(text));
        for (a, b, equal) in [
            ("\"3\"", "\"3\"", true),
            ("\"3\"", "3", false),
            ("3", "3.0", false),
            ("\"\\u0033\"", "\"3\"", true),
            ("{\"a\":1}", "{ \"a\" : 1 }", true),
            ("null", "\"3\"", false),
        ] {
            assert_eq!(reference(a) == reference(b), equal, "{a} and {b}");
        }
    }
}
