//! Query strings, decoded as Plug decodes them: `a[b]=1` nests, `l[]=1` is a list, the last of two
//! equal names wins, empty pairs are ignored.

use percent_encoding::percent_decode;
use serde_json::{Map, Value};

/// How deep `a[b][c]..` may nest; what stands deeper is left out.
const MAX_DEPTH: usize = 32;

/// The query is not UTF-8 once decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query string is not UTF-8")]
pub(super) struct NotUtf8;

pub(super) fn parse(query: &str) -> Result<Map<String, Value>, NotUtf8> {
    let mut params = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        let path: Vec<&str> = path(&name);
        if let [first, rest @ ..] = &path[..]
            && rest.len() <= MAX_DEPTH
        {
            insert(params.entry(*first).or_insert(Value::Null), rest, value);
        }
    }
    Ok(params)
}

/// A stray `%` is kept as it is.
fn decode(text: &str) -> Result<String, NotUtf8> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes())
        .decode_utf8()
        .map_err(|_| NotUtf8)?;
    Ok(decoded.into_owned())
}

/// `a[b][]` as `a`, `b` and an empty name.
fn path(name: &str) -> Vec<&str> {
    let Some((first, rest)) = name.split_once('[') else {
        return vec![name];
    };
    match rest.strip_suffix(']') {
        Some(inner) if !first.is_empty() => {
            std::iter::once(first).chain(inner.split("][")).collect()
        }
        _ => vec![name],
    }
}

fn insert(slot: &mut Value, path: &[&str], value: String) {
    match path {
        [] => *slot = Value::String(value),
        ["", rest @ ..] => {
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            if let Value::Array(list) = slot {
                list.push(Value::Null);
                if let Some(last) = list.last_mut() {
                    insert(last, rest, value);
                }
            }
        }
        [name, rest @ ..] => {
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            if let Value::Object(map) = slot {
                insert(map.entry(*name).or_insert(Value::Null), rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Requirements 6, 14, 15, 188.
    #[test]
    fn queries_decode_as_in_plug() {
        for (query, want) in [
            ("", json!({})),
            (
                "vsn=2.0.0&user_id=n1",
                json!({"vsn": "2.0.0", "user_id": "n1"}),
            ),
            ("a[b]=1&a[c]=2", json!({"a": {"b": "1", "c": "2"}})),
            ("a%5Bb%5D=1", json!({"a": {"b": "1"}})),
            ("l[]=1&l[]=2", json!({"l": ["1", "2"]})),
            ("&&e=&", json!({"e": ""})),
            ("a=1&a=2", json!({"a": "2"})),
            ("s=a+b%20c&p=%zz", json!({"s": "a b c", "p": "%zz"})),
            ("u=%C3%A9", json!({"u": "é"})),
            ("flag", json!({"flag": ""})),
        ] {
            assert_eq!(parse(query).map(Value::Object), Ok(want), "{query}");
        }
        assert_eq!(parse("a=%ff"), Err(NotUtf8));
    }
}
