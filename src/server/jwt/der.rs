//! Public keys in PEM: `BEGIN PUBLIC KEY` (SubjectPublicKeyInfo, RFC 5280) and `BEGIN RSA PUBLIC KEY` (RFC 8017).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::key::{JwtKey, JwtKeyError};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The first public key of a PEM text.
///
/// # Errors
/// If the text has none, or one of an unsupported kind.
pub(super) fn read_pem(text: &str) -> Result<JwtKey, JwtKeyError> {
    let (label, der) = decode_pem(text).ok_or(JwtKeyError::NoPem)?;
    match label {
        "PUBLIC KEY" => subject_public_key(&der).ok_or(JwtKeyError::Unsupported)?,
        "RSA PUBLIC KEY" => rsa(&der).ok_or(JwtKeyError::Unsupported)?,
        "CERTIFICATE" => Err(JwtKeyError::Certificate),
        label if label.ends_with("PRIVATE KEY") => Err(JwtKeyError::Private),
        _ => Err(JwtKeyError::NoPem),
    }
}

/// The label and the bytes of the first block.
pub(super) fn decode_pem(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, text) = text.split_once("-----BEGIN ")?;
    let (label, text) = text.split_once("-----")?;
    let (body, _) = text.split_once("-----END ")?;
    let body: String = body.split_ascii_whitespace().collect();
    Some((label, STANDARD.decode(body).ok()?))
}

/// `None`: not the DER of a key of a known kind.
fn subject_public_key(der: &[u8]) -> Option<Result<JwtKey, JwtKeyError>> {
    let mut info = Der(Der(der).take(SEQUENCE)?);
    let mut algorithm = Der(info.take(SEQUENCE)?);
    // The first byte of a bit string is the number of unused bits.
    let key = info.take(BIT_STRING)?.strip_prefix(&[0])?;
    match algorithm.take(OBJECT_IDENTIFIER)? {
        RSA => rsa(key),
        ED25519 => Some(JwtKey::ed25519(key)),
        ELLIPTIC_CURVE => match algorithm.take(OBJECT_IDENTIFIER)? {
            P256 => Some(JwtKey::p256(key)),
            P384 => Some(JwtKey::p384(key)),
            _ => None,
        },
        _ => None,
    }
}

fn rsa(der: &[u8]) -> Option<Result<JwtKey, JwtKeyError>> {
    let mut key = Der(Der(der).take(SEQUENCE)?);
    let modulus = key.take(INTEGER)?;
    let exponent = key.take(INTEGER)?;
    Some(JwtKey::rsa(modulus, exponent))
}

/// The rest of a DER encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // No key is longer than three bytes can count.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (found == tag).then_some(content)
    }
}
