//! The rules of a room: [`EventRule`], [`JoinRule`], [`PresenceRule`], [`Announcement`].

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::accepted_token::JoinToken;
use super::age::age;
use super::audience::Audience;
use super::condition::Conditions;
use super::event_name::{check_event, check_push};
use super::limit::MemberRate;
use super::shape::Shapes;
use super::table::only_tables;
use super::template::{Scope, Template, Variable};
use crate::presence::{Changes, PRESENCE_STATE};

/// The variables at a join.
const JOIN: Scope = Scope::of(&[
    Variable::User,
    Variable::Me,
    Variable::Params,
    Variable::Topic,
    Variable::Uuid,
    Variable::Now,
    Variable::Socket,
]);

/// The variables of `[rooms.join]` itself.
const JOIN_RULE: Scope = JOIN.and(Scope::of(&[Variable::Token]));

/// The variables at an event, for what is not sent: it has no id.
const STATE: Scope = JOIN.and(Scope::of(&[Variable::Payload, Variable::Event]));

/// The variables at an event.
const EVENT: Scope = STATE.and(Scope::of(&[Variable::Id]));

/// `[rooms.on.EVENT]`: the rule for an event that members push.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub(crate) struct EventRule {
    /// The shape of the payload.
    pub(crate) require: Shapes,
    /// The error reply to a payload of another shape. `None`: `{"reason": "invalid payload", "field": ..}`.
    #[serde(deserialize_with = "refusal")]
    pub(crate) refuse: Option<Template>,
    /// The payload that members get; `None`: the client's.
    #[serde(deserialize_with = "event_template")]
    pub(crate) payload: Option<Template>,
    /// A table laid over the payload last.
    #[serde(deserialize_with = "event_table")]
    pub(crate) stamp: Option<Template>,
    /// The event that members get; `None`: the same.
    #[serde(rename = "as", deserialize_with = "event_name")]
    pub(crate) name: Option<String>,
    #[serde(deserialize_with = "event_audience")]
    pub(crate) to: Audience,
    /// Another topic for the message; its room must accept the event. `None`: the member's own.
    #[serde(deserialize_with = "topic")]
    pub(crate) topic: Option<Template>,
    /// Whether the message is stored. `None`: messages to all and to others are.
    pub(crate) store: Option<bool>,
    /// The reply to the sender.
    #[serde(deserialize_with = "reply")]
    pub(crate) reply: Option<Template>,
    /// The error reply that refuses the event.
    #[serde(deserialize_with = "event_template")]
    pub(crate) error: Option<Template>,
    /// The change of the sender's presence.
    pub(crate) presence: Option<PresenceChange>,
    /// A table laid over `me.*`.
    #[serde(deserialize_with = "state_table")]
    pub(crate) set: Option<Template>,
    /// How often a member may send it.
    pub(crate) rate: Option<MemberRate>,
    /// The event asks for saved messages.
    pub(crate) older: Option<OlderRule>,
    /// The event does nothing.
    pub(crate) ignore: bool,
    /// The backend is asked before anything is done.
    pub(crate) hook: bool,
}

/// `older` of a rule: the reply holds saved messages, in the form of the room's histories. `true`: the newest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OlderRule {
    /// The id of the message before which they stand. `None`, or a null: the newest.
    pub(crate) before: Option<Template>,
    /// The most messages, up to the room's `history_limit`.
    pub(crate) limit: Option<Template>,
}

/// The change that an event makes to the sender's presence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PresenceChange {
    /// The sender becomes present.
    Track,
    /// A table laid over the sender's meta.
    Update(Template),
}

