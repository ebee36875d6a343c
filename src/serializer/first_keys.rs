//! Removes members that repeat a key of their object, so that the first one stays, as in Phoenix.
//!
//! A payload is relayed as text. With two values under one key the server and the clients could read
//! different ones: JavaScript takes the last, Phoenix's parser the first.

use std::borrow::Cow;
use std::collections::HashSet;

use foldhash::fast::RandomState;
use memchr::memchr;
use smallvec::SmallVec;

use super::strict::after_string;

/// The value without the members that repeat an earlier key of their object; the same text if there are
/// none. `text` must be one valid JSON value.
pub(super) fn first_keys(text: &str) -> Cow<'_, str> {
    if !text.starts_with(['{', '[']) {
        return text.into();
    }
    let mut scan = Scan::default();
    scan.run(text);
    if scan.copied == 0 {
        return text.into();
    }
    scan.kept.push_str(&text[scan.copied..]);
    scan.kept.into()
}

#[derive(Default)]
struct Scan<'a> {
    /// The remaining text, of the part before `copied`.
    kept: String,
    copied: usize,
    /// The enclosing objects and arrays, outermost first: the number of an object, `None` for an array.
    around: SmallVec<[Option<u32>; 8]>,
    objects: u32,
    keys: Keys<'a>,
    /// The position of a `{` or `,` after which the next string is a key.
    separator: Option<usize>,
    /// The member to remove: its depth, and the position of the comma before it.
    dropped: Option<(usize, usize)>,
}

