//! [`InvalidPayload`]: describes to the client why a payload does not have the wanted type.
//!
//! serde_json's own errors name Rust types and columns. So a refused payload is read once more, by a
//! deserializer that makes these errors.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, Expected, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// The longest detail, in bytes.
const MAX_DETAIL: usize = 200;

/// A payload that does not have the form that the event needs. `?` turns it into the error reply
/// `{"reason": "invalid payload", "field": "items.1.name", "detail": "missing"}`.
///
/// ```
/// use serde::Deserialize;
/// use slackir::message::Payload;
///
/// #[derive(Debug, Deserialize)]
/// struct NewMessage {
///     body: String,
/// }
///
/// let payload = Payload::from(serde_json::json!({"body": 7}));
/// let invalid = payload.parse::<NewMessage>().unwrap_err();
/// assert_eq!(invalid.field(), Some("body"));
/// assert_eq!(invalid.detail(), "expected a string");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidPayload {
    field: Option<String>,
    detail: String,
}

impl InvalidPayload {
    /// An error of the whole payload, for the application's own rules. The client gets the detail.
    pub fn new(detail: impl fmt::Display) -> Self {
        let mut detail = detail.to_string();
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL));
        Self {
            field: None,
            detail,
        }
    }

    /// An error of one field: `name`, or `items.1.name`.
    ///
    /// ```
    /// use slackir::message::InvalidPayload;
    ///
    /// let invalid = InvalidPayload::of("body", "must not be empty");
    /// assert_eq!(invalid.to_string(), "body: must not be empty");
    /// ```
    pub fn of(field: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(detail)
        }
    }

    /// Explains why serde_json could not read the JSON text as a `T`.
    pub(super) fn explain<T: DeserializeOwned>(text: &str) -> Self {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return Self::new("nested too deeply");
        };
        match T::deserialize(Reading(&value)) {
            Err(invalid) => invalid,
            // The type can only be read by serde_json.
            Ok(_) => Self::unexplained(),
        }
    }

    fn unexplained() -> Self {
        Self::new("not of the wanted form")
    }

    /// The wrong field; `None` for the whole payload.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The description of the error.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Moves the error into a larger value, in which the present value has this name.
    fn inside(self, name: impl fmt::Display) -> Self {
        let field = match &self.field {
            Some(field) => format!("{name}.{field}"),
            None => name.to_string(),
        };
        Self {
            field: Some(field),
            ..self
        }
    }
}

impl fmt::Display for InvalidPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.detail)
    }
}

