//! Refuses JSON that `RawValue` accepts and strict parsers refuse.
//!
//! Every member of a topic gets a relayed payload as the same bytes. A lone surrogate escape (`"\ud800"`)
//! or a number beyond the range of a double (`1e400`) would break clients that parse strictly. So such text
//! cannot be decoded here, as in Phoenix.

use memchr::{memchr, memchr2};

use super::DecodeError;

/// Checks a text. Text without a backslash and without an exponent is only searched for these bytes.
pub(super) fn check(text: &str) -> Result<(), DecodeError> {
    let bytes = text.as_bytes();
    if memchr(b'\\', bytes).is_some() {
        surrogates(bytes)?;
    }
    if has_exponent_candidate(bytes) {
        exponents(text)?;
    }
    Ok(())
}

/// Whether a digit is followed by `e` or `E` anywhere, inside a string or not. Without a branch in the
/// loop, so that it is vectorised.
fn has_exponent_candidate(bytes: &[u8]) -> bool {
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    pairs.fold(false, |found, (before, byte)| {
        found | (before.is_ascii_digit() & (byte | 0x20 == b'e'))
    })
}

/// Checks that every `\uD800`-`\uDBFF` is followed by `\uDC00`-`\uDFFF`, and that none of the latter stands
/// alone.
fn surrogates(bytes: &[u8]) -> Result<(), DecodeError> {
    const LONE: DecodeError = DecodeError::Unrelayable("a lone surrogate escape");
    let mut at = 0;
    while let Some(offset) = memchr(b'\\', &bytes[at..]) {
        at += offset;
        match code_unit(&bytes[at..]) {
            Some(0xD800..=0xDBFF) => match code_unit(bytes.get(at + 6..).unwrap_or_default()) {
                Some(0xDC00..=0xDFFF) => at += 12,
                _ => return Err(LONE),
            },
            Some(0xDC00..=0xDFFF) => return Err(LONE),
            // An escape has at least two bytes. Skipping both keeps `\\u` from being read as an escape.
            _ => at = (at + 2).min(bytes.len()),
        }
    }
    Ok(())
}

/// The code unit of a `\uXXXX` escape at the start of `bytes`.
fn code_unit(bytes: &[u8]) -> Option<u16> {
    let hex = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

/// Checks that every number with an exponent fits a double. Reads the text once, and skips strings.
fn exponents(text: &str) -> Result<(), DecodeError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = after_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let is_part = |b: &u8| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let len = bytes[at..].iter().take_while(|b| is_part(b)).count();
                let token = &text[at..at + len];
                if token.contains(['e', 'E']) && token.parse::<f64>().is_ok_and(f64::is_infinite) {
                    return Err(DecodeError::Unrelayable("a number out of range"));
                }
                at += len;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The position after the string whose content begins at `at`.
pub(super) fn after_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn passes_what_strict_parsers_read_and_refuses_the_rest() {
        for (text, relayable) in [
            (r#"{"a":"plain"}"#, true),
            (r#""\ud83d\ude00""#, true),
            (r#""\\ud800""#, true),
            (r#""\ud800""#, false),
            (r#""\ud800\n""#, false),
            (r#""\udc00""#, false),
            (r#""\ud800\ud800""#, false),
            (r#""\"#, true),
            ("1e308", true),
            ("1.5E+308", true),
            ("1e400", false),
            ("-2E400", false),
            (r#""1e400""#, true),
            (r#"{"k\"1e400":1e1}"#, true),
            (r#"["1e5", 9e999]"#, false),
            ("1e-400", true),
        ] {
            assert_eq!(check(text).is_ok(), relayable, "{text}");
        }
    }
}
