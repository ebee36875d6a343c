//! Lays the members of one object over another, on their JSON text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::render::Rendered;

impl Rendered {
    /// This object with the members of `stamp`, which has these keys. Its own members under these keys are left
    /// out, so a client cannot forge them. `None` if it is not an object.
    pub(crate) fn stamped(&self, stamp: &Self, keys: &[String]) -> Option<Self> {
        let text = std::str::from_utf8(&self.json).ok()?;
        let members = serde_json::Deserializer::from_str(text)
            .deserialize_map(Members)
            .ok()?;
        let mut out = Self {
            json: Vec::with_capacity(self.json.len() + stamp.json.len()),
            ids: Vec::new(),
        };
        out.json.push(b'{');
        for (key, value) in members {
            if keys.iter().any(|stamped| *stamped == key) {
                continue;
            }
            out.separate();
            // A string has a JSON form.
            let _ = serde_json::to_writer(&mut out.json, &*key);
            out.json.push(b':');
            let start = value.get().as_ptr().addr() - text.as_ptr().addr();
            out.copy(self, start, start + value.get().len());
        }
        // Without its braces.
        if stamp.json.len() > 2 {
            out.separate();
            out.copy(stamp, 1, stamp.json.len() - 1);
        }
        out.json.push(b'}');
        Some(out)
    }

    fn separate(&mut self) {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
    }

    /// Appends a part of another text, with the places of the id in it.
    fn copy(&mut self, from: &Self, start: usize, end: usize) {
        let places = from
            .ids
            .iter()
            .filter(|&&place| start < place && place < end);
        let shift = self.json.len();
        self.ids.extend(places.map(|place| place - start + shift));
        self.json.extend_from_slice(&from.json[start..end]);
    }
}

/// The members of an object, their values as text.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
