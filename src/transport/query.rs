//! Query strings, decoded by Plug's rules: `a[b]=1` nests, `l[]=1` is a list, the last of two equal names
//! wins, empty pairs are ignored. Phoenix: `Plug.Conn.Query`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use serde_json::{Map, Value};

/// The deepest nesting of `a[b][c]..`; deeper values are left out.
const MAX_DEPTH: usize = 32;

/// The decoded query is not UTF-8.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query string is not UTF-8")]
pub(crate) struct NotUtf8;

pub(crate) fn parse(query: &str) -> Result<Map<String, Value>, NotUtf8> {
    let mut root = Level::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        let path = path(&name);
        if path.len() <= MAX_DEPTH + 1 {
            root.insert(&path, value);
        }
    }
    Ok(root.into_object())
}

/// A stray `%` is kept as it is.
fn decode(text: &str) -> Result<String, NotUtf8> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes())
        .decode_utf8()
        .map_err(|_| NotUtf8)?;
    Ok(decoded.into_owned())
}

/// The name of a value in an object; `None` in a list, where it is written `[]`.
type Name = Option<String>;

/// Splits `a[b][]` into `a`, `b` and `None`.
fn path(name: &str) -> Vec<Name> {
    let named = |name: &str| Some(name.to_owned());
    let below = name.split_once('[').and_then(|(first, rest)| {
        let inner = rest.strip_suffix(']')?;
        (!first.is_empty()).then_some((first, inner))
    });
    let Some((first, inner)) = below else {
        return vec![named(name)];
    };
    let inner = inner.split("][").map(named);
    let nameless = inner.map(|name| name.filter(|name| !name.is_empty()));
    std::iter::once(named(first)).chain(nameless).collect()
}

/// The values below one name. Later pairs may use the name in another form, so its type is known only at
/// the end of the query.
#[derive(Default)]
struct Level {
    /// In the order of the query. A value of `None` refers to `below`, and has the place of the first pair
    /// there.
    values: Vec<(Name, Option<String>)>,
    below: BTreeMap<Name, Level>,
}

impl Level {
    fn insert(&mut self, path: &[Name], value: String) {
        match path {
            [] => {}
            [name] => self.values.push((name.clone(), Some(value))),
            [name, rest @ ..] => {
                let values = &mut self.values;
                let below = self.below.entry(name.clone()).or_insert_with(|| {
                    values.push((name.clone(), None));
                    Self::default()
                });
                below.insert(rest, value);
            }
        }
    }

    /// The last value decides between a list and an object; values of the other kind are left out.
    fn into_value(self) -> Value {
        match self.values.last() {
            Some((None, _)) => Value::Array(
                self.into_values()
                    .filter_map(|(name, value)| name.is_none().then_some(value))
                    .collect(),
            ),
            _ => Value::Object(self.into_object()),
        }
    }

    fn into_object(self) -> Map<String, Value> {
        self.into_values()
            .filter_map(|(name, value)| Some((name?, value)))
            .collect()
    }

    fn into_values(self) -> impl Iterator<Item = (Name, Value)> {
        let Self { values, mut below } = self;
        values.into_iter().map(move |(name, value)| {
            let value = match value {
                Some(text) => Value::String(text),
                None => below.remove(&name).unwrap_or_default().into_value(),
            };
            (name, value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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
            (
                "=x&[a]=1&a]=2&b[=3&c[d]e=4",
                json!({"": "x", "[a]": "1", "a]": "2", "b[": "3", "c[d]e": "4"}),
            ),
            ("a[b]c][]=1", json!({"a": {"b]c": ["1"]}})),
            (
                "l[][a]=1&l[][b]=2&l[]=3",
                json!({"l": [{"a": "1", "b": "2"}, "3"]}),
            ),
            ("a=1&a[b]=2", json!({"a": {"b": "2"}})),
            ("a[b]=1&a=2&a[c]=3", json!({"a": "2"})),
            ("a[]=1&a[b]=2&a[]=3", json!({"a": ["1", "3"]})),
            ("a[]=1&a[b]=2", json!({"a": {"b": "2"}})),
        ] {
            assert_eq!(parse(query).map(Value::Object), Ok(want), "{query}");
        }
        assert_eq!(parse("a=%ff"), Err(NotUtf8));
        assert_eq!(parse("%ff=a"), Err(NotUtf8));
    }

    #[test]
    fn what_nests_too_deeply_is_left_out() {
        let nested = |levels| parse(&format!("a=1&b{}=2", "[c]".repeat(levels)));
        let depth = |params: Map<String, Value>| {
            let below = std::iter::successors(params.get("b"), |value| value.get("c"));
            (params.len(), below.count())
        };
        assert_eq!(nested(MAX_DEPTH).map(depth), Ok((2, MAX_DEPTH + 1)));
        assert_eq!(nested(MAX_DEPTH + 1).map(depth), Ok((1, 0)));
    }

    proptest! {
        #[test]
        fn no_query_makes_parsing_panic(query in "([a-b=&%+]|\\[|\\]|\\]\\[|\\[\\]|%5B|%e9){0,40}|.*") {
            let _ = parse(&query);
        }
    }
}
