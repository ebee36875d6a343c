//! [`verify`]: a token's signature and its claims.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::algorithm::JwtAlgorithm;
use super::jwks::JwkSet;
use super::key::JwtKey;

/// The longest token, in bytes.
const MAX_TOKEN: usize = 16_384;

/// What a token must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JwtPolicy {
    /// The accepted algorithms.
    pub(crate) algorithms: Vec<JwtAlgorithm>,
    /// The accepted issuers; empty: any.
    pub(crate) issuers: Vec<String>,
    /// The audiences, of which the token must name one; empty: any.
    pub(crate) audiences: Vec<String>,
    /// How far the clocks of the issuer and of this server may differ.
    pub(crate) leeway: Duration,
    /// Whether a token without `exp` is refused.
    pub(crate) require_exp: bool,
}

/// The keys of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JwtKeys {
    /// Any of them may have signed a token: a secret and the one before it, or one public key. The token's `kid`
    /// does not count.
    Configured(Vec<JwtKey>),
    /// The token names its key.
    Set(Arc<JwkSet>),
}

/// A token whose signature and claims are right.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VerifiedJwt {
    /// An object.
    pub(crate) claims: Value,
    /// `exp`. `None` also if it is further away than a clock can count.
    pub(crate) expires: Option<SystemTime>,
    /// `iat`. `None` also if it is no time.
    pub(crate) issued: Option<SystemTime>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtRefused {
    #[error("token too long")]
    TooLong,
    #[error("token malformed")]
    Malformed,
    #[error("token algorithm not accepted")]
    Algorithm,
    /// The header has `crit`: an extension that must be understood.
    #[error("token has an unknown extension")]
    Extension,
    #[error("token key unknown")]
    UnknownKey,
    #[error("token signature wrong")]
    Signature,
    #[error("token has no exp")]
    NoExpiry,
    #[error("token expired")]
    Expired,
    #[error("token not valid yet")]
    NotYet,
    #[error("token issuer wrong")]
    Issuer,
    #[error("token audience wrong")]
    Audience,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Verifies a token at this time.
///
/// # Errors
/// If the token is refused. [`JwtRefused::UnknownKey`]: newer keys may know it.
pub(crate) fn verify(
    token: &str,
    policy: &JwtPolicy,
    keys: &JwtKeys,
    now: SystemTime,
) -> Result<VerifiedJwt, JwtRefused> {
    if token.len() > MAX_TOKEN {
        return Err(JwtRefused::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtRefused::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(JwtRefused::Malformed)?;
    let header: Header = decode(header)?;
    // The configuration says which algorithms there are; the header chooses among them.
    let mut accepted = policy.algorithms.iter().copied();
    let algorithm = accepted.find(|algorithm| algorithm.to_string() == header.alg);
    let algorithm = algorithm.ok_or(JwtRefused::Algorithm)?;
    if header.crit.is_some() {
        return Err(JwtRefused::Extension);
    }
    let signature = bytes(signature)?;
    let is_right = |key: &JwtKey| key.verifies(algorithm, signed.as_bytes(), &signature);
    let is_right = match keys {
        JwtKeys::Configured(keys) => keys.iter().any(is_right),
        JwtKeys::Set(set) => {
            let key = set.find(header.kid.as_deref(), algorithm);
            is_right(key.ok_or(JwtRefused::UnknownKey)?)
        }
    };
    if !is_right {
        return Err(JwtRefused::Signature);
    }
    let claims: Map<String, Value> = decode(claims)?;
    let expires = check(&claims, policy, now)?;
    let issued = claims.get("iat").and_then(Value::as_f64);
    Ok(VerifiedJwt {
        claims: Value::Object(claims),
        expires,
        issued: issued.and_then(since_1970),
    })
}

fn bytes(part: &str) -> Result<Vec<u8>, JwtRefused> {
    let decoded = URL_SAFE_NO_PAD.decode(part);
    decoded.map_err(|_| JwtRefused::Malformed)
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, JwtRefused> {
    serde_json::from_slice(&bytes(part)?).map_err(|_| JwtRefused::Malformed)
}

/// Checks the claims. Returns `exp`.
fn check(
    claims: &Map<String, Value>,
    policy: &JwtPolicy,
    now: SystemTime,
) -> Result<Option<SystemTime>, JwtRefused> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (now, leeway) = (now.as_secs_f64(), policy.leeway.as_secs_f64());
    let exp = time(claims, "exp")?;
    match exp {
        None if policy.require_exp => return Err(JwtRefused::NoExpiry),
        Some(exp) if now >= exp + leeway => return Err(JwtRefused::Expired),
        _ => {}
    }
    if time(claims, "nbf")?.is_some_and(|nbf| now + leeway < nbf) {
        return Err(JwtRefused::NotYet);
    }
    if !names_one(claims.get("iss"), &policy.issuers) {
        return Err(JwtRefused::Issuer);
    }
    if !names_one(claims.get("aud"), &policy.audiences) {
        return Err(JwtRefused::Audience);
    }
    Ok(exp.and_then(since_1970))
}

fn since_1970(seconds: f64) -> Option<SystemTime> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    UNIX_EPOCH.checked_add(since)
}

/// A NumericDate: seconds, also with a fraction.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, JwtRefused> {
    let Some(written) = claims.get(name) else {
        return Ok(None);
    };
    written.as_f64().map(Some).ok_or(JwtRefused::Malformed)
}

/// Whether a claim, a string or a list of strings, has one of the accepted values.
fn names_one(claim: Option<&Value>, accepted: &[String]) -> bool {
    let is_accepted = |value: &Value| {
        let text = value.as_str();
        text.is_some_and(|text| accepted.iter().any(|one| one == text))
    };
    match claim {
        _ if accepted.is_empty() => true,
        Some(Value::Array(values)) => values.iter().any(is_accepted),
        Some(value) => is_accepted(value),
        None => false,
    }
}
