//! Encodes a term as Erlang's `term_to_binary/1` does.

use super::{MAX_ATOM_CHARS, MAX_DEPTH, MAX_SIZE, Term, VERSION, tag};

/// How to write atoms. Every Erlang since R16 reads both forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtomForm {
    /// UTF-8 with one byte for the length, as in Erlang/OTP 26 and later.
    #[default]
    Utf8,
    /// Latin-1 with two bytes for the length, as in Erlang/OTP 25 and earlier. UTF-8 if a character is not
    /// in Latin-1.
    Latin1,
}

/// Why a term cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Erlang has neither infinite floats nor NaN.
    #[error("a float in the term is not finite")]
    NotFinite,
    /// The name of an atom has more than 255 characters.
    #[error("an atom in the term has more than {MAX_ATOM_CHARS} characters")]
    AtomTooLong,
    /// Lists, tuples and maps are nested more than 127 levels deep.
    #[error("the term is nested too deeply")]
    TooDeep,
    /// The encoded term exceeds the bound. That of a token is 256 KiB, with the about 30 bytes that the token adds.
    #[error("the term has more than {MAX_SIZE} bytes when encoded")]
    TooLarge,
}

impl Term {
    /// The external form of this term. Equal terms have equal forms: maps are written in the order of their
    /// keys, as Erlang writes maps of up to 32 entries.
    ///
    /// # Errors
    /// If the term has no external form or exceeds a bound: [`MAX_SIZE`] is one.
    pub(crate) fn encode(&self, atoms: AtomForm) -> Result<Vec<u8>, EncodeError> {
        self.encode_within(atoms, MAX_SIZE)
    }

    /// As [`encode`](Self::encode), for a term that may have `max` bytes.
    ///
    /// # Errors
    /// If the term has no external form or exceeds a bound.
    pub(crate) fn encode_within(
        &self,
        atoms: AtomForm,
        max: usize,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut writer = TermWriter {
            out: vec![VERSION],
            atoms,
            max,
        };
        writer.term(self, MAX_DEPTH)?;
        Ok(writer.out)
    }
}

struct TermWriter {
    out: Vec<u8>,
    atoms: AtomForm,
    max: usize,
}

impl TermWriter {
    fn term(&mut self, term: &Term, depth: usize) -> Result<(), EncodeError> {
        match term {
            Term::Integer(integer) => self.integer(*integer),
            Term::Float(float) if !float.is_finite() => return Err(EncodeError::NotFinite),
            Term::Float(float) => self.tagged(tag::NEW_FLOAT, &float.to_be_bytes()),
            Term::Atom(name) => self.atom(name)?,
            Term::Binary(bytes) => {
                self.counted(tag::BINARY, bytes.len())?;
                self.out.extend_from_slice(bytes);
            }
            Term::Tuple(elements) => {
                match u8::try_from(elements.len()) {
                    Ok(arity) => self.tagged(tag::SMALL_TUPLE, &[arity]),
                    Err(_) => self.counted(tag::LARGE_TUPLE, elements.len())?,
                }
                self.terms(elements, depth)?;
            }
            Term::List(items) => self.list(items, depth)?,
            Term::Map(entries) => {
                self.counted(tag::MAP, entries.len())?;
                self.terms(entries.iter().flat_map(|(key, value)| [key, value]), depth)?;
            }
        }
        if self.out.len() > self.max {
            return Err(EncodeError::TooLarge);
        }
        Ok(())
    }

    /// Writes the elements of a list, tuple or map. `depth` counts the levels that are left.
    fn terms<'a>(
        &mut self,
        terms: impl IntoIterator<Item = &'a Term>,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let depth = depth.checked_sub(1).ok_or(EncodeError::TooDeep)?;
        terms
            .into_iter()
            .try_for_each(|term| self.term(term, depth))
    }

    fn integer(&mut self, integer: i128) {
        if let Ok(byte) = u8::try_from(integer) {
            self.tagged(tag::SMALL_INTEGER, &[byte]);
        } else if let Ok(integer) = i32::try_from(integer) {
            self.tagged(tag::INTEGER, &integer.to_be_bytes());
        } else {
            let magnitude = integer.unsigned_abs();
            // At most 16, so it fits one byte.
            let len = (u128::BITS - magnitude.leading_zeros()).div_ceil(u8::BITS);
            self.tagged(tag::SMALL_BIG, &[len as u8, u8::from(integer < 0)]);
            self.out
                .extend_from_slice(&magnitude.to_le_bytes()[..len as usize]);
        }
    }

    fn atom(&mut self, name: &str) -> Result<(), EncodeError> {
        if name.chars().count() > MAX_ATOM_CHARS {
            return Err(EncodeError::AtomTooLong);
        }
        let latin1: Option<Vec<u8>> = match self.atoms {
            AtomForm::Utf8 => None,
            AtomForm::Latin1 => name.chars().map(|c| u8::try_from(c).ok()).collect(),
        };
        let (tag, text) = match &latin1 {
            Some(latin1) => (tag::ATOM, latin1.as_slice()),
            None => (tag::ATOM_UTF8, name.as_bytes()),
        };
        match u8::try_from(text.len()) {
            Ok(len) if tag == tag::ATOM_UTF8 => self.tagged(tag::SMALL_ATOM_UTF8, &[len]),
            // At most 255 characters of 4 bytes, so the length fits two bytes.
            _ => self.tagged(tag, &(text.len() as u16).to_be_bytes()),
        }
        self.out.extend_from_slice(text);
        Ok(())
    }

    /// Writes a list. A list of bytes takes one byte for each, if their number fits two bytes.
    fn list(&mut self, items: &[Term], depth: usize) -> Result<(), EncodeError> {
        if items.is_empty() {
            self.out.push(tag::NIL);
            return Ok(());
        }
        if let (Ok(len), Some(bytes)) = (u16::try_from(items.len()), bytes(items)) {
            self.tagged(tag::STRING, &len.to_be_bytes());
            self.out.extend_from_slice(&bytes);
        } else {
            self.counted(tag::LIST, items.len())?;
            self.terms(items, depth)?;
            self.out.push(tag::NIL);
        }
        Ok(())
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.out.push(tag);
        self.out.extend_from_slice(bytes);
    }

    /// Writes a tag, with four bytes for a length or a number of elements.
    fn counted(&mut self, tag: u8, count: usize) -> Result<(), EncodeError> {
        match u32::try_from(count) {
            Ok(short) if count <= self.max => self.tagged(tag, &short.to_be_bytes()),
            _ => return Err(EncodeError::TooLarge),
        }
        Ok(())
    }
}

/// The items, if all are bytes.
fn bytes(items: &[Term]) -> Option<Vec<u8>> {
    let byte = |item: &Term| match item {
        Term::Integer(integer) => u8::try_from(*integer).ok(),
        _ => None,
    };
    items.iter().map(byte).collect()
}
