//! [`Columns`]: fills the columns `name` and `message` with copies from the payload. They are for people who read the
//! table; clients get the payload.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::pattern::{ForTopics, TopicPattern, first_match};

/// The payload members that fill the columns, for some topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFields {
    /// The topics.
    pub topics: TopicPattern,
    /// The member that fills `name`.
    pub name: String,
    /// The member that fills `message`.
    pub message: String,
}

impl ForTopics for ColumnFields {
    fn pattern(&self) -> &TopicPattern {
        &self.topics
    }
}

/// The rules of all topics. The first match applies; without one the members are `name` and `message`.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Columns(Vec<ColumnFields>);

/// The values of the columns of one row, if the payload has them as strings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Filled {
    pub(in crate::store) name: Option<String>,
    pub(in crate::store) message: Option<String>,
}

impl Columns {
    pub(in crate::store) fn new(fields: Vec<ColumnFields>) -> Self {
        Self(fields)
    }

    pub(in crate::store) fn fill(&self, topic: &str, payload: &str) -> Filled {
        let fields = first_match(&self.0, topic);
        let members = fields.map_or(DEFAULT_MEMBERS, |fields| ColumnMembers {
            name: &fields.name,
            message: &fields.message,
        });
        let mut json = serde_json::Deserializer::from_str(payload);
        // A payload that is no object has no members.
        members.deserialize(&mut json).unwrap_or_default()
    }
}

const DEFAULT_MEMBERS: ColumnMembers<'_> = ColumnMembers {
    name: "name",
    message: "message",
};

/// The names of the members, and the visitor that reads these members of an object.
#[derive(Clone, Copy)]
struct ColumnMembers<'a> {
    name: &'a str,
    message: &'a str,
}

impl<'de> DeserializeSeed<'de> for ColumnMembers<'_> {
    type Value = Filled;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Filled, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ColumnMembers<'_> {
    type Value = Filled;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Filled, A::Error> {
        let mut filled = Filled::default();
        while let Some(wanted) = members.next_key_seed(MemberKey(self))? {
            if !wanted.name && !wanted.message {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let text = text(members.next_value()?);
            if wanted.name {
                filled.name.clone_from(&text);
            }
            if wanted.message {
                filled.message = text;
            }
        }
        Ok(filled)
    }
}

/// The columns that one member fills.
struct Wanted {
    name: bool,
    message: bool,
}

/// Compares a key with the names, without a copy.
struct MemberKey<'a>(ColumnMembers<'a>);

impl<'de> DeserializeSeed<'de> for MemberKey<'_> {
    type Value = Wanted;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Wanted, D::Error> {
        input.deserialize_identifier(self)
    }
}

impl Visitor<'_> for MemberKey<'_> {
    type Value = Wanted;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Wanted, E> {
        Ok(Wanted {
            name: key == self.0.name,
            message: key == self.0.message,
        })
    }
}

/// The string without NUL, because PostgreSQL's text cannot hold NUL; `None` for other types.
fn text(raw: &RawValue) -> Option<String> {
    let text = Cow::<'_, str>::deserialize(raw).ok()?;
    Some(text.replace('\0', ""))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fill(topic: &str, payload: &Value) -> (Option<String>, Option<String>) {
        let columns = Columns::new(vec![
            ColumnFields {
                topics: TopicPattern::new("elixir*"),
                name: "user".to_owned(),
                message: "body \"x\"".to_owned(),
            },
            ColumnFields {
                topics: TopicPattern::new("one"),
                name: "text".to_owned(),
                message: "text".to_owned(),
            },
        ]);
        let Filled { name, message } = columns.fill(topic, &payload.to_string());
        (name, message)
    }

    fn some(name: &str, message: &str) -> (Option<String>, Option<String>) {
        (Some(name.to_owned()), Some(message.to_owned()))
    }

    #[test]
    fn the_columns_are_filled_by_the_fields_of_the_topic() {
        let payload = json!({
            "name": "a\u{0}da", "message": "m", "user": "u", "body \"x\"": "b\n", "text": "t",
            "deep": {"name": "not this"},
        });
        assert_eq!(fill("random:lobby", &payload), some("ada", "m"));
        assert_eq!(fill("elixirbridge", &payload), some("u", "b\n"));
        assert_eq!(fill("one", &payload), some("t", "t"));
        assert_eq!(fill("random:lobby", &json!({})), (None, None));
        let others = json!({"name": 7, "message": {"name": "no"}});
        assert_eq!(fill("random:lobby", &others), (None, None));
    }
}