/// `[rooms.join]`: the rules of joins.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub(crate) struct JoinRule {
    /// The shape of the join params.
    pub(crate) require: Shapes,
    /// The conditions of a join.
    #[serde(rename = "match")]
    pub(crate) conditions: Conditions,
    /// The token that a join needs: `token.*`.
    pub(crate) token: Option<JoinToken>,
    /// The content of `me.*`.
    #[serde(deserialize_with = "join_table")]
    pub(crate) set: Option<Template>,
    /// The reply.
    #[serde(deserialize_with = "join_template")]
    pub(crate) reply: Option<Template>,
    /// The error reply to a refused join. `None`: `{"reason": "unauthorized"}`.
    #[serde(deserialize_with = "join_template")]
    pub(crate) refuse: Option<Template>,
    /// Nobody may join.
    pub(crate) closed: bool,
    /// The backend is asked about a join that the other keys allow.
    pub(crate) hook: bool,
}

/// `[rooms.presence]`: the presence of members.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(crate) struct PresenceRule {
    /// The key of a member. A member with a null key is not tracked.
    #[serde(deserialize_with = "state_template")]
    pub(crate) key: Template,
    /// The meta.
    #[serde(default, deserialize_with = "state_table")]
    pub(crate) meta: Option<Template>,
    /// A table: what a presence has beside its `metas`. Phoenix: `fetch/2`.
    #[serde(default, deserialize_with = "state_table")]
    pub(crate) entry: Option<Template>,
    /// When a member is tracked.
    #[serde(default)]
    pub(crate) at: Moment,
    /// The event of the push with all presences.
    #[serde(default = "presence_state", deserialize_with = "push_name")]
    pub(crate) state_event: String,
    /// Whether members get each change as `presence_diff`. Without it they get the presences once, at their join.
    #[serde(default = "yes")]
    pub(crate) diff: bool,
    /// Whether members get the number of keys, as `presence_count`, in place of presences.
    #[serde(default)]
    pub(crate) count: bool,
    /// For how long a presence stays after its client's connection is lost.
    #[serde(default, deserialize_with = "grace")]
    pub(crate) grace: Duration,
    /// Whether members see the presences without being among them.
    #[serde(default)]
    pub(crate) list_only: bool,
}

/// The moment of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At the join.
    #[default]
    Join,
    /// The end of the membership, whatever its cause, except the end of the server.
    Leave,
    /// An event of the member.
    Event(String),
}

/// `[[rooms.announce]]`: a message that the server sends about a member.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(crate) struct Announcement {
    /// `"join"` or `"leave"`.
    pub(crate) at: Moment,
    /// Its event.
    #[serde(deserialize_with = "some_event_name")]
    pub(crate) event: String,
    /// Its payload; `{}` without it.
    #[serde(default, deserialize_with = "announcement_template")]
    pub(crate) payload: Option<Template>,
    #[serde(default, deserialize_with = "announcement_audience")]
    pub(crate) to: Audience,
    /// Whether it is stored.
    #[serde(default)]
    pub(crate) store: bool,
}

/// `other_events`: the rule for events that the room does not name.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OtherEvents {
    /// The error reply `unknown event`.
    #[default]
    Refuse,
    /// No effect.
    Ignore,
    /// The backend is asked.
    Hook,
}

/// The variables that these templates name.
pub(crate) fn used(templates: &[&Option<Template>]) -> Scope {
    let templates = templates.iter().filter_map(|template| template.as_ref());
    templates.fold(Scope::default(), |used, template| used.and(template.used()))
}

fn parse<'de, D: Deserializer<'de>>(input: D, scope: Scope) -> Result<Template, D::Error> {
    let value = Value::deserialize(input)?;
    Template::parse(&value, scope).map_err(D::Error::custom)
}

/// A template that is a table.
fn parse_table<'de, D: Deserializer<'de>>(input: D, scope: Scope) -> Result<Template, D::Error> {
    let value = Value::deserialize(input)?;
    if !value.is_object() {
        return Err(D::Error::custom("must be a table"));
    }
    Template::parse(&value, scope).map_err(D::Error::custom)
}

fn event_template<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    parse(input, EVENT).map(Some)
}

fn refusal<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    parse(input, STATE).map(Some)
}

