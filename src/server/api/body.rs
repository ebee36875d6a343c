//! Bodies of requests. A body is read whole, then field by field, so that one answer names every wrong field.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use serde_json::value::RawValue;

use super::error::{FieldProblems, IDEMPOTENCY_KEY};
use super::{ApiError, Shared};
use crate::ban::{BanKind, BanTarget, InvalidAddress};
use crate::message::{MAX_NAME_LEN, Payload, RawJson};
use crate::pubsub::{Draft, Selector};
use crate::serializer::check_relayable;
use crate::server::language::age;
use crate::server::rooms::{Room, is_client_ref, selector_of};
use crate::slow_mode::MAX_INTERVAL;

const EVENT: &str = "event";
const PAYLOAD: &str = "payload";
const CLIENT_REF: &str = "client_ref";
const TO: &str = "to";
const FOR: &str = "for";
const MESSAGES: &str = "messages";
const TOPIC: &str = "topic";
const USER: &str = "user";
const ADDRESS: &str = "address";
const KIND: &str = "kind";
const SECONDS: &str = "seconds";
const INTERVAL: &str = "interval";
/// A hundred years.
const MAX_SECONDS: u64 = 3_153_600_000;
/// The most messages of a batch.
const MAX_BATCH: usize = 100;
/// The field name for a problem of the whole body.
const BODY: &str = "body";

impl Shared {
    /// Reads a body of at most `max_body` bytes.
    pub(super) async fn body(&self, body: web::Payload) -> Result<web::Bytes, ApiError> {
        let limit = self.max_body;
        let read = body.to_bytes_limited(limit).await;
        read.map_err(|_| ApiError::TooLarge { limit })?
            .map_err(|_| ApiError::CutShort)
    }
}

/// The name of the message in the header `Idempotency-Key`: bare, or quoted as a structured field.
pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let mut keys = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let text = std::str::from_utf8(key.as_bytes()).ok().map(str::trim);
    let bare = |text: &'_ str| -> Option<String> {
        let inner = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let key = inner.unwrap_or(text);
        is_client_ref(key).then(|| key.to_owned())
    };
    let key = text.and_then(bare).filter(|_| keys.next().is_none());
    let problem = "must be one text of 1 to 64 bytes, as a client_ref";
    key.map(Some)
        .ok_or_else(|| ApiError::field(IDEMPOTENCY_KEY, problem))
}

/// The body of a POST: the message to publish. `key`: its `client_ref`, from the header.
pub(super) fn created(body: &[u8], room: &Room, key: Option<String>) -> Result<Draft, ApiError> {
    BodyFields::read(body)?.created(room, key)
}

/// The body of a batch: its messages.
pub(super) fn batch(body: &[u8]) -> Result<Vec<BatchItem<'_>>, ApiError> {
    let mut form = BodyFields::read(body)?;
    let list = form.members.remove(MESSAGES);
    let list = list.map(|json| serde_json::from_str::<Vec<&RawValue>>(json.get()));
    let items = match list {
        Some(Ok(items)) if (1..=MAX_BATCH).contains(&items.len()) => items,
        _ => {
            form.refuse(
                MESSAGES,
                format!("must be a list of 1 to {MAX_BATCH} messages"),
            );
            Vec::new()
        }
    };
    form.finish()?;
    Ok(items.into_iter().map(BatchItem).collect())
}

/// One message of a batch.
pub(super) struct BatchItem<'a>(&'a RawValue);

impl<'a> BatchItem<'a> {
    /// Its topic, and the rest of it.
    pub(super) fn topic(self) -> Result<(String, BodyFields<'a>), ApiError> {
        let mut form = BodyFields::read(self.0.get().as_bytes())?;
        let topic = form.members.remove(TOPIC);
        let topic = topic.and_then(|json| serde_json::from_str(json.get()).ok());
        let topic = topic.ok_or(ApiError::field(TOPIC, "must be a text"))?;
        Ok((topic, form))
    }
}

