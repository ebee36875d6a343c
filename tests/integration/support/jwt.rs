//! Tokens that the tests sign themselves: HS256.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

pub(crate) const SECRET: &str = "a secret of thirty-two bytes or more";

/// A token with these claims.
pub(crate) fn signed(claims: &Value) -> String {
    signed_with(SECRET, claims)
}

/// The same with another secret.
pub(crate) fn signed_with(secret: &str, claims: &Value) -> String {
    let parts = [&json!({"alg": "HS256"}), claims].map(|part| BASE64.encode(part.to_string()));
    let signed = parts.join(".");
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    let signature = mac.chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", BASE64.encode(signature))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}
