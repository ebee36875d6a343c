//! [`Verdict`]: the backend's answer, checked completely before anything of it is done. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::request::CallKind;
use crate::message::{MAX_NAME_LEN, RawJson};
use crate::serializer::check_relayable;
use crate::server::language::check_event;

/// The longest answer, in bytes.
pub(super) const MAX_BYTES: usize = 1_024 * 1_024;
/// The most actions of one answer.
pub(super) const MAX_ACTIONS: usize = 32;

/// The backend's decision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Allowed(HookAnswer),
    Refused {
        /// The error reply; `None`: the server's own.
        error: Option<RawJson>,
        close: bool,
    },
}

/// The parts of an answer that allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HookAnswer {
    pub(crate) reply: Option<RawJson>,
    /// Laid over the identity.
    pub(crate) user: Map<String, Value>,
    /// Laid over the memory of the membership.
    pub(crate) me: Map<String, Value>,
    /// Takes the place of the client's payload.
    pub(crate) payload: Option<RawJson>,
    /// `None`: as the room has it.
    pub(crate) relay: Option<bool>,
    pub(crate) actions: Vec<HookAction>,
    pub(crate) close: bool,
}

/// An item of `do`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HookAction {
    /// To the client alone.
    Push { event: String, payload: RawJson },
    Broadcast {
        event: String,
        payload: RawJson,
        /// `None`: the client's own topic.
        topic: Option<String>,
        to: Receivers,
        store: bool,
    },
    /// Laid over the client's presence meta.
    Presence(Map<String, Value>),
}

/// The receivers of a broadcast.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Receivers {
    All,
    /// Every member but the client.
    Others,
    /// The members whose labels have these values.
    Labels(BTreeMap<String, Value>),
}

/// An answer that is refused whole. The text has no value of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidAnswer(String);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenAnswer<'a> {
    ok: Option<bool>,
    #[serde(borrow)]
    reply: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    user: Option<Map<String, Value>>,
    me: Option<Map<String, Value>>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    relay: Option<bool>,
    #[serde(borrow, rename = "do")]
    actions: Option<Vec<&'a RawValue>>,
    close: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenAction<'a> {
    push: Option<String>,
    broadcast: Option<String>,
    presence: Option<Map<String, Value>>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    topic: Option<String>,
    to: Option<WrittenTo>,
    store: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenTo {
    Word(String),
    Labels(BTreeMap<String, Value>),
}

fn invalid<T>(problem: impl Into<String>) -> Result<T, InvalidAnswer> {
    Err(InvalidAnswer(problem.into()))
}

impl Verdict {
    /// Reads an answer.
    ///
    /// # Errors
    /// If anything in it is wrong, unknown, or not for this kind of call.
    pub(crate) fn parse(body: &[u8], kind: CallKind) -> Result<Self, InvalidAnswer> {
        let text = std::str::from_utf8(body);
        let text = text.map_err(|_| InvalidAnswer("it is not UTF-8".into()))?;
        let written: WrittenAnswer<'_> = from_object(text)?;
        // Every client must be able to parse what it is sent.
        check_relayable(text).map_err(|error| InvalidAnswer(error.to_string()))?;
        match written.ok {
            None => invalid("it has no \"ok\""),
            Some(false) => written.refusal(kind),
            Some(true) => written.allowance(kind).map(Self::Allowed),
        }
    }
}

/// Reads an object. Without the check serde would read an array as the members in their order.
fn from_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, InvalidAnswer> {
    let text = text.trim_ascii();
    let read = serde_json::from_str(text).map_err(|error| in_words(&error))?;
    if !text.starts_with('{') {
        return invalid("the answer, and each action of \"do\", must be an object");
    }
    Ok(read)
}

/// The problem without the value that causes it, which is the backend's and not for the log.
fn in_words(error: &serde_json::Error) -> InvalidAnswer {
    let text = error.to_string();
    let names_members = ["unknown field", "duplicate field", "unknown variant"];
    if names_members.iter().any(|start| text.starts_with(start)) {
        return InvalidAnswer(text);
    }
    let (line, column) = (error.line(), error.column());
    let what = if error.is_data() {
        "a member has the wrong type"
    } else {
        "it is not JSON"
    };
    InvalidAnswer(format!("{what} at line {line} column {column}"))
}

