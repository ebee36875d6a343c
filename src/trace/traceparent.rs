//! The header `traceparent` of W3C Trace Context. Pure.

/// A place in a trace: the trace, and a span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanPlace {
    pub(crate) trace: u128,
    pub(crate) span: u64,
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traceparent {
    pub(super) place: SpanPlace,
    pub(super) is_sampled: bool,
}

impl Traceparent {
    /// `None` if the text is not valid. Of a later version the parts of version 00 are read, as the standard asks.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?);
        let (span, flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        let has_more = parts.next().is_some();
        if version == 0xFF || (version == 0 && has_more) || trace == 0 || span == 0 {
            return None;
        }
        Some(Self {
            place: SpanPlace {
                trace,
                span: u64::try_from(span).ok()?,
            },
            is_sampled: flags & 1 == 1,
        })
    }
}

impl SpanPlace {
    /// The header of a request that belongs to this sampled span.
    pub(super) fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// A number of exactly so many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(is_hex) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_header_is_read_and_written() {
        let parsed = Traceparent::parse(VALID).expect("valid");
        assert!(parsed.is_sampled);
        assert_eq!(parsed.place.traceparent(), VALID);
        let unsampled = VALID.replace("-01", "-00");
        assert!(!Traceparent::parse(&unsampled).expect("valid").is_sampled);
        // Another flag is not the one that counts; a later version may say more.
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more";
        let later = Traceparent::parse(later).expect("a later version");
        assert_eq!(later, parsed);
    }

    #[test]
    fn an_invalid_header_is_none() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
            "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(Traceparent::parse(text), None, "{text}");
        }
    }
}
