//! [`Shapes`]: the required shape of a payload.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

/// `{ body = "string 1..2000", typing = "bool", to = "int?" }`, or one shape for the payload itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shapes {
    whole: Option<Shape>,
    members: Vec<(String, Shape)>,
}

/// `string 1..2000`, `int?`
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    kind: Kind,
    /// It may be absent or null.
    optional: bool,
    /// Of the length of strings (in characters), arrays and objects, and of the value of numbers.
    min: Option<f64>,
    max: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    String,
    Int,
    Number,
    Bool,
    Array,
    Object,
    Any,
}

impl Shapes {
    /// Whether there is nothing to check.
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.is_none() && self.members.is_empty()
    }

    /// Checks a payload.
    ///
    /// # Errors
    /// The member with another shape; `payload` for the payload itself.
    pub(crate) fn check(&self, payload: &Value) -> Result<(), &str> {
        if !self.whole.is_none_or(|shape| shape.fits(payload)) {
            return Err("payload");
        }
        if self.members.is_empty() {
            return Ok(());
        }
        let Value::Object(object) = payload else {
            return Err("payload");
        };
        let wrong = |(name, shape): &&(String, Shape)| {
            !shape.fits(object.get(name).unwrap_or(&Value::Null))
        };
        match self.members.iter().find(wrong) {
            Some((name, _)) => Err(name),
            None => Ok(()),
        }
    }
}

impl Shapes {
    /// The shapes in words: of the payload itself, or of each member by its name.
    pub(crate) fn in_words(&self) -> ShapesInWords {
        let Self { whole, members } = self;
        match whole {
            Some(shape) => ShapesInWords::Whole(shape.in_words()),
            None => ShapesInWords::Members(
                members
                    .iter()
                    .map(|(name, shape)| (name.clone(), shape.in_words()))
                    .collect(),
            ),
        }
    }
}

/// The result of [`Shapes::in_words`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShapesInWords {
    /// Of the payload itself.
    Whole(String),
    /// Of its members. Without members: any payload.
    Members(Vec<(String, String)>),
}

impl Shape {
    /// `text of 1 to 2000 characters, may be missing`
    fn in_words(self) -> String {
        let Self {
            kind,
            optional,
            min,
            max,
        } = self;
        let (noun, unit) = match kind {
            Kind::String => ("text", " characters"),
            Kind::Int => ("a whole number", ""),
            Kind::Number => ("a number", ""),
            Kind::Bool => ("true or false", ""),
            Kind::Array => ("a list", " items"),
            Kind::Object => ("an object", " members"),
            Kind::Any => ("any value", ""),
        };
        let bounds = match (min, max) {
            (None, None) => String::new(),
            (Some(min), Some(max)) if min == max => format!(" of exactly {min}{unit}"),
            (Some(min), Some(max)) if unit.is_empty() => format!(" from {min} to {max}"),
            (Some(min), Some(max)) => format!(" of {min} to {max}{unit}"),
            (Some(min), None) => format!(" of at least {min}{unit}"),
            (None, Some(max)) => format!(" of at most {max}{unit}"),
        };
        let missing = if optional { ", may be missing" } else { "" };
        format!("{noun}{bounds}{missing}")
    }

    fn fits(self, value: &Value) -> bool {
        let within = |size: f64| {
            self.min.is_none_or(|min| size >= min) && self.max.is_none_or(|max| size <= max)
        };
        match (self.kind, value) {
            (_, Value::Null) => self.optional,
            (Kind::String, Value::String(text)) => within(text.chars().count() as f64),
            (Kind::Int, Value::Number(number)) => {
                let whole = number.is_i64() || number.is_u64();
                whole && number.as_f64().is_some_and(within)
            }
            (Kind::Number, Value::Number(number)) => number.as_f64().is_some_and(within),
            (Kind::Array, Value::Array(items)) => within(items.len() as f64),
            (Kind::Object, Value::Object(members)) => within(members.len() as f64),
            (Kind::Bool, Value::Bool(_)) | (Kind::Any, _) => true,
            _ => false,
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, bounds) = match text.trim().split_once(' ') {
            Some((kind, bounds)) => (kind, Some(bounds.trim())),
            None => (text.trim(), None),
        };
        let (name, optional) = match kind.strip_suffix('?') {
            Some(name) => (name, true),
            None => (kind, false),
        };
        let kind = match name {
            "string" => Kind::String,
            "int" => Kind::Int,
            "number" => Kind::Number,
            "bool" => Kind::Bool,
            "array" => Kind::Array,
            "object" => Kind::Object,
            "any" => Kind::Any,
            _ => {
                return Err(format!(
                    "{text:?}: must begin with string, int, number, bool, array, object or any"
                ));
            }
        };
        let mut shape = Self {
            kind,
            optional,
            min: None,
            max: None,
        };
        if let Some(bounds) = bounds {
            (shape.min, shape.max) = range(bounds)
                .filter(|_| !matches!(kind, Kind::Bool | Kind::Any))
                .ok_or_else(|| format!("{text:?}: bounds are written 1..2000, 1.. or ..2000"))?;
        }
        Ok(shape)
    }
}

