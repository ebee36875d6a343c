//! [`WrittenNotice`]: a notice as it is sent.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use crate::message::RawJson;
use crate::server::hook::millis;
use crate::server::language::NoticeKind;

/// One notice of a batch.
#[derive(Clone, Debug)]
pub(super) struct WrittenNotice {
    pub(super) kind: NoticeKind,
    /// When it happened.
    pub(super) at: SystemTime,
    pub(super) json: RawJson,
}

/// The member of a notice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToldMember<'a> {
    pub(crate) topic: &'a str,
    pub(crate) socket: &'a str,
    pub(crate) user: &'a Value,
}

impl WrittenNotice {
    fn new(kind: NoticeKind, at: SystemTime, body: &impl Serialize) -> Self {
        let json = RawJson::encode(body).unwrap_or(RawJson::EMPTY_OBJECT);
        Self { kind, at, json }
    }

    /// A member has joined, or left for this reason.
    pub(super) fn of_member(member: ToldMember<'_>, reason: Option<&str>, at: SystemTime) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            kind: &'a str,
            topic: &'a str,
            socket: &'a str,
            user: &'a Value,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
            at: u64,
        }
        let kind = match reason {
            None => NoticeKind::Joined,
            Some(_) => NoticeKind::Left,
        };
        let body = Body {
            kind: kind.name(),
            topic: member.topic,
            socket: member.socket,
            user: member.user,
            reason,
            at: millis(at),
        };
        Self::new(kind, at, &body)
    }

    /// The topic is occupied or vacated.
    pub(super) fn of_topic(kind: NoticeKind, topic: &str, at: SystemTime) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            kind: &'a str,
            topic: &'a str,
            at: u64,
        }
        let body = Body {
            kind: kind.name(),
            topic,
            at: millis(at),
        };
        Self::new(kind, at, &body)
    }
}

#[cfg(feature = "_store")]
impl From<crate::store::FedMessage> for WrittenNotice {
    fn from(message: crate::store::FedMessage) -> Self {
        use chrono::{DateTime, SecondsFormat, Utc};

        #[derive(Serialize)]
        struct Body<'a> {
            kind: &'a str,
            topic: &'a str,
            event: &'a str,
            id: String,
            payload: &'a RawJson,
            client_ref: Option<&'a str>,
            inserted_at: String,
        }
        let (kind, at) = (NoticeKind::Message, message.inserted_at);
        let body = Body {
            kind: kind.name(),
            topic: &message.topic,
            event: &message.event,
            id: message.id.to_string(),
            payload: &message.payload,
            client_ref: message.client_ref.as_deref(),
            // As the HTTP API writes it.
            inserted_at: DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Micros, true),
        };
        Self::new(kind, at, &body)
    }
}