impl<'a> Scan<'a> {
    fn run(&mut self, text: &'a str) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'{' => {
                    self.objects += 1;
                    self.around.push(Some(self.objects));
                    self.separator = Some(at);
                }
                b'[' => self.around.push(None),
                b'}' | b']' => {
                    self.end_member(text, at);
                    self.around.pop();
                    self.separator = None;
                }
                b',' => {
                    self.end_member(text, at);
                    let in_object = self.around.last().is_some_and(Option::is_some);
                    self.separator = in_object.then_some(at);
                }
                b'"' => {
                    let end = after_string(bytes, at + 1);
                    self.string(&text[at..end]);
                    at = end;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Handles a string. If it is a repeated key, marks its member for removal.
    fn string(&mut self, quoted: &'a str) {
        if let Some(separator) = self.separator.take()
            && self.dropped.is_none()
            && let Some(Some(object)) = self.around.last()
            && !self.keys.insert(*object, unescaped(quoted))
        {
            self.dropped = Some((self.around.len(), separator));
        }
    }

    /// Handles a comma or a closing bracket: a marked member may end here.
    fn end_member(&mut self, text: &str, at: usize) {
        if let Some((depth, comma)) = self.dropped
            && depth == self.around.len()
        {
            self.kept.push_str(&text[self.copied..comma]);
            self.copied = at;
            self.dropped = None;
        }
    }
}

/// The keys of all objects so far, each with the number of its object.
#[derive(Default)]
struct Keys<'a> {
    /// The first keys: comparing a few is faster than hashing.
    few: SmallVec<[(u32, Cow<'a, str>); 8]>,
    many: HashSet<(u32, Cow<'a, str>), RandomState>,
}

impl<'a> Keys<'a> {
    const FEW: usize = 16;
    /// The most remembered keys, so that a client cannot make this take long. Later keys are only compared
    /// with these.
    const MANY: usize = 10_000;

    /// Adds a key; `false` if its object already has it.
    fn insert(&mut self, object: u32, key: Cow<'a, str>) -> bool {
        let new = (object, key);
        if self.few.len() < Self::FEW && self.many.is_empty() {
            let known = self.few.contains(&new);
            self.few.push(new);
            return !known;
        }
        self.many.extend(self.few.drain(..));
        if self.many.len() < Self::MANY {
            self.many.insert(new)
        } else {
            !self.many.contains(&new)
        }
    }
}

/// The unescaped content of a string; the raw text if it cannot be unescaped.
fn unescaped(quoted: &str) -> Cow<'_, str> {
    if memchr(b'\\', quoted.as_bytes()).is_some()
        && let Ok(text) = serde_json::from_str::<String>(quoted)
    {
        return text.into();
    }
    quoted[1..quoted.len() - 1].into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::first_keys;

    #[test]
    fn only_the_first_of_duplicate_keys_stays() {
        for (text, want) in [
            (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
            (
                r#"{"a":1,"b":2,"a":3,"a":[{"a":4}],"c":5}"#,
                r#"{"a":1,"b":2,"c":5}"#,
            ),
            (
                r#"{"a":1,"\u0061":{"b":"},\"a"},"b":2}"#,
                r#"{"a":1,"b":2}"#,
            ),
            (
                r#"[{"a":1},{"a":"a","b":{"a":["a","a"],"a":2}}]"#,
                r#"[{"a":1},{"a":"a","b":{"a":["a","a"]}}]"#,
            ),
            (r#"{ "a" : 1 , "a" : 2 }"#, r#"{ "a" : 1 }"#),
            (r#"{"":1,"":2}"#, r#"{"":1}"#),
        ] {
            assert_eq!(first_keys(text), want, "{text}");
        }
    }

    #[test]
    fn only_so_many_keys_are_remembered() {
        let many: String = (0..20_000).map(|n| format!("\"{n}\":0,")).collect();
        let text = format!("{{{many}\"19999\":1,\"0\":1}}");
        assert_eq!(first_keys(&text), format!("{{{many}\"19999\":1}}"));
    }

    /// JSON whose objects may repeat a key.
    #[derive(Clone, Debug)]
    enum Json {
        Leaf(&'static str),
        Array(Vec<Json>),
        Object(Vec<(char, bool, Json)>),
    }

    impl Json {
        fn write(&self, all: bool, out: &mut String) {
            match self {
                Self::Leaf(text) => out.push_str(text),
                Self::Array(items) => {
                    out.push('[');
                    for (index, item) in items.iter().enumerate() {
                        out.push_str(if index == 0 { "" } else { "," });
                        item.write(all, out);
                    }
                    out.push(']');
                }
                Self::Object(members) => {
                    out.push('{');
                    for (index, (key, escaped, value)) in members.iter().enumerate() {
                        let known = members[..index].iter().any(|(other, ..)| other == key);
                        if all || !known {
                            out.push_str(if index == 0 { "" } else { "," });
                            let code = u32::from(*key);
                            match escaped {
                                true => out.push_str(&format!("\"\\u{code:04x}\":")),
                                false => out.push_str(&format!("\"{key}\":")),
                            }
                            value.write(all, out);
                        }
                    }
                    out.push('}');
                }
            }
        }

        fn text(&self, all: bool) -> String {
            let mut text = String::new();
            self.write(all, &mut text);
            text
        }
    }

    fn any_json() -> impl Strategy<Value = Json> {
        const TEXTS: [&str; 8] = [
            "1",
            "-2.5e3",
            "null",
            "\"a\"",
            "\",{[]}:\"",
            r#""\"a\",\\""#,
            "{}",
            "[]",
        ];
        proptest::sample::select(&TEXTS[..])
            .prop_map(Json::Leaf)
            .prop_recursive(4, 64, 6, |inner| {
                let member = (
                    proptest::sample::select(&['a', 'b', 'c', 'd', 'é'][..]),
                    any::<bool>(),
                    inner.clone(),
                );
                prop_oneof![
                    proptest::collection::vec(inner, 0..6).prop_map(Json::Array),
                    proptest::collection::vec(member, 0..6).prop_map(Json::Object),
                ]
            })
    }

    proptest! {
        /// Requirement 82.
        #[test]
        fn any_object_keeps_the_first_of_each_key(json in any_json()) {
            let text = json.text(true);
            prop_assert_eq!(first_keys(&text), json.text(false));
        }
    }
}
