//! Conversions between JSON and terms.

use serde_json::{Map, Number, Value};

use super::Term;

/// The term has a part that JSON cannot hold: a tuple, a binary that is not UTF-8, an integer beyond 64
/// bits, a key that is neither text nor an integer, or two keys with the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the term has no JSON form")]
pub struct NoJsonForm;

/// Converts as Phoenix's JSON library decodes: strings become binaries, objects become maps with binary
/// keys, and `null` becomes the atom `nil`.
impl From<Value> for Term {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::NIL,
            Value::Bool(truth) => truth.into(),
            Value::Number(number) => number_term(&number),
            Value::String(text) => text.into(),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(entries) => (entries.into_iter())
                .map(|(key, value)| (key, Self::from(value)))
                .collect(),
        }
    }
}

/// An integer if the number is one, else a float. A number that no double holds comes only from a
/// serde_json with arbitrary precision, and becomes text.
fn number_term(number: &Number) -> Term {
    match (number.as_i128(), number.as_f64()) {
        (Some(integer), _) => Term::Integer(integer),
        (None, Some(float)) => Term::Float(float),
        (None, None) => number.to_string().into(),
    }
}

/// Converts as Phoenix's JSON library encodes: atoms become strings, except `nil`, `true` and `false`; keys
/// of maps become strings too.
impl TryFrom<Term> for Value {
    type Error = NoJsonForm;

    fn try_from(term: Term) -> Result<Self, NoJsonForm> {
        Ok(match term {
            Term::Integer(integer) => Self::Number(Number::from_i128(integer).ok_or(NoJsonForm)?),
            Term::Float(float) => Self::Number(Number::from_f64(float).ok_or(NoJsonForm)?),
            Term::Atom(name) => match &*name {
                "nil" => Self::Null,
                "true" => Self::Bool(true),
                "false" => Self::Bool(false),
                _ => Self::String(name.into_owned()),
            },
            Term::Binary(bytes) => Self::String(text(bytes)?),
            Term::List(items) => {
                let items = items.into_iter().map(Self::try_from);
                Self::Array(items.collect::<Result<_, _>>()?)
            }
            Term::Map(entries) => {
                let mut object = Map::new();
                for (key, value) in entries {
                    if object.insert(key_text(key)?, value.try_into()?).is_some() {
                        return Err(NoJsonForm);
                    }
                }
                Self::Object(object)
            }
            Term::Tuple(_) => return Err(NoJsonForm),
        })
    }
}

fn key_text(key: Term) -> Result<String, NoJsonForm> {
    match key {
        Term::Binary(bytes) => text(bytes),
        Term::Atom(name) => Ok(name.into_owned()),
        Term::Integer(integer) => Ok(integer.to_string()),
        _ => Err(NoJsonForm),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, NoJsonForm> {
    String::from_utf8(bytes).map_err(|_| NoJsonForm)
}
