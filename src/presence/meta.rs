//! Metas as JSON text, and the lists and diffs that are made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::shared::Entry;
use super::{MAX_PRESENCE_BYTES, PresenceError, Presences};
use crate::message::RawJson;

/// The deepest meta that can be read from its text again: the limit of `serde_json`.
const MAX_DEPTH: usize = 127;

/// Metas by key, those of a key in join order.
pub(super) type Metas<'a> = BTreeMap<&'a str, Vec<&'a RawJson>>;

/// A meta without refs: only the server sets them.
pub(super) fn object(meta: &impl Serialize) -> Result<Map<String, Value>, PresenceError> {
    match serde_json::to_value(meta) {
        Ok(Value::Object(meta)) => Ok(stripped(meta)),
        _ => Err(PresenceError::NotAnObject),
    }
}

/// Removes the refs from a meta.
pub(super) fn stripped(mut meta: Map<String, Value>) -> Map<String, Value> {
    meta.remove("phx_ref");
    meta.remove("phx_ref_prev");
    meta
}

/// The text of a meta. Refuses a presence that is too large by itself.
pub(super) fn encode(key: &str, meta: &Map<String, Value>) -> Result<RawJson, PresenceError> {
    if !meta.values().all(|value| is_within(value, MAX_DEPTH - 1)) {
        return Err(PresenceError::TooDeep);
    }
    // The encoder's buffer has room to spare.
    let meta = RawJson::encode(meta).map_err(|_| PresenceError::NotAnObject)?;
    let meta = meta.detach();
    if key.len() + meta.get().len() > MAX_PRESENCE_BYTES {
        return Err(PresenceError::TooLarge);
    }
    Ok(meta)
}

fn is_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(values) => depth > 0 && values.iter().all(|value| is_within(value, depth - 1)),
        Value::Object(members) => {
            depth > 0 && members.values().all(|value| is_within(value, depth - 1))
        }
        _ => true,
    }
}

/// The members of a meta.
pub(super) fn parse(meta: &RawJson) -> Map<String, Value> {
    // Every node checks the metas of its own clients.
    meta.parse().unwrap_or_default()
}

/// The bytes of a presence: its key, and its meta as JSON text.
pub(super) fn size(entry: &Entry) -> usize {
    entry.key.len() + entry.meta.get().len()
}

/// The metas of a diff.
pub(super) fn grouped(entries: &[Arc<Entry>]) -> Metas<'_> {
    let mut metas = Metas::new();
    for entry in entries {
        metas.entry(&entry.key).or_default().push(&entry.meta);
    }
    metas
}

/// Metas as a callback gets them.
pub(super) fn presences(metas: Metas<'_>) -> Presences {
    let metas = metas.into_iter();
    metas
        .map(|(key, metas)| (key.to_owned(), with_metas(metas)))
        .collect()
}

/// One key: `{"metas": [..]}`.
pub(super) fn with_metas(metas: Vec<&RawJson>) -> Value {
    let metas = metas.into_iter().map(|meta| Value::Object(parse(meta)));
    let metas = Value::Array(metas.collect());
    Value::Object(Map::from_iter([("metas".to_owned(), metas)]))
}

/// Appends metas as clients get them, without parsing them.
pub(super) fn write(text: &mut String, metas: &Metas<'_>) {
    text.push('{');
    for (place, (key, metas)) in metas.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        quote(text, key);
        text.push_str(r#":{"metas":["#);
        for (place, meta) in metas.iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            text.push_str(meta.get());
        }
        text.push_str("]}");
    }
    text.push('}');
}

fn quote(text: &mut String, key: &str) {
    if key.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') {
        text.push_str(&Value::from(key).to_string());
    } else {
        text.push('"');
        text.push_str(key);
        text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn the_text_is_that_of_the_parsed_metas(
            listed in proptest::collection::btree_map(any::<String>(), 1..3_usize, 0..4),
        ) {
            let raw = |n: usize| RawJson::from(json!({"n": n, "name": "\u{7f}\"é"}));
            let raws: Vec<_> = (0..3).map(raw).collect();
            let metas = listed.iter().map(|(key, n)| (&**key, raws[..*n].iter().collect()));
            let metas: Metas<'_> = metas.collect();
            let mut text = String::new();
            write(&mut text, &metas);
            prop_assert_eq!(&text, &Value::Object(presences(metas)).to_string());
        }
    }

    #[test]
    fn the_deepest_meta_can_be_read_again_and_a_deeper_one_is_refused() {
        let nested = |depth: usize| {
            let mut value = json!({});
            for _ in 1..depth {
                value = json!({ "in": value });
            }
            object(&value).expect("an object")
        };
        let deepest = nested(MAX_DEPTH);
        let text = encode("k", &deepest).expect("not too deep");
        assert_eq!(parse(&text), deepest);
        assert_eq!(
            encode("k", &nested(MAX_DEPTH + 1)),
            Err(PresenceError::TooDeep)
        );
    }
}
