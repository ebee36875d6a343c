//! The JSON of the answers.

use std::net::IpAddr;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use super::error::FailureBody;
use crate::ban::{Ban, BanKind, BanTarget};
use crate::log::MessageId;
use crate::message::RawJson;
use crate::presence::Presences;
use crate::pubsub::{ListedTopics, TopicInfo};
use crate::revocation::Revocation;
use crate::slow_mode::SlowMode;
use crate::socket::{ConnectionInfo, ListedSockets, Traffic};
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

/// The results of a batch, in the order of its messages.
#[derive(Serialize)]
pub(super) struct BatchJson<'a> {
    pub(super) results: Vec<BatchResultJson<'a>>,
}

/// What the request of one message would have been answered.
#[derive(Serialize)]
pub(super) struct BatchResultJson<'a> {
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<MessageJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<FailureBody<'a>>,
}

/// The topics that clients have joined.
#[derive(Serialize)]
pub(super) struct TopicsJson<'a> {
    topics: Vec<TopicJson<'a>>,
    total: usize,
}

#[derive(Serialize)]
struct TopicJson<'a> {
    topic: &'a str,
    members: usize,
    messages: u64,
    #[serde(serialize_with = "optional_time")]
    last_message_at: Option<SystemTime>,
    history: &'static str,
    durability: Option<&'static str>,
}

impl<'a> From<&'a ListedTopics> for TopicsJson<'a> {
    fn from(listed: &'a ListedTopics) -> Self {
        let topic = |info: &'a TopicInfo| TopicJson {
            topic: &info.topic,
            members: info.members,
            messages: info.broadcasts,
            last_message_at: info.last_message,
            history: if info.is_saved { "saved" } else { "none" },
            durability: info.is_saved.then(|| durability(info.is_strict)),
        };
        Self {
            topics: listed.topics.iter().map(topic).collect(),
            total: listed.total,
        }
    }
}

/// The members of a topic.
#[derive(Serialize)]
pub(super) struct MembersJson<'a> {
    members: Vec<MemberJson<'a>>,
    total: usize,
    complete: bool,
}

#[derive(Serialize)]
struct MemberJson<'a> {
    connection: String,
    user: Option<&'a str>,
    address: Option<IpAddr>,
    transport: &'static str,
    #[serde(serialize_with = "time")]
    since: SystemTime,
    outbox_bytes: usize,
}

impl<'a> From<&'a ConnectionInfo> for MemberJson<'a> {
    fn from(info: &'a ConnectionInfo) -> Self {
        Self {
            connection: info.id.to_string(),
            user: info.user.as_deref(),
            address: info.address,
            transport: info.transport,
            since: info.since,
            outbox_bytes: info.outbox_bytes,
        }
    }
}

impl<'a> From<&'a ListedSockets> for MembersJson<'a> {
    fn from(listed: &'a ListedSockets) -> Self {
        Self {
            members: listed.sockets.iter().map(MemberJson::from).collect(),
            total: listed.total,
            complete: listed.is_complete,
        }
    }
}

/// Open connections.
#[derive(Serialize)]
pub(super) struct ConnectionsJson<'a> {
    connections: Vec<ConnectionJson<'a>>,
    total: usize,
    sum: TrafficJson,
    complete: bool,
}

/// What connections have received and sent.
#[derive(Serialize)]
struct TrafficJson {
    received_bytes: u64,
    sent_bytes: u64,
    limited: u64,
}

impl From<Traffic> for TrafficJson {
    fn from(traffic: Traffic) -> Self {
        Self {
            received_bytes: traffic.received_bytes,
            sent_bytes: traffic.sent_bytes,
            limited: traffic.limited,
        }
    }
}

#[derive(Serialize)]
struct ConnectionJson<'a> {
    #[serde(flatten)]
    member: MemberJson<'a>,
    channels: &'a [String],
    #[serde(flatten)]
    traffic: TrafficJson,
}

impl<'a> From<&'a ListedSockets> for ConnectionsJson<'a> {
    fn from(listed: &'a ListedSockets) -> Self {
        let connection = |info: &'a ConnectionInfo| ConnectionJson {
            member: info.into(),
            channels: &info.topics,
            traffic: info.traffic.into(),
        };
        Self {
            connections: listed.sockets.iter().map(connection).collect(),
            total: listed.total,
            sum: listed.traffic.into(),
            complete: listed.is_complete,
        }
    }
}

/// The presences in a topic.
#[derive(Serialize)]
pub(super) struct PresenceJson {
    pub(super) presence: Presences,
}

/// The number of connections that were ended.
#[derive(Serialize)]
pub(super) struct DisconnectedJson {
    pub(super) disconnected: usize,
}

/// Bans in force.
#[derive(Serialize)]
pub(super) struct BansJson<'a> {
    pub(super) bans: Vec<BanJson<'a>>,
    pub(super) total: usize,
}

/// A ban.
#[derive(Serialize)]
pub(super) struct BanJson<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    kind: &'static str,
    #[serde(serialize_with = "time")]
    since: SystemTime,
    #[serde(serialize_with = "time")]
    ends: SystemTime,
}

impl<'a> From<&'a Ban> for BanJson<'a> {
    fn from(ban: &'a Ban) -> Self {
        let (user, address) = match &ban.target {
            BanTarget::User(user) => (Some(user.as_str()), None),
            BanTarget::Address(range) => (None, Some(range.to_string())),
        };
        Self {
            id: &ban.id,
            user,
            address,
            kind: match ban.kind {
                BanKind::Ban => "ban",
                BanKind::Mute => "mute",
            },
            since: ban.since,
            ends: ban.ends,
        }
    }
}

/// The topics in slow mode.
#[derive(Serialize)]
pub(super) struct SlowModesJson<'a> {
    pub(super) slow_modes: Vec<SlowModeJson<'a>>,
    pub(super) total: usize,
}

/// The slow mode of a topic.
#[derive(Serialize)]
pub(super) struct SlowModeJson<'a> {
    topic: &'a str,
    interval: u64,
    #[serde(serialize_with = "time")]
    since: SystemTime,
    #[serde(serialize_with = "optional_time")]
    ends: Option<SystemTime>,
}

impl<'a> From<&'a SlowMode> for SlowModeJson<'a> {
    fn from(mode: &'a SlowMode) -> Self {
        Self {
            topic: &mode.topic,
            interval: mode.interval.as_secs(),
            since: mode.since,
            ends: mode.ends,
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

/// The word for it, as in the settings.
fn durability(is_strict: bool) -> &'static str {
    if is_strict { "strict" } else { "relaxed" }
}

fn id<S: Serializer>(id: &MessageId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn optional_time<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, serializer),
        None => serializer.serialize_none(),
    }
}

fn time<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let at = DateTime::<Utc>::from(*at);
    serializer.collect_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}
