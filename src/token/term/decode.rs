//! Decodes a term as Erlang's `binary_to_term/1` does.
//!
//! Every read is checked against the remaining bytes. [`MAX_DEPTH`] bounds the recursion. The memory is at
//! most about 100 bytes for each byte of the input, whose length the caller bounds, also after decompression.

use std::borrow::Cow;
use std::collections::BTreeMap;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::{MAX_ATOM_CHARS, MAX_DEPTH, MAX_SIZE, Term, VERSION, tag};

impl Term {
    /// Decodes the term that these bytes hold from first to last; `None` for any other bytes, and if they are more than
    /// [`MAX_SIZE`].
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        whole(&body(bytes, MAX_SIZE)?)
    }
}

/// The elements of an encoded tuple, each decoded when it is asked for. The reader of a long message can stop early.
#[cfg(feature = "_cluster")]
pub(crate) struct TupleReader<'a> {
    /// What is left to read.
    rest: Cow<'a, [u8]>,
    /// How many bytes of it are read.
    read: usize,
}

#[cfg(feature = "_cluster")]
impl<'a> TupleReader<'a> {
    /// Begins to read a tuple of `arity` elements. `None` for any other term, and if it has more than `max` bytes, also
    /// after decompression.
    pub(crate) fn open(bytes: &'a [u8], arity: u8, max: usize) -> Option<Self> {
        let rest = body(bytes, max)?;
        rest.starts_with(&[tag::SMALL_TUPLE, arity])
            .then_some(Self { rest, read: 2 })
    }

    /// The next element. `None` if the bytes hold none.
    pub(crate) fn next(&mut self) -> Option<Term> {
        let mut reader = TermReader {
            rest: &self.rest[self.read..],
        };
        let term = reader.term(MAX_DEPTH - 1)?;
        self.read = self.rest.len() - reader.rest.len();
        Some(term)
    }
}

/// The bytes behind the version, inflated if they are compressed.
fn body(bytes: &[u8], max: usize) -> Option<Cow<'_, [u8]>> {
    if bytes.len() > max {
        return None;
    }
    let mut reader = TermReader { rest: bytes };
    if reader.byte()? != VERSION {
        return None;
    }
    match reader.rest.split_first()? {
        (&tag::COMPRESSED, compressed) => inflate(compressed, max).map(Cow::Owned),
        _ => Some(Cow::Borrowed(reader.rest)),
    }
}

/// Decodes the term that fills `bytes` to the end.
fn whole(bytes: &[u8]) -> Option<Term> {
    let mut reader = TermReader { rest: bytes };
    let term = reader.term(MAX_DEPTH)?;
    reader.rest.is_empty().then_some(term)
}

/// Decompresses four bytes for the inflated length, and a zlib stream that must have that length.
fn inflate(bytes: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut reader = TermReader { rest: bytes };
    let size = reader.count()?;
    if size > max {
        return None;
    }
    let inflated = decompress_to_vec_zlib_with_limit(reader.rest, size).ok()?;
    (inflated.len() == size).then_some(inflated)
}

struct TermReader<'a> {
    rest: &'a [u8],
}

impl<'a> TermReader<'a> {
    fn term(&mut self, depth: usize) -> Option<Term> {
        Some(match self.byte()? {
            tag::SMALL_INTEGER => Term::Integer(self.byte()?.into()),
            tag::INTEGER => Term::Integer(i32::from_be_bytes(self.array()?).into()),
            tag::SMALL_BIG => {
                let len = self.byte()?.into();
                self.big(len)?
            }
            tag::LARGE_BIG => {
                let len = self.count()?;
                self.big(len)?
            }
            tag::NEW_FLOAT => {
                let float = f64::from_be_bytes(self.array()?);
                return float.is_finite().then_some(Term::Float(float));
            }
            tag::SMALL_ATOM => latin1_atom(self.short()?)?,
            tag::ATOM => latin1_atom(self.medium()?)?,
            tag::SMALL_ATOM_UTF8 => utf8_atom(self.short()?)?,
            tag::ATOM_UTF8 => utf8_atom(self.medium()?)?,
            tag::BINARY => {
                let len = self.count()?;
                Term::Binary(self.take(len)?.to_vec())
            }
            tag::SMALL_TUPLE => {
                let arity = self.byte()?.into();
                Term::Tuple(self.terms(arity, depth)?)
            }
            tag::LARGE_TUPLE => {
                let arity = self.count()?;
                Term::Tuple(self.terms(arity, depth)?)
            }
            tag::NIL => Term::List(Vec::new()),
            tag::STRING => Term::List(
                self.medium()?
                    .iter()
                    .map(|&byte| u32::from(byte).into())
                    .collect(),
            ),
            tag::LIST => {
                let len = self.count()?;
                let items = self.terms(len, depth)?;
                // Anything else would be the tail of an improper list.
                return (self.byte()? == tag::NIL).then_some(Term::List(items));
            }
            tag::MAP => self.map(depth)?,
            _ => return None,
        })
    }

    /// Reads the elements of a list or tuple. The memory grows with the elements that are there, whatever
    /// `count` is.
    fn terms(&mut self, count: usize, depth: usize) -> Option<Vec<Term>> {
        let depth = depth.checked_sub(1)?;
        (0..count).map(|_| self.term(depth)).collect()
    }

    /// Reads a map. Its keys may be in any order, and must not repeat.
    fn map(&mut self, depth: usize) -> Option<Term> {
        let count = self.count()?;
        let depth = depth.checked_sub(1)?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let key = self.term(depth)?;
            let value = self.term(depth)?;
            if entries.insert(key, value).is_some() {
                return None;
            }
        }
        Some(Term::Map(entries))
    }

    /// Reads a sign and a little-endian magnitude of `len` bytes, which must fit 128 bits.
    fn big(&mut self, len: usize) -> Option<Term> {
        let negative = self.byte()? != 0;
        let bytes = self.take(len)?;
        let significant = len - bytes.iter().rev().take_while(|&&byte| byte == 0).count();
        let mut magnitude = [0; size_of::<u128>()];
        magnitude
            .get_mut(..significant)?
            .copy_from_slice(&bytes[..significant]);
        let magnitude = u128::from_le_bytes(magnitude);
        let integer = if negative {
            0_i128.checked_sub_unsigned(magnitude)?
        } else {
            i128::try_from(magnitude).ok()?
        };
        Some(Term::Integer(integer))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Reads four bytes for a length or a number of elements.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.array()?)).ok()
    }

    /// Reads bytes after one byte for their number.
    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.byte()?.into();
        self.take(len)
    }

    /// Reads bytes after two bytes for their number.
    fn medium(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_be_bytes(self.array()?).into();
        self.take(len)
    }
}

fn latin1_atom(bytes: &[u8]) -> Option<Term> {
    let name: String = bytes.iter().copied().map(char::from).collect();
    (bytes.len() <= MAX_ATOM_CHARS).then(|| Term::atom(name))
}

fn utf8_atom(bytes: &[u8]) -> Option<Term> {
    let name = std::str::from_utf8(bytes).ok()?;
    (name.chars().count() <= MAX_ATOM_CHARS).then(|| Term::atom(name.to_owned()))
}
