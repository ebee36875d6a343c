//! The values that a token carries, and the subset of Erlang's external term format for them.
//!
//! Pure, and safe for any bytes: depth and size are bounded, and memory is allocated for the bytes that are
//! there, not for the length that they declare. Erlang: `term_to_binary/1` and `binary_to_term/1`.

mod decode;
mod encode;
mod json;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

#[cfg(feature = "_cluster")]
pub(crate) use decode::TupleReader;
pub use encode::{AtomForm, EncodeError};
pub use json::NoJsonForm;

/// The first byte of the external term format.
const VERSION: u8 = 131;

/// The most levels of lists, tuples and maps. A token's own tuple is one of them, so all JSON that
/// serde_json reads fits.
const MAX_DEPTH: usize = 128;

/// The most bytes of an encoded term of a token, also after decompression: more than any header or URL holds.
const MAX_SIZE: usize = 256 * 1024;

/// The most characters of an atom.
const MAX_ATOM_CHARS: usize = 255;

/// The tags of the external term format.
mod tag {
    pub(super) const NEW_FLOAT: u8 = b'F';
    pub(super) const COMPRESSED: u8 = b'P';
    pub(super) const SMALL_INTEGER: u8 = b'a';
    pub(super) const INTEGER: u8 = b'b';
    pub(super) const ATOM: u8 = b'd';
    pub(super) const SMALL_TUPLE: u8 = b'h';
    pub(super) const LARGE_TUPLE: u8 = b'i';
    pub(super) const NIL: u8 = b'j';
    pub(super) const STRING: u8 = b'k';
    pub(super) const LIST: u8 = b'l';
    pub(super) const BINARY: u8 = b'm';
    pub(super) const SMALL_BIG: u8 = b'n';
    pub(super) const LARGE_BIG: u8 = b'o';
    pub(super) const SMALL_ATOM: u8 = b's';
    pub(super) const MAP: u8 = b't';
    pub(super) const ATOM_UTF8: u8 = b'v';
    pub(super) const SMALL_ATOM_UTF8: u8 = b'w';
}

/// An Elixir value. Terms are ordered as Erlang orders the keys of a small map: integers, floats,
/// atoms, tuples, maps, lists, binaries.
///
/// Processes, ports, references, functions, bitstrings, improper lists and integers beyond 128
/// bits have no counterpart: a token that holds one is invalid.
///
/// ```
/// use serde_json::json;
/// use slackir::token::Term;
///
/// let user = Term::from(json!({"id": 7, "role": "admin"}));
/// assert_eq!(user.get("id"), Some(&Term::Integer(7)));
/// assert_eq!(user.get("role").and_then(Term::as_str), Some("admin"));
/// ```
#[derive(Clone, Debug)]
pub enum Term {
    /// An integer, exact.
    Integer(i128),
    /// A float; infinities and NaN have no external form.
    Float(f64),
    /// An atom of at most 255 characters. `nil`, `true` and `false` are atoms too.
    Atom(Cow<'static, str>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A map.
    Map(BTreeMap<Term, Term>),
    /// A proper list. Elixir's charlists are lists of integers.
    List(Vec<Term>),
    /// A binary; Elixir's strings are binaries that hold UTF-8.
    Binary(Vec<u8>),
}

impl Term {
    /// The atom `nil`.
    pub const NIL: Self = Self::Atom(Cow::Borrowed("nil"));

    /// The atom of this name.
    pub fn atom(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Atom(name.into())
    }

    /// The text of a binary that holds UTF-8; `None` for every other term, atoms included.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Binary(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The value of a map at a string key. Elixir: `map["key"]`.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.get(&Self::from(key)),
            _ => None,
        }
    }

    /// The place of this kind of term in Erlang's order.
    fn rank(&self) -> u8 {
        match self {
            Self::Integer(_) => 0,
            Self::Float(_) => 1,
            Self::Atom(_) => 2,
            Self::Tuple(_) => 3,
            Self::Map(_) => 4,
            Self::List(_) => 5,
            Self::Binary(_) => 6,
        }
    }
}

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Atom(a), Self::Atom(b)) => a.cmp(b),
            (Self::Tuple(a), Self::Tuple(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Self::Map(a), Self::Map(b)) => (a.len().cmp(&b.len()))
                .then_with(|| a.keys().cmp(b.keys()))
                .then_with(|| a.values().cmp(b.values())),
            (Self::List(a), Self::List(b)) => a.cmp(b),
            (Self::Binary(a), Self::Binary(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Term {}

macro_rules! integer_terms {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Term {
            fn from(integer: $integer) -> Self {
                Self::Integer(integer.into())
            }
        }
    )*};
}

integer_terms!(i32, u32, i64, u64);

impl From<f64> for Term {
    fn from(float: f64) -> Self {
        Self::Float(float)
    }
}

impl From<bool> for Term {
    fn from(truth: bool) -> Self {
        Self::atom(if truth { "true" } else { "false" })
    }
}

impl From<&str> for Term {
    fn from(text: &str) -> Self {
        Self::Binary(text.as_bytes().to_vec())
    }
}

impl From<String> for Term {
    fn from(text: String) -> Self {
        Self::Binary(text.into_bytes())
    }
}

impl From<Vec<Term>> for Term {
    fn from(items: Vec<Self>) -> Self {
        Self::List(items)
    }
}

/// Makes a map. Its keys become binaries, in the order of their bytes.
impl FromIterator<(String, Term)> for Term {
    fn from_iter<I: IntoIterator<Item = (String, Self)>>(entries: I) -> Self {
        Self::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
