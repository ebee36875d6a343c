//! [`Values`]: the values of the variables. [`Rendered`]: a template with its values.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::parse::{Alternative, Node, Part, Placeholder, Template};
use super::path::{Convert, Path, Variable, follow};
use crate::message::RawJson;

/// The values of all variables. Those outside a template's scope may be left out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Values<'a> {
    pub(crate) user: Option<&'a Value>,
    pub(crate) me: Option<&'a Map<String, Value>>,
    pub(crate) params: Option<&'a Value>,
    pub(crate) connect: Option<&'a Value>,
    pub(crate) token: Option<&'a Value>,
    pub(crate) payload: Option<&'a Value>,
    pub(crate) topic: &'a str,
    /// The part of the topic that the `*` of the room's pattern matched.
    pub(crate) matched: Option<&'a str>,
    pub(crate) event: &'a str,
    pub(crate) uuid: &'a str,
    pub(crate) now: Option<SystemTime>,
    pub(crate) socket_id: &'a str,
    /// The time of a stored message.
    pub(crate) inserted: Option<SystemTime>,
}

/// The longest text that is compared, in bytes; a longer one equals nothing.
const MAX_COMPARED: usize = 10_000;

/// The output is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a template's output is longer than {max} bytes")]
pub(crate) struct TooLong {
    pub(crate) max: usize,
}

/// JSON text with gaps for the id of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(super) json: Vec<u8>,
    /// The places of the id in `json`, in ascending order. An id needs no escaping.
    pub(super) ids: Vec<usize>,
}