impl Error for InvalidPayload {
    fn custom<T: fmt::Display>(detail: T) -> Self {
        let detail = detail.to_string();
        // The error of an untagged enum, which continues with its Rust name.
        if detail.starts_with("data did not match any variant") {
            return Self::unexplained();
        }
        Self::new(detail)
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format_args!("expected {}", kind(expected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match kind(expected) {
            NUMBER => Self::new("out of range"),
            kind => Self::new(format_args!("expected {kind}")),
        }
    }

    fn invalid_length(_: usize, _: &dyn Expected) -> Self {
        Self::new("of the wrong length")
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format_args!("expected one of {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::new("unknown").inside(field)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("missing").inside(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new("given twice").inside(field)
    }
}

const NUMBER: &str = "a number";

/// The JSON word for the expectation of a Rust type.
fn kind(expected: &dyn Expected) -> &'static str {
    let text = expected.to_string();
    let is_number = |word: &str| {
        let digits = word.strip_prefix(['u', 'i', 'f']);
        digits.is_some_and(|digits| digits.parse::<u8>().is_ok())
            || matches!(word, "usize" | "isize")
    };
    let mut words = text.split([' ', ',']);
    if words.any(is_number) || text.contains("integer") {
        return NUMBER;
    }
    [
        ("string", "a string"),
        ("character", "a string"),
        ("boolean", "true or false"),
        ("sequence", "a list"),
        ("array", "a list"),
        ("tuple", "a list"),
        ("map", "an object"),
        ("struct", "an object"),
        ("unit", "null"),
    ]
    .into_iter()
    .find_map(|(word, kind)| text.contains(word).then_some(kind))
    .unwrap_or("another value")
}

/// Deserializes a type from a JSON value.
struct Reading<'a>(&'a Value);

impl<'de> Deserializer<'de> for Reading<'_> {
    type Error = InvalidPayload;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Object(members) => visitor.visit_map(Members::of(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        // A `RawValue` of serde_json, which only serde_json's own deserializer can make.
        if name.starts_with("$serde_json") {
            return Err(InvalidPayload::unexplained());
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(StrDeserializer::new(text)),
            Value::Object(members) => {
                visitor.visit_enum(MapAccessDeserializer::new(Members::of(members)))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    /// Refuses a list, which serde would accept for a struct.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(_) => Err(InvalidPayload::new("expected an object")),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = InvalidPayload;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        let at = self.next;
        let Some(item) = self.items.get(at) else {
            return Ok(None);
        };
        self.next += 1;
        let read = seed.deserialize(Reading(item));
        read.map(Some).map_err(|invalid| invalid.inside(at))
    }
}

struct Members<'a> {
    members: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
}

impl<'a> Members<'a> {
    fn of(members: &'a Map<String, Value>) -> Self {
        Self {
            members: members.iter(),
            value: None,
        }
    }
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = InvalidPayload;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        let Some((name, value)) = self.members.next() else {
            return Ok(None);
        };
        self.value = Some((name, value));
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, Self::Error> {
        // A visitor reads the key before its value.
        let (name, value) = self.value.take().ok_or_else(InvalidPayload::unexplained)?;
        let read = seed.deserialize(Reading(value));
        read.map_err(|invalid| invalid.inside(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;
    use serde_json::value::RawValue;

    use crate::message::Payload;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by serde alone")]
    struct Order {
        name: String,
        #[serde(default)]
        items: Vec<Item>,
        note: Option<Note>,
        raw: Option<Box<RawValue>>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "read by serde alone")]
    struct Item {
        count: u8,
        kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "read by serde alone")]
    enum Kind {
        Tea,
        Cake { with: BTreeMap<String, bool> },
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Note;

    impl TryFrom<String> for Note {
        type Error = &'static str;

        fn try_from(text: String) -> Result<Self, Self::Error> {
            (text.len() < 4)
                .then_some(Self)
                .ok_or("at most 3 characters")
        }
    }

    #[test]
    fn the_client_is_told_which_field_is_wrong_and_never_in_the_words_of_rust() {
        for (payload, want) in [
            (json!([]), "expected an object"),
            (json!({}), "name: missing"),
            (json!({"name": 7}), "name: expected a string"),
            (json!({"name": "a", "more": 1}), "more: unknown"),
            (json!({"name": "a", "items": {}}), "items: expected a list"),
            (
                json!({"name": "a", "items": [{}]}),
                "items.0.count: missing",
            ),
            (
                json!({"name": "a", "items": [{"count": 1, "kind": "tea"}, {"count": "x"}]}),
                "items.1.count: expected a number",
            ),
            (
                json!({"name": "a", "items": [{"count": 300}]}),
                "items.0.count: out of range",
            ),
            (
                json!({"name": "a", "items": [{"count": -1}]}),
                "items.0.count: out of range",
            ),
            (
                json!({"name": "a", "items": [{"count": 1, "kind": "beer"}]}),
                "items.0.kind: expected one of tea, cake",
            ),
            (
                json!({"name": "a", "items": [{"count": 1, "kind": {"cake": {"with": {"ham": 1}}}}]}),
                "items.0.kind.cake.with.ham: expected true or false",
            ),
            (
                json!({"name": "a", "note": "long"}),
                "note: at most 3 characters",
            ),
        ] {
            let invalid = Payload::from(payload).parse::<Order>().unwrap_err();
            assert_eq!(invalid.to_string(), want);
        }
    }

    #[test]
    fn what_is_right_is_read_as_serde_json_reads_it() {
        let kind = json!({"cake": {"with": {"ham": true}}});
        let payload = json!({"name": "a", "items": [{"count": 1, "kind": kind}], "raw": [1]});
        assert!(Payload::from(payload).parse::<Order>().is_ok());
        let invalid = Payload::from(json!({"raw": 1, "name": 2})).parse::<Order>();
        assert!(invalid.is_err());
    }
}