impl WrittenAnswer<'_> {
    fn refusal(self, kind: CallKind) -> Result<Verdict, InvalidAnswer> {
        let others = self.reply.is_some()
            || self.user.is_some()
            || self.me.is_some()
            || self.payload.is_some()
            || self.relay.is_some()
            || self.actions.is_some();
        if others || (self.close.is_some() && kind != CallKind::Event) {
            return invalid(
                "with \"ok\": false it may only have \"error\", and \"close\" for an event",
            );
        }
        Ok(Verdict::Refused {
            error: self.error.map(raw),
            close: self.close.unwrap_or_default(),
        })
    }

    fn allowance(self, kind: CallKind) -> Result<HookAnswer, InvalidAnswer> {
        if self.error.is_some() {
            return invalid("with \"ok\": true it has an \"error\"");
        }
        let for_event = self.payload.is_some() || self.relay.is_some() || self.close.is_some();
        let for_member = self.reply.is_some() || self.me.is_some() || self.actions.is_some();
        match kind {
            CallKind::Connect if for_event || for_member => {
                return invalid("for \"connect\" it may only have \"ok\" and \"user\"");
            }
            CallKind::Join if for_event => {
                return invalid("\"payload\", \"relay\" and \"close\" are for events");
            }
            _ => {}
        }
        let actions = self.actions.unwrap_or_default();
        if actions.len() > MAX_ACTIONS {
            return invalid(format!("\"do\" has more than {MAX_ACTIONS} actions"));
        }
        let actions = actions.into_iter().map(|action| {
            let action: WrittenAction<'_> = from_object(action.get())?;
            action.check()
        });
        Ok(HookAnswer {
            reply: self.reply.map(raw),
            user: self.user.unwrap_or_default(),
            me: self.me.unwrap_or_default(),
            payload: self.payload.map(raw),
            relay: self.relay,
            actions: actions.collect::<Result<_, _>>()?,
            close: self.close.unwrap_or_default(),
        })
    }
}

impl WrittenAction<'_> {
    fn check(self) -> Result<HookAction, InvalidAnswer> {
        let is_plain = self.topic.is_none() && self.to.is_none() && self.store.is_none();
        match (self.push, self.broadcast, self.presence) {
            (Some(event), None, None) if is_plain => Ok(HookAction::Push {
                event: event_name(event)?,
                payload: object(self.payload)?,
            }),
            (None, None, Some(meta)) if is_plain && self.payload.is_none() => {
                Ok(HookAction::Presence(meta))
            }
            (None, Some(event), None) => {
                let (event, payload) = (event_name(event)?, object(self.payload)?);
                let topic = self.topic.map(topic_name).transpose()?;
                let (store, is_elsewhere) = (self.store.unwrap_or_default(), topic.is_some());
                let to = match self.to {
                    None => Receivers::All,
                    Some(WrittenTo::Labels(_)) if store => {
                        return invalid(
                            "\"store\" saves a message for all, and \"to\" sends it to some",
                        );
                    }
                    Some(WrittenTo::Labels(labels)) => Receivers::Labels(labels),
                    Some(WrittenTo::Word(word)) => match (&*word, is_elsewhere) {
                        ("all", _) => Receivers::All,
                        ("others", false) => Receivers::Others,
                        ("sender", false) if store => {
                            return invalid(
                                "\"store\" saves a message for all, and \"to\" sends it to one",
                            );
                        }
                        ("sender", false) => return Ok(HookAction::Push { event, payload }),
                        ("others" | "sender", true) => {
                            return invalid("another \"topic\" knows neither sender nor others");
                        }
                        _ => {
                            return invalid(
                                "\"to\" must be \"all\", \"others\", \"sender\" or labels",
                            );
                        }
                    },
                };
                Ok(HookAction::Broadcast {
                    event,
                    payload,
                    topic,
                    to,
                    store,
                })
            }
            _ => invalid(
                "each item of \"do\" has one of \"push\", \"broadcast\" and \"presence\", with their members only",
            ),
        }
    }
}

fn event_name(name: String) -> Result<String, InvalidAnswer> {
    match check_event(&name) {
        Ok(()) => Ok(name),
        Err(problem) => invalid(problem),
    }
}

fn topic_name(name: String) -> Result<String, InvalidAnswer> {
    if name.is_empty() || name.len() > MAX_NAME_LEN || name.contains('\0') {
        return invalid(format!(
            "a topic must have 1 to {MAX_NAME_LEN} bytes without NUL"
        ));
    }
    Ok(name)
}

/// A payload of the server's own: clients take objects only.
fn object(payload: Option<&RawValue>) -> Result<RawJson, InvalidAnswer> {
    match payload {
        None => Ok(RawJson::EMPTY_OBJECT),
        Some(payload) if payload.get().starts_with('{') => Ok(raw(payload)),
        Some(_) => invalid("the payload of a push or a broadcast must be an object"),
    }
}

fn raw(value: &RawValue) -> RawJson {
    RawJson::from(value.to_owned())
}

#[cfg(test)]
mod tests;