/// The value of an alternative.
enum Found<'a> {
    Json(&'a Value),
    Text(Cow<'a, str>),
    Int(i64),
    Id,
}

impl Template {
    /// Renders the template.
    ///
    /// # Errors
    /// If the output has more than `max` bytes, without the ids.
    pub(crate) fn render(&self, values: &Values<'_>, max: usize) -> Result<Rendered, TooLong> {
        let mut writer = TextWriter {
            out: Rendered {
                json: Vec::new(),
                ids: Vec::new(),
            },
            values,
            max,
        };
        writer.node(&self.root)?;
        Ok(writer.out)
    }

    /// Renders the template as text, if it is a string, a number or a boolean.
    pub(crate) fn text(&self, values: &Values<'_>) -> Option<String> {
        let value = self.compared(values)?;
        text_of(&value).map(Cow::into_owned)
    }

    /// As [`text`](Self::text), or the texts of the items of an array.
    pub(crate) fn texts(&self, values: &Values<'_>) -> Vec<String> {
        let text = |value: &Value| text_of(value).map(Cow::into_owned);
        match self.compared(values) {
            Some(Value::Array(items)) => items.iter().filter_map(text).collect(),
            Some(value) => text(&value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The value that the template makes, if it is short enough to be compared.
    fn compared(&self, values: &Values<'_>) -> Option<Value> {
        let rendered = self.render(values, MAX_COMPARED).ok()?;
        serde_json::from_str(&rendered.with_id("")).ok()
    }
}

impl Rendered {
    /// The JSON text with this id. The id must need no escaping.
    pub(crate) fn with_id(&self, id: &str) -> String {
        let mut text = Vec::with_capacity(self.json.len() + self.ids.len() * id.len());
        let mut done = 0;
        for &place in &self.ids {
            text.extend_from_slice(&self.json[done..place]);
            text.extend_from_slice(id.as_bytes());
            done = place;
        }
        text.extend_from_slice(&self.json[done..]);
        // Only complete strings were written.
        String::from_utf8(text).unwrap_or_default()
    }

    /// Whether it is an object.
    pub(crate) fn is_object(&self) -> bool {
        self.json.starts_with(b"{")
    }

    /// Its length without the ids, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.json.len()
    }

    /// Whether it needs the id of the message.
    pub(crate) fn has_id(&self) -> bool {
        !self.ids.is_empty()
    }
}

impl From<&RawJson> for Rendered {
    fn from(json: &RawJson) -> Self {
        Self {
            json: json.get().into(),
            ids: Vec::new(),
        }
    }
}

struct TextWriter<'v> {
    out: Rendered,
    values: &'v Values<'v>,
    max: usize,
}

impl TextWriter<'_> {
    fn node(&mut self, node: &Node) -> Result<(), TooLong> {
        match node {
            Node::Constant(json) => self.raw(json),
            Node::Value(placeholder) => match self.values.first(placeholder) {
                None => self.raw("null"),
                Some(Found::Json(value)) => self.json(value),
                Some(Found::Text(text)) => self.json(&*text),
                Some(Found::Int(number)) => self.json(&number),
                Some(Found::Id) => self.quoted(TextWriter::id),
            },
            Node::Text(parts) => self.quoted(|writer| {
                for part in parts {
                    writer.part(part)?;
                }
                Ok(())
            }),
            Node::Array(items) => {
                self.raw("[")?;
                for (index, item) in items.iter().enumerate() {
                    self.raw(if index > 0 { "," } else { "" })?;
                    self.node(item)?;
                }
                self.raw("]")
            }
            Node::Object(members) => {
                self.raw("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    self.raw(if index > 0 { "," } else { "" })?;
                    self.raw(key)?;
                    self.raw(":")?;
                    self.node(value)?;
                }
                self.raw("}")
            }
        }
    }

    fn part(&mut self, part: &Part) -> Result<(), TooLong> {
        match part {
            Part::Literal(text) => self.inside(text),
            Part::Placeholder(placeholder) => match self.values.first(placeholder) {
                None => Ok(()),
                Some(Found::Id) => self.id(),
                Some(Found::Text(text)) => self.inside(&text),
                Some(Found::Int(number)) => self.inside(&number.to_string()),
                Some(Found::Json(value)) => match text_of(value) {
                    Some(text) => self.inside(&text),
                    None => Ok(()),
                },
            },
        }
    }

    fn quoted(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), TooLong>,
    ) -> Result<(), TooLong> {
        self.raw("\"")?;
        write(self)?;
        self.raw("\"")
    }

    fn id(&mut self) -> Result<(), TooLong> {
        self.out.ids.push(self.out.json.len());
        Ok(())
    }

    fn raw(&mut self, json: &str) -> Result<(), TooLong> {
        self.out.json.extend_from_slice(json.as_bytes());
        self.check()
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TooLong> {
        // A vector takes everything, and these values have a JSON form.
        let written = serde_json::to_writer(&mut self.out.json, value);
        debug_assert!(written.is_ok());
        self.check()
    }

    /// Text between the quotes of a string.
    fn inside(&mut self, text: &str) -> Result<(), TooLong> {
        let start = self.out.json.len();
        self.json(text)?;
        self.out.json.remove(start);
        self.out.json.pop();
        Ok(())
    }

    fn check(&self) -> Result<(), TooLong> {
        let max = self.max;
        if self.out.json.len() > max {
            return Err(TooLong { max });
        }
        Ok(())
    }
}

impl<'a> Values<'a> {
    /// The first alternative that is there and not null.
    fn first<'b>(&'b self, placeholder: &'b Placeholder) -> Option<Found<'b>>
    where
        'a: 'b,
    {
        placeholder
            .0
            .iter()
            .find_map(|alternative| match alternative {
                Alternative::Literal(text) => Some(Found::Text(Cow::Borrowed(text))),
                Alternative::Path(path) => {
                    let found = self.find(path)?;
                    match path.convert {
                        None => Some(found),
                        Some(Convert::ToString) => to_string(found),
                        Some(Convert::ToInt) => to_int(&found),
                    }
                }
            })
    }

    /// The value of a label of members, as text. It is called for each member, so it parses nothing.
    pub(crate) fn label(&self, name: &str) -> Option<String> {
        let (variable, steps) = name.split_once('.')?;
        let mut steps = steps.split('.');
        let value = match variable {
            "user" => follow(self.user?, steps)?,
            "me" => follow(self.me?.get(steps.next()?)?, steps)?,
            "socket" => return Some(self.socket_id.to_owned()),
            _ => return None,
        };
        text_of(value).map(Cow::into_owned)
    }

    fn find(&self, path: &Path) -> Option<Found<'_>> {
        let json = match path.variable {
            Variable::User => self.user,
            Variable::Me => return self.remembered(&path.steps),
            Variable::Params => self.params,
            Variable::Connect => self.connect,
            Variable::Token => self.token,
            Variable::Payload => self.payload,
            Variable::Topic => return self.topic_part(&path.steps).map(Found::Text),
            Variable::Event => return Some(Found::Text(self.event.into())),
            Variable::Id => return Some(Found::Id),
            Variable::Uuid => return Some(Found::Text(self.uuid.into())),
            Variable::Now => return time(self.now?, &path.steps),
            Variable::Inserted => return time(self.inserted?, &path.steps),
            Variable::Socket => return Some(Found::Text(self.socket_id.into())),
        };
        let value = follow(json?, &path.steps)?;
        (!value.is_null()).then_some(Found::Json(value))
    }

    /// `me.role`
    fn remembered(&self, steps: &[Box<str>]) -> Option<Found<'_>> {
        let (name, steps) = steps.split_first()?;
        let value = follow(self.me?.get(&**name)?, steps)?;
        (!value.is_null()).then_some(Found::Json(value))
    }

    /// `topic`; `topic.1`, which the `*` matched; `topic.1.2`, the second part of that between colons.
    fn topic_part(&self, steps: &[Box<str>]) -> Option<Cow<'_, str>> {
        let part = match steps {
            [] => self.topic,
            [_] => self.matched?,
            [_, place, ..] => {
                let place = place.parse::<usize>().ok()?.checked_sub(1)?;
                self.matched?.split(':').nth(place)?
            }
        };
        Some(Cow::Borrowed(part))
    }
}

/// A time as `ms`, `s` or `iso`.
fn time(at: SystemTime, steps: &[Box<str>]) -> Option<Found<'static>> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = |number| Some(Found::Int(i64::try_from(number).unwrap_or(i64::MAX)));
    match steps.first().map(|step| &**step) {
        Some("ms") => number(since.as_millis()),
        Some("s") => number(since.as_secs().into()),
        _ => {
            let at = DateTime::<Utc>::from(at);
            let text = at.to_rfc3339_opts(SecondsFormat::Millis, true);
            Some(Found::Text(text.into()))
        }
    }
}

/// Strings, numbers and booleans as text.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(bool) => Some(bool.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn to_string(found: Found<'_>) -> Option<Found<'_>> {
    match found {
        Found::Json(value) => text_of(value).map(Found::Text),
        Found::Int(number) => Some(Found::Text(number.to_string().into())),
        Found::Text(_) | Found::Id => Some(found),
    }
}

fn to_int<'a>(found: &Found<'a>) -> Option<Found<'a>> {
    let of_text = |text: &str| {
        let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_digits)
    };
    let number = match found {
        Found::Int(number) => Some(*number),
        Found::Json(Value::Number(number)) => number.as_i64(),
        Found::Json(Value::String(text)) => of_text(text),
        Found::Text(text) => of_text(text),
        Found::Json(_) | Found::Id => None,
    };
    number.map(Found::Int)
}
