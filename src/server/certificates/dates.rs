//! [`Validity`]: the dates of a certificate, from its DER.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::NaiveDateTime;

/// When a certificate begins and ends, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) begins: i64,
    pub(crate) ends: i64,
}

/// The time, in seconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs().cast_signed()
}

/// DER tags.
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

impl Validity {
    /// The dates of a certificate (RFC 5280, 4.1). `None` if it is none.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (mut to_be_signed, _) = element(element(certificate, SEQUENCE)?.0, SEQUENCE)?;
        if let Some((_, rest)) = element(to_be_signed, VERSION) {
            to_be_signed = rest;
        }
        let (_serial, rest) = element(to_be_signed, INTEGER)?;
        let (_algorithm, rest) = element(rest, SEQUENCE)?;
        let (_issuer, rest) = element(rest, SEQUENCE)?;
        let (dates, _) = element(rest, SEQUENCE)?;
        let (begins, rest) = time(dates)?;
        let (ends, _) = time(rest)?;
        Some(Self { begins, ends })
    }
}

/// The content of the element with this tag at the begin of `der`, and what is behind the element.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, der) = der.split_first()?;
    let (&len, der) = der.split_first()?;
    let (len, der) = match len {
        0..=0x7F => (usize::from(len), der),
        // The length of the length.
        0x81..=0x84 => {
            let (len, der) = der.split_at_checked(usize::from(len - 0x80))?;
            let shift = |len: usize, byte: &u8| len << 8 | usize::from(*byte);
            (len.iter().fold(0, shift), der)
        }
        _ => return None,
    };
    der.split_at_checked(len).filter(|_| first == tag)
}

/// The time at the begin of `der`, and what is behind it.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest) = match element(der, UTC_TIME) {
        Some((text, rest)) => {
            let text = std::str::from_utf8(text).ok()?;
            let century = if text < "50" { "20" } else { "19" };
            (format!("{century}{text}"), rest)
        }
        None => {
            let (text, rest) = element(der, GENERALIZED_TIME)?;
            (String::from_utf8(text.to_vec()).ok()?, rest)
        }
    };
    let time = NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?;
    Some((time.and_utc().timestamp(), rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate with these dates.
    fn certificate(begins: (i32, u8, u8), ends: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(begins.0, begins.1, begins.2);
        params.not_after = date_time_ymd(ends.0, ends.1, ends.2);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn a_certificate_has_dates_of_both_forms() {
        for (begins, ends, seconds) in [
            ((1970, 1, 2), (2049, 12, 31), (86_400, 2_524_521_600)),
            ((2026, 11, 29), (2050, 1, 1), (1_795_910_400, 2_524_608_000)),
        ] {
            let validity = Validity::of(&certificate(begins, ends)).expect("a certificate");
            assert_eq!((validity.begins, validity.ends), seconds);
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        let whole = certificate((2026, 1, 1), (2027, 1, 1));
        for len in 0..whole.len() {
            // The dates are at the front, but the outer lengths must hold.
            assert_eq!(Validity::of(&whole[..len]), None, "{len} bytes");
        }
        assert_eq!(Validity::of(b"-----BEGIN CERTIFICATE-----"), None);
    }
}
