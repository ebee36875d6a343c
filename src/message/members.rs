//! Finds members of a JSON object by name, without parsing the others. Reads the text once and stores
//! nothing, because a client's object may have millions of members.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The values of the members with these names. If a name is repeated, its first member counts, as in
/// Phoenix. `None` if `json` is not an object.
pub(super) fn members<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    let mut input = serde_json::Deserializer::from_str(json);
    input.deserialize_map(Named(names)).ok()
}

struct Named<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Named<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(index) = map.next_key_seed(Index(&self.0))? {
            match index.map(|index| &mut found[index]) {
                Some(empty @ None) => *empty = Some(map.next_value()?),
                Some(Some(_)) | None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads a key as its index among the names.
struct Index<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Index<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Index<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use super::{RawValue, members};

    #[test]
    fn members_are_found_by_name() {
        for (json, want) in [
            ("{}", Some([None, None])),
            (r#"{"a":1,"c":[2]}"#, Some([Some("1"), None])),
            (
                r#"{"b":{"a":1},"\u0061":2}"#,
                Some([Some("2"), Some(r#"{"a":1}"#)]),
            ),
            (r#"{"a":1,"a":2}"#, Some([Some("1"), None])),
            ("[1,2]", None),
            ("null", None),
        ] {
            let found = members(json, ["a", "b"]);
            let found = found.map(|values| values.map(|value| value.map(RawValue::get)));
            assert_eq!(found, want, "{json}");
        }
    }

    #[test]
    fn depth_is_no_limit() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let json = format!(r#"{{"x":{deep},"a":1}}"#);
        let found = members(&json, ["a"]).expect("an object");
        assert_eq!(found[0].map(RawValue::get), Some("1"));
    }
}