impl BodyFields<'_> {
    /// The message to publish.
    pub(super) fn created(self, room: &Room, key: Option<String>) -> Result<Draft, ApiError> {
        let mut form = self;
        let stored = room.stored_events();
        let first = room.events.first().map(String::as_str);
        let event = form.event(&stored, first.or(stored.first().copied()));
        let payload = form.payload(room);
        let own_ref = form.client_ref();
        // As in a shout, the payload may hold the client_ref.
        let inner_ref = payload
            .as_ref()
            .map_or(Ok(None), |json| room.client_ref(json));
        if inner_ref.is_err() {
            form.refuse(
                PAYLOAD,
                format!("its {} {CLIENT_REF_RULE}", room.fields.client_ref),
            );
        }
        form.finish()?;
        if own_ref.is_some() && key.is_some() && own_ref != key {
            return Err(ApiError::ConflictingKeys);
        }
        let draft = Draft::new(&event, payload.map_or(Payload::EMPTY, Payload::Json));
        Ok(match own_ref.or(key).or(inner_ref.unwrap_or_default()) {
            Some(client_ref) => draft.client_ref(client_ref),
            None => draft,
        })
    }
}

/// The body of a PUT: the new payload.
pub(super) fn updated(body: &[u8], room: &Room) -> Result<RawJson, ApiError> {
    let mut form = BodyFields::read(body)?;
    let payload = form.payload(room);
    form.finish()?;
    Ok(payload.unwrap_or(RawJson::EMPTY_OBJECT))
}

/// The body of a broadcast: an event of the room's `server_events`, which is not stored.
pub(super) fn broadcast(body: &[u8], room: &Room) -> Result<Draft, ApiError> {
    let mut form = BodyFields::read(body)?;
    let events = room.rules.server_events.iter();
    let event = form.event(&events.map(String::as_str).collect::<Vec<_>>(), None);
    let payload = form.payload(room);
    let to = form.to();
    form.finish()?;
    let payload = payload.map_or(Payload::EMPTY, Payload::Json);
    let draft = Draft::new(&event, payload).live();
    Ok(match to {
        Some(to) => draft.to(to),
        None => draft,
    })
}

/// The body of a request to end channels: the members; `None`: all. It may be empty.
pub(super) fn close(body: &[u8]) -> Result<Option<Selector>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut form = BodyFields::read(body)?;
    let to = form.to();
    form.finish()?;
    Ok(to)
}

/// The body of a revocation: how long it is remembered. It may be empty.
pub(super) fn revocation(body: &[u8]) -> Result<Option<Duration>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut form = BodyFields::read(body)?;
    let remembered = form.age(FOR);
    form.finish()?;
    Ok(remembered)
}

/// A ban that a caller wants.
pub(super) struct NewBan {
    pub(super) kind: BanKind,
    pub(super) target: BanTarget,
    pub(super) lasts: Duration,
}

/// The body of a ban: a user or an address, the kind, and the seconds.
pub(super) fn ban(body: &[u8]) -> Result<NewBan, ApiError> {
    let mut form = BodyFields::read(body)?;
    let target = form.ban_target();
    let kind = match form.text(KIND).as_deref() {
        Some("ban") => BanKind::Ban,
        Some("mute") => BanKind::Mute,
        _ => {
            form.refuse(KIND, "must be ban or mute");
            BanKind::Ban
        }
    };
    let lasts = form.seconds(SECONDS, MAX_SECONDS);
    form.finish()?;
    Ok(NewBan {
        kind,
        // Without it the form has a problem.
        target: target.unwrap_or(BanTarget::User(String::new())),
        lasts,
    })
}

/// A slow mode that a caller wants.
pub(super) struct NewSlowMode {
    pub(super) interval: Duration,
    /// `None`: until it is taken away.
    pub(super) lasts: Option<Duration>,
}

/// The body of a slow mode: the seconds between two messages of a person, and the seconds until its end.
pub(super) fn slow_mode(body: &[u8]) -> Result<NewSlowMode, ApiError> {
    let mut form = BodyFields::read(body)?;
    let interval = form.seconds(INTERVAL, MAX_INTERVAL);
    let lasts = match form.members.get(SECONDS).map(|json| json.get()) {
        None | Some("null") => {
            form.members.remove(SECONDS);
            None
        }
        Some(_) => Some(form.seconds(SECONDS, MAX_SECONDS)),
    };
    form.finish()?;
    Ok(NewSlowMode { interval, lasts })
}

const CLIENT_REF_RULE: &str = "must be a text of 1 to 64 bytes without NUL, or null";

/// The members of a body that are not yet read, and the problems of those that are.
pub(super) struct BodyFields<'a> {
    members: BTreeMap<Cow<'a, str>, &'a RawValue>,
    problems: FieldProblems,
}

