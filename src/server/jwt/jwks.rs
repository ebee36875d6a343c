//! [`JwkSet`]: the public keys of an issuer (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::JwtAlgorithm;
use super::key::JwtKey;

/// The most keys of a set.
const MAX_KEYS: usize = 100;

/// Public keys with names. Keys of other kinds, for other uses, and secrets are left out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwkSet(Vec<Jwk>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Jwk {
    kid: Option<String>,
    /// The one algorithm that it may be used with.
    algorithm: Option<String>,
    key: JwtKey,
}

/// Why a text is no set of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwkSetError {
    #[error("it is no JWKS, a JSON object with the list \"keys\"")]
    NoSet,
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    #[error(
        "it has no key for signatures that is RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519"
    )]
    NoKey,
}

#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<Value>,
}

/// The members of a key that count here.
#[derive(Deserialize)]
struct WrittenJwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl JwkSet {
    /// Reads a set. Keys that it does not understand are left out.
    ///
    /// # Errors
    /// If it is no set, or no key of it can be used.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, JwkSetError> {
        let written: WrittenSet = serde_json::from_slice(json).map_err(|_| JwkSetError::NoSet)?;
        if written.keys.len() > MAX_KEYS {
            return Err(JwkSetError::TooMany);
        }
        let keys = written.keys.into_iter();
        let keys = keys.filter_map(|key| serde_json::from_value::<WrittenJwk>(key).ok()?.read());
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() {
            return Err(JwkSetError::NoKey);
        }
        Ok(Self(keys))
    }

    /// The key of this name for this algorithm. Without a name: the one key that fits.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: JwtAlgorithm) -> Option<&JwtKey> {
        let mut fitting = self.0.iter().filter(|jwk| {
            let is_named = kid.is_none_or(|kid| jwk.kid.as_deref() == Some(kid));
            is_named && jwk.fits(algorithm)
        });
        let found = fitting.next()?;
        let is_certain = kid.is_some() || fitting.next().is_none();
        is_certain.then_some(&found.key)
    }

    /// Whether a key fits this algorithm.
    pub(crate) fn has_key_for(&self, algorithm: JwtAlgorithm) -> bool {
        self.0.iter().any(|jwk| jwk.fits(algorithm))
    }
}

impl Jwk {
    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        let named = self.algorithm.as_deref();
        self.key.kind() == algorithm.key_kind()
            && named.is_none_or(|named| named == algorithm.to_string())
    }
}

impl WrittenJwk {
    /// `None`: it cannot verify signatures here.
    fn read(self) -> Option<Jwk> {
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        let is_for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(verifies);
        let key = match (&*self.kty, self.crv.as_deref()) {
            _ if !is_for_signatures => return None,
            ("RSA", _) => JwtKey::rsa(&decode(self.n.as_ref())?, &decode(self.e.as_ref())?),
            ("EC", Some("P-256")) => JwtKey::p256(&self.point()?),
            ("EC", Some("P-384")) => JwtKey::p384(&self.point()?),
            ("OKP", Some("Ed25519")) => JwtKey::ed25519(&decode(self.x.as_ref())?),
            _ => return None,
        };
        Some(Jwk {
            kid: self.kid,
            algorithm: self.alg,
            key: key.ok()?,
        })
    }

    /// The uncompressed point.
    fn point(&self) -> Option<Vec<u8>> {
        let (x, y) = (decode(self.x.as_ref())?, decode(self.y.as_ref())?);
        (x.len() == y.len()).then(|| [&[4], &*x, &*y].concat())
    }
}

fn decode(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}
