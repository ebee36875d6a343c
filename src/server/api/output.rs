//! The JSON of the answers: messages, pages, erasures, revocations.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::log::MessageId;
use crate::message::RawJson;
use crate::revocation::Revocation;
use crate::store::{CommittedMessage, Page};

/// One message of a topic.
#[derive(Serialize)]
pub(super) struct MessageJson<'a> {
    #[serde(serialize_with = "id")]
    id: MessageId,
    topic: &'a str,
    event: &'a str,
    payload: &'a RawJson,
    client_ref: Option<&'a str>,
    #[serde(serialize_with = "time")]
    inserted_at: SystemTime,
    #[serde(serialize_with = "time")]
    updated_at: SystemTime,
}

impl<'a> MessageJson<'a> {
    pub(super) fn new(topic: &'a str, message: &'a CommittedMessage) -> Self {
        Self {
            id: message.id,
            topic,
            event: &message.event,
            payload: &message.payload,
            client_ref: message.client_ref.as_deref(),
            inserted_at: message.inserted_at,
            updated_at: message.updated_at,
        }
    }
}

/// A page of a topic, oldest first.
#[derive(Serialize)]
pub(super) struct PageJson<'a> {
    messages: Vec<MessageJson<'a>>,
    before: Option<String>,
    after: Option<String>,
}

impl<'a> PageJson<'a> {
    pub(super) fn new(topic: &'a str, page: &'a Page) -> Self {
        let messages = page.messages.iter();
        let cursor = |id: Option<MessageId>| id.map(|id| id.to_string());
        Self {
            messages: messages
                .map(|message| MessageJson::new(topic, message))
                .collect(),
            before: cursor(page.before),
            after: cursor(page.after),
        }
    }
}

/// The number of erased messages.
#[derive(Serialize)]
pub(super) struct ErasedJson {
    pub(super) erased: u64,
}

/// A revocation in force.
#[derive(Serialize)]
pub(super) struct RevokedJson {
    #[serde(serialize_with = "time")]
    not_before: SystemTime,
    #[serde(serialize_with = "time")]
    ends: SystemTime,
}

impl From<&Revocation> for RevokedJson {
    fn from(revocation: &Revocation) -> Self {
        Self {
            not_before: revocation.not_before,
            ends: revocation.ends,
        }
    }
}

fn id<S: Serializer>(id: &MessageId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn time<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let at = DateTime::<Utc>::from(*at);
    serializer.collect_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}