impl<'a> BodyFields<'a> {
    fn read(body: &'a [u8]) -> Result<Self, ApiError> {
        let json: &RawValue = serde_json::from_slice(body)
            .map_err(|error| ApiError::field(BODY, format!("must be JSON: {error}")))?;
        let members = serde_json::from_str(json.get())
            .map_err(|_| ApiError::field(BODY, "must be an object"))?;
        Ok(Self {
            members,
            problems: FieldProblems::new(),
        })
    }

    fn refuse(&mut self, field: &str, problem: impl Into<Cow<'static, str>>) {
        self.problems.insert(field.to_owned(), problem.into());
    }

    /// One of these events; `default` if the body has none.
    fn event(&mut self, events: &[&str], default: Option<&str>) -> String {
        let named = match self.members.remove(EVENT) {
            None => default.map(str::to_owned),
            Some(json) => serde_json::from_str::<String>(json.get()).ok(),
        };
        let event = named.filter(|event| events.contains(&&**event));
        event.unwrap_or_else(|| {
            let problem = if events.is_empty() {
                "the room has no such events".to_owned()
            } else {
                format!("must be one of: {}", events.join(", "))
            };
            self.refuse(EVENT, problem);
            String::new()
        })
    }

    /// The members that are meant; `None`: all.
    fn to(&mut self) -> Option<Selector> {
        let json = self.members.remove(TO)?;
        let labels = match serde_json::from_str(json.get()) {
            Ok(None) => return None,
            Ok(Some(labels)) => selector_of(labels),
            Err(_) => Err("must be an object of labels, as {\"user.id\": 7}".to_owned()),
        };
        labels.map_err(|problem| self.refuse(TO, problem)).ok()
    }

    fn text(&mut self, field: &str) -> Option<String> {
        let json = self.members.remove(field)?;
        serde_json::from_str(json.get()).ok()
    }

    /// A whole number of seconds, from one to `max`; a second if it is wrong.
    fn seconds(&mut self, field: &str, max: u64) -> Duration {
        let json = self.members.remove(field);
        let seconds = json.and_then(|json| json.get().parse().ok());
        let seconds = seconds.filter(|seconds| (1..=max).contains(seconds));
        if seconds.is_none() {
            self.refuse(field, format!("must be a whole number from 1 to {max}"));
        }
        Duration::from_secs(seconds.unwrap_or(1))
    }

    /// The user, the address or the network of a ban.
    fn ban_target(&mut self) -> Option<BanTarget> {
        let both = [USER, ADDRESS].map(|field| self.members.contains_key(field));
        let (field, target) = match both {
            [true, false] => (USER, self.text(USER)),
            [false, true] => (ADDRESS, self.text(ADDRESS)),
            _ => {
                self.members
                    .retain(|name, _| name != USER && name != ADDRESS);
                self.refuse(USER, "one of user and address must be there");
                return None;
            }
        };
        let read = match target {
            Some(user) if field == USER => {
                let is_name = (1..=MAX_NAME_LEN).contains(&user.len()) && !user.contains('\0');
                let problem = format!("must be a text of 1 to {MAX_NAME_LEN} bytes without NUL");
                is_name.then_some(BanTarget::User(user)).ok_or(problem)
            }
            Some(address) => {
                let range = address.parse().map(BanTarget::Address);
                range.map_err(|error: InvalidAddress| error.to_string())
            }
            None => Err("must be a text".to_owned()),
        };
        read.map_err(|problem| self.refuse(field, problem)).ok()
    }

    /// A time such as `"24h"`.
    fn age(&mut self, field: &str) -> Option<Duration> {
        let json = self.members.remove(field)?;
        let text = serde_json::from_str::<String>(json.get());
        let read = text.map_err(|_| "must be a text such as \"24h\"".to_owned());
        read.and_then(|text| age(&text))
            .map_err(|problem| self.refuse(field, problem))
            .ok()
    }

    /// An object that every client can parse, of at most the room's `max_message_bytes`.
    fn payload(&mut self, room: &Room) -> Option<RawJson> {
        let Some(json) = self.members.remove(PAYLOAD) else {
            self.refuse(PAYLOAD, "is missing");
            return None;
        };
        if !json.get().starts_with('{') {
            self.refuse(PAYLOAD, "must be an object");
            return None;
        }
        let limit = room.max_message_bytes;
        if json.get().len() > limit {
            self.refuse(PAYLOAD, format!("must have at most {limit} bytes"));
            return None;
        }
        if let Err(error) = check_relayable(json.get()) {
            self.refuse(PAYLOAD, error.to_string());
            return None;
        }
        Some(RawJson::from(json.to_owned()))
    }

