//! The tokens of clients and of callers of the HTTP API: verifies them, and knows which are revoked. It does not know
//! what a token lets its holder do.

mod refused;
#[cfg(feature = "_store")]
mod role;
mod verified;
mod verifier;

pub(crate) use self::refused::{TokenRefused, TokenSetupError};
#[cfg(feature = "_store")]
pub(crate) use self::role::RoleVerifier;
pub(crate) use self::verified::{VerifiedToken, text_of};
pub(crate) use self::verifier::TokenVerifier;
