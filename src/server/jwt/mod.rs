//! JSON Web Tokens (RFC 7515, 7518, 7519): signatures and claims of tokens that another program has issued.
//!
//! Everything here is pure: keys come as bytes, the time as an argument. `server::config` reads keys from files and
//! the environment. A server neither
//! issues nor decrypts a token, and no unsigned token is ever accepted. `sign` is for `slackir token jwt`. The
//! cryptography is ring's.

mod algorithm;
mod cache;
mod der;
mod jwks;
mod key;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use self::algorithm::{JwtAlgorithm, JwtKeyKind};
pub(crate) use self::cache::JwksCache;
pub(crate) use self::jwks::JwkSet;
pub(crate) use self::key::JwtKey;
#[cfg(test)]
use self::key::JwtKeyError;
pub(crate) use self::sign::{JwtSignError, JwtSigner};
pub(crate) use self::verify::{JwtKeys, JwtPolicy, JwtRefused, VerifiedJwt, verify};