    fn client_ref(&mut self) -> Option<String> {
        let json = self.members.remove(CLIENT_REF)?;
        match serde_json::from_str::<Option<String>>(json.get()) {
            Ok(None) => None,
            Ok(Some(text)) if is_client_ref(&text) => Some(text),
            _ => {
                self.refuse(CLIENT_REF, CLIENT_REF_RULE);
                None
            }
        }
    }

    /// Fails if a member was wrong or is unknown.
    fn finish(mut self) -> Result<(), ApiError> {
        for name in std::mem::take(&mut self.members).into_keys() {
            self.refuse(&name, "is not known here");
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(self.problems))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(body: &str) -> Vec<(String, String)> {
        match created(body.as_bytes(), &Room::default(), None) {
            Err(ApiError::Invalid(fields)) => fields
                .into_iter()
                .map(|(field, problem)| (field, problem.into_owned()))
                .collect(),
            other => panic!("{body} is {other:?}"),
        }
    }

    #[test]
    fn each_field_that_is_wrong_is_named_with_a_reason() {
        let long = format!(r#"{{"payload":{{}},"client_ref":"{}"}}"#, "x".repeat(65));
        let too_long = format!(r#"{{"payload":{{"a":"{}"}}}}"#, "x".repeat(1_000_000));
        for (body, expected) in [
            ("", &[("body", "must be JSON")][..]),
            ("{", &[("body", "must be JSON")]),
            ("{} {}", &[("body", "must be JSON")]),
            ("[]", &[("body", "must be an object")]),
            ("null", &[("body", "must be an object")]),
            ("{}", &[("payload", "is missing")]),
            (r#"{"payload":7}"#, &[("payload", "must be an object")]),
            (r#"{"payload":null}"#, &[("payload", "must be an object")]),
            (r#"{"payload":[{}]}"#, &[("payload", "must be an object")]),
            (&too_long, &[("payload", "at most 1000000 bytes")]),
            (r#"{"payload":{"a":"\ud800"}}"#, &[("payload", "surrogate")]),
            (r#"{"payload":{"a":1e999}}"#, &[("payload", "out of range")]),
            (
                r#"{"payload":{"client_ref":7}}"#,
                &[("payload", "its client_ref must be a text")],
            ),
            (
                r#"{"payload":{},"client_ref":""}"#,
                &[("client_ref", "1 to 64 bytes")],
            ),
            (&long, &[("client_ref", "1 to 64 bytes")]),
            (
                r#"{"payload":{},"event":"ping"}"#,
                &[("event", "must be one of: shout")],
            ),
            (
                r#"{"event":7,"client_ref":7,"colour":7}"#,
                &[
                    ("client_ref", "must be a text"),
                    ("colour", "is not known"),
                    ("event", "must be one of"),
                    ("payload", "is missing"),
                ],
            ),
        ] {
            let problems = problems(body);
            assert_eq!(problems.len(), expected.len(), "{body}: {problems:?}");
            for ((field, problem), (name, part)) in problems.iter().zip(expected) {
                assert_eq!(field, name, "{body}");
                assert!(problem.contains(part), "{body}: {problem}");
            }
        }
    }

    #[test]
    fn a_sound_body_is_a_draft() {
        for (body, event, client_ref) in [
            (r#"{"payload":{}}"#, "shout", None),
            (r#" {"payload":{},"event":"wave"} "#, "wave", None),
            (r#"{"payload":{},"client_ref":null}"#, "shout", None),
            (r#"{"payload":{"client_ref":"a"}}"#, "shout", Some("a")),
            (
                r#"{"payload":{"client_ref":"a"},"client_ref":"b"}"#,
                "shout",
                Some("b"),
            ),
        ] {
            let room = Room {
                events: vec!["shout".to_owned(), "wave".to_owned()],
                ..Room::default()
            };
            let draft = format!(
                "{:?}",
                created(body.as_bytes(), &room, None).expect("sound")
            );
            assert!(draft.contains(&format!("event: {event:?}")), "{draft}");
            let named = format!("client_ref: {:?}", client_ref.map(str::to_owned));
            assert!(draft.contains(&named), "{draft}");
        }
    }
}
