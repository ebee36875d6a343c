//! JSON Web Tokens (RFC 7515, 7518, 7519): signatures and claims of tokens that another program has issued.
//!
//! Everything here is pure: keys come as bytes, the time as an argument. `server::config` reads keys from files and
//! the environment. There is no way to issue or to decrypt a token, and no unsigned token is ever accepted. The
//! cryptography is ring's.

mod algorithm;
mod cache;
mod der;
mod jwks;
mod key;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use self::algorithm::{JwtAlgorithm, JwtKeyKind};
pub(crate) use self::cache::JwksCache;
pub(crate) use self::jwks::JwkSet;
pub(crate) use self::key::JwtKey;
#[cfg(test)]
use self::key::JwtKeyError;
pub(crate) use self::verify::{JwtKeys, JwtPolicy, JwtRefused, VerifiedJwt, verify};