fn event_table<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    parse_table(input, EVENT).map(Some)
}

fn join_template<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    parse(input, JOIN_RULE).map(Some)
}

fn join_table<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    parse_table(input, JOIN_RULE).map(Some)
}

fn state_template<'de, D: Deserializer<'de>>(input: D) -> Result<Template, D::Error> {
    parse(input, STATE)
}

fn state_table<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    parse_table(input, STATE).map(Some)
}

fn topic<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    parse(input, STATE).map(Some)
}

fn event_audience<'de, D: Deserializer<'de>>(input: D) -> Result<Audience, D::Error> {
    Audience::parse(Value::deserialize(input)?, STATE).map_err(D::Error::custom)
}

fn announcement_audience<'de, D: Deserializer<'de>>(input: D) -> Result<Audience, D::Error> {
    Audience::parse(Value::deserialize(input)?, JOIN).map_err(D::Error::custom)
}

fn announcement_template<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Template>, D::Error> {
    const SCOPE: Scope = JOIN.and(Scope::of(&[Variable::Id]));
    parse(input, SCOPE).map(Some)
}

/// `true` is `{}`.
fn reply<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Template>, D::Error> {
    let value = match Value::deserialize(input)? {
        Value::Bool(false) => return Ok(None),
        Value::Bool(true) => Value::Object(serde_json::Map::new()),
        value => value,
    };
    let template = Template::parse(&value, EVENT);
    template.map(Some).map_err(D::Error::custom)
}

fn some_event_name<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = String::deserialize(input)?;
    check_event(&name).map_err(D::Error::custom)?;
    Ok(name)
}

fn push_name<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = String::deserialize(input)?;
    check_push(&name).map_err(D::Error::custom)?;
    Ok(name)
}

fn event_name<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    some_event_name(input).map(Some)
}

fn yes() -> bool {
    true
}

/// The longest grace of a presence: its room among all presences is taken meanwhile.
const MAX_GRACE: Duration = Duration::from_secs(600);

fn grace<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    let grace =
        age(&text).map_err(|problem| D::Error::custom(format!("grace: {text:?} {problem}")))?;
    if grace > MAX_GRACE {
        return Err(D::Error::custom("grace: must be at most 10m"));
    }
    Ok(grace)
}

fn presence_state() -> String {
    PRESENCE_STATE.to_owned()
}

only_tables!(EventRule, JoinRule, PresenceRule, Announcement);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let word = String::deserialize(input)?;
        Ok(match &*word {
            "join" => Self::Join,
            "leave" => Self::Leave,
            _ => Self::Event(word),
        })
    }
}

impl<'de> Deserialize<'de> for OlderRule {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut older = Self::default();
        let members = match Value::deserialize(input)? {
            Value::Bool(true) => return Ok(older),
            Value::Object(members) => members,
            _ => return Err(D::Error::custom("must be true or a table")),
        };
        for (name, value) in &members {
            let template = Template::parse(value, STATE).map_err(D::Error::custom)?;
            match &**name {
                "before" => older.before = Some(template),
                "limit" => older.limit = Some(template),
                _ => return Err(D::Error::unknown_field(name, &["before", "limit"])),
            }
        }
        Ok(older)
    }
}

impl<'de> Deserialize<'de> for PresenceChange {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match Value::deserialize(input)? {
            Value::String(word) if word == "track" => Ok(Self::Track),
            value @ Value::Object(_) => {
                let template = Template::parse(&value, STATE);
                template.map(Self::Update).map_err(D::Error::custom)
            }
            _ => Err(D::Error::custom("must be a table or \"track\"")),
        }
    }
}

impl JoinRule {
    /// The variables that its templates name.
    pub(crate) fn used(&self) -> Scope {
        used(&[&self.set, &self.reply, &self.refuse]).and(self.conditions.used())
    }

    /// The contradiction in the rule, if there is one.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let names_token = self.used().has(Variable::Token);
        (names_token && self.token.is_none()).then_some("{token} is there with \"token\" alone")
    }
}

