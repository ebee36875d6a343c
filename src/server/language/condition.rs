//! [`Conditions`]: who may join, by comparison of values as text.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::template::{Scope, Template, Values, Variable};

/// `{ "topic.1" = "{user.id}", "user.role" = ["admin", "agent"] }`: all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions(Vec<Condition>);

/// A value, and the values that it may equal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    value: Template,
    one_of: Vec<Template>,
}

/// The variables of a condition of a join.
const SCOPE: Scope = Scope::of(&[
    Variable::User,
    Variable::Params,
    Variable::Token,
    Variable::Topic,
]);

impl Conditions {
    /// Whether all hold. A value that is absent, null or an object equals nothing; an array equals what one of its
    /// items equals.
    pub(crate) fn hold(&self, values: &Values<'_>) -> bool {
        self.0.iter().all(|condition| {
            let found = condition.value.texts(values);
            let mut allowed = condition.one_of.iter();
            allowed.any(|allowed| {
                let allowed = allowed.texts(values);
                allowed.iter().any(|allowed| found.contains(allowed))
            })
        })
    }

    /// Whether there is nothing to compare.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The templates of both sides.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        let conditions = self.0.iter();
        conditions.flat_map(|Condition { value, one_of }| std::iter::once(value).chain(one_of))
    }

    /// Each condition in words: `the identity's "role" is "admin" or "agent"`.
    pub(crate) fn in_words(&self) -> Vec<String> {
        let conditions = self.0.iter();
        let words = conditions.map(|Condition { value, one_of }| {
            let value = value.in_words();
            let one_of: Vec<_> = one_of.iter().map(Template::in_words).collect();
            match one_of[..] {
                [] => format!("{value} is one of an empty list: never"),
                _ => format!("{value} is {}", one_of.join(" or ")),
            }
        });
        words.collect()
    }

    pub(crate) fn used(&self) -> Scope {
        self.templates()
            .fold(Scope::default(), |used, template| used.and(template.used()))
    }
}

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let parse = |value: &Value| Template::parse(value, SCOPE).map_err(D::Error::custom);
        let written = BTreeMap::<String, Value>::deserialize(input)?;
        let conditions = written.into_iter().map(|(path, allowed)| {
            let allowed = match allowed {
                Value::Array(allowed) => allowed,
                one => vec![one],
            };
            if path.contains(['{', '}']) {
                return Err(D::Error::custom(format!(
                    "{path:?}: the left side is the name of a value, without braces, as \"user.id\""
                )));
            }
            Ok(Condition {
                value: parse(&Value::String(format!("{{{path}}}")))?,
                one_of: allowed.iter().map(parse).collect::<Result<_, _>>()?,
            })
        });
        conditions.collect::<Result<_, D::Error>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_compared_as_text_and_null_equals_nothing() {
        let user = json!({
            "id": 7, "role": "agent", "none": null, "teams": ["red", 7, null], "nobody": [], "deep": [["red"]],
        });
        let values = Values {
            user: Some(&user),
            topic: "user:7",
            matched: Some("7"),
            ..Values::default()
        };
        for (written, holds) in [
            (json!({"topic.1": "{user.id}"}), true),
            (json!({"topic.1": "{user.role}"}), false),
            (json!({"user.role": ["admin", "agent"]}), true),
            (json!({"user.role": ["admin"]}), false),
            (json!({"user.role": "agent", "user.id": 8}), false),
            (json!({"user.none": "{user.none}"}), false),
            (json!({"user.id": []}), false),
            (json!({"user.teams": "red"}), true),
            (json!({"topic.1": "{user.teams}"}), true),
            (json!({"user.teams": ["blue", "{user.role}"]}), false),
            (json!({"user.nobody": "{user.nobody}"}), false),
            (json!({"user.deep": "red"}), false),
            (json!({}), true),
        ] {
            let conditions: Conditions = serde_json::from_value(written.clone()).expect("valid");
            assert_eq!(conditions.hold(&values), holds, "{written}");
        }
        let braces = serde_json::from_value::<Conditions>(json!({"{user.id}": 7}));
        let braces = braces.expect_err("a name has none").to_string();
        assert!(braces.contains("without braces"), "{braces}");
        let error = serde_json::from_value::<Conditions>(json!({"payload.x": 1}));
        assert!(
            error
                .expect_err("no payload at a join")
                .to_string()
                .contains("unknown variable")
        );
    }
}
