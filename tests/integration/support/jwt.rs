//! Tokens that the tests sign themselves.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};

pub(crate) const SECRET: &str = "a secret of thirty-two bytes or more";

/// A token with these claims.
pub(crate) fn signed(claims: &Value) -> String {
    signed_with(SECRET, claims)
}

/// The same with another secret.
pub(crate) fn signed_with(secret: &str, claims: &Value) -> String {
    signed_by::<Hmac<Sha256>>("HS256", secret, claims)
}

/// A token as Guardian makes them by default.
pub(crate) fn guardian(issuer: &str, secret: &str, subject: &str) -> String {
    let claims = json!({
        "aud": issuer,
        "exp": now() + 4 * 7 * 86_400,
        "iat": now(),
        "iss": issuer,
        "jti": "7d8a3c1e-5f0b-4a52-8c27-1b9f7e6d0a43",
        "nbf": now() - 1,
        "sub": subject,
        "typ": "access",
    });
    signed_by::<Hmac<Sha512>>("HS512", secret, &claims)
}

fn signed_by<M: Mac + KeyInit>(algorithm: &str, secret: &str, claims: &Value) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"});
    let parts = [&header, claims].map(|part| BASE64.encode(part.to_string()));
    let signed = parts.join(".");
    let mac = <M as KeyInit>::new_from_slice(secret.as_bytes()).expect("any length");
    let signature = mac.chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", BASE64.encode(signature))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}