/// `1..2000`, `1..`, `..2000`
fn range(text: &str) -> Option<(Option<f64>, Option<f64>)> {
    let (min, max) = text.split_once("..")?;
    let bound = |text: &str| match text {
        "" => Some(None),
        text => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Some),
    };
    let (min, max) = (bound(min)?, bound(max)?);
    let is_order = match (min, max) {
        (None, None) => false,
        (Some(min), Some(max)) => min <= max,
        _ => true,
    };
    is_order.then_some((min, max))
}

impl<'de> Deserialize<'de> for Shapes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(String),
            Members(BTreeMap<String, String>),
        }
        let shape = |text: String| text.parse().map_err(D::Error::custom);
        match Written::deserialize(input)? {
            Written::Whole(text) => Ok(Self {
                whole: Some(shape(text)?),
                members: Vec::new(),
            }),
            Written::Members(members) => {
                let members = members.into_iter();
                let members = members.map(|(name, text)| Ok((name, shape(text)?)));
                Ok(Self {
                    whole: None,
                    members: members.collect::<Result<_, D::Error>>()?,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shapes(value: Value) -> Result<Shapes, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn members_are_checked_by_type_and_bounds() {
        let shapes = shapes(json!({
            "body": "string 1..3", "n": "int? 0..", "list": "array ..2", "any": "any?", "x": "number?",
        }));
        let shapes = shapes.expect("shapes");
        for (payload, wrong) in [
            (json!({"body": "äöü", "list": []}), None),
            (json!({"body": "abcd", "list": []}), Some("body")),
            (json!({"body": "", "list": []}), Some("body")),
            (json!({"list": []}), Some("body")),
            (json!({"body": "a", "list": [1, 2, 3]}), Some("list")),
            (json!({"body": "a", "list": [], "n": -1}), Some("n")),
            (json!({"body": "a", "list": [], "n": 1.5}), Some("n")),
            (json!({"body": "a", "list": [], "n": null, "x": 1.5}), None),
            (json!({"body": "a", "list": [], "any": {"a": 1}}), None),
            (json!("text"), Some("payload")),
        ] {
            assert_eq!(shapes.check(&payload).err(), wrong, "{payload}");
        }
    }

    #[test]
    fn a_payload_that_is_no_object_has_a_shape_of_its_own() {
        let text = shapes(json!("string 1..5")).expect("a shape");
        assert_eq!(text.check(&json!("hi")), Ok(()));
        assert_eq!(text.check(&json!({})), Err("payload"));
        assert!(Shapes::default().is_empty() && !text.is_empty());
    }

    #[test]
    fn shapes_have_words() {
        let members = shapes(
            json!({"body": "string 1..2000", "n": "int? 0..", "ok": "bool", "x": "number 0..1"}),
        );
        let words = [
            ("body", "text of 1 to 2000 characters"),
            ("n", "a whole number of at least 0, may be missing"),
            ("ok", "true or false"),
            ("x", "a number from 0 to 1"),
        ];
        let words = words.map(|(name, words)| (name.to_owned(), words.to_owned()));
        let members = members.expect("shapes").in_words();
        assert_eq!(members, ShapesInWords::Members(words.to_vec()));
        let whole = shapes(json!("array ..3")).expect("a shape").in_words();
        assert_eq!(
            whole,
            ShapesInWords::Whole("a list of at most 3 items".to_owned())
        );
    }

    #[test]
    fn a_mistake_is_told() {
        for (shape, problem) in [
            ("text", "must begin with string"),
            ("string 5..1", "bounds are written"),
            ("string ..", "bounds are written"),
            ("string 1-5", "bounds are written"),
            ("bool 1..2", "bounds are written"),
            ("number nan..", "bounds are written"),
        ] {
            let error = shapes(json!({ "a": shape })).expect_err(shape).to_string();
            assert!(error.contains(problem), "{shape}: {error}");
        }
    }
}