impl PresenceRule {
    /// The variables that its templates name.
    pub(crate) fn used(&self) -> Scope {
        self.key.used().and(used(&[&self.meta, &self.entry]))
    }

    /// What members get when somebody comes or goes.
    pub(crate) fn changes(&self) -> Changes {
        match (self.count, self.diff) {
            (true, _) => Changes::Count,
            (false, true) => Changes::Diffs,
            (false, false) => Changes::Nothing,
        }
    }

    /// The contradiction in the rule, if there is one.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let shows = self.entry.is_some() || !self.diff || self.state_event != PRESENCE_STATE;
        (self.count && shows).then_some(
            "\"count\" sends the number of presences, and \"entry\", \"diff\" and \"state_event\" are about a list",
        )
    }
}

impl EventRule {
    /// Whether its messages are stored.
    pub(crate) fn stores(&self) -> bool {
        let goes_out = match self.to {
            Audience::All | Audience::Others => self.relays(),
            Audience::Sender | Audience::Selected(_) => false,
        };
        goes_out && self.store.unwrap_or(true)
    }

    /// The variables that its templates name.
    pub(crate) fn used(&self) -> Scope {
        let presence = match &self.presence {
            Some(PresenceChange::Update(template)) => template.used(),
            Some(PresenceChange::Track) | None => Scope::default(),
        };
        let templates = [
            &self.payload,
            &self.stamp,
            &self.reply,
            &self.error,
            &self.set,
            &self.topic,
            &self.refuse,
        ];
        let older = self.older.as_ref();
        let older = older.map_or(Scope::default(), |older| {
            used(&[&older.before, &older.limit])
        });
        used(&templates)
            .and(older)
            .and(presence)
            .and(self.to.used())
    }

    /// Whether members are sent something.
    pub(crate) fn relays(&self) -> bool {
        let is_presence = self.presence.is_some() && self.name.is_none();
        !self.ignore && self.error.is_none() && self.older.is_none() && !is_presence
    }

    /// Whether the rule is carried out if the backend does not say. A rule with nothing but the call and checks before
    /// it leaves the event to the backend.
    pub(crate) fn outlasts_hook(&self) -> bool {
        let beside = Self {
            hook: false,
            require: Shapes::default(),
            rate: None,
            ..self.clone()
        };
        beside != Self::default()
    }

    /// The event that members get.
    pub(crate) fn name<'a>(&'a self, event: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(event)
    }

    /// The contradiction in the rule, if there is one.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let does = self.payload.is_some()
            || self.stamp.is_some()
            || self.name.is_some()
            || self.topic.is_some();
        let answers = self.reply.is_some() || self.error.is_some();
        if self.hook && (self.ignore || self.error.is_some()) {
            Some("\"hook\" asks about the event, which \"ignore\" and \"error\" have decided")
        } else if self.ignore && (does || answers || self.presence.is_some() || self.set.is_some())
        {
            Some("\"ignore\" does nothing, and the other keys do something")
        } else if self.refuse.is_some() && self.require.is_empty() {
            Some("\"refuse\" answers a payload that \"require\" refuses")
        } else if self.older.is_some()
            && (does || answers || self.hook || self.ignore || self.presence.is_some())
        {
            Some("\"older\" answers with saved messages, and the other keys do something else")
        } else if self.error.is_some() && (does || self.reply.is_some() || self.presence.is_some())
        {
            Some("\"error\" refuses the event, and nothing becomes of it")
        } else if self.store == Some(true)
            && matches!(self.to, Audience::Sender | Audience::Selected(_))
        {
            Some("\"store\" keeps a message for all members, and \"to\" sends it to some")
        } else if self.topic.is_some() && matches!(self.to, Audience::Others | Audience::Sender) {
            Some("\"topic\" sends to other members, of whom \"to\" knows neither sender nor others")
        } else {
            None
        }
    }
}
