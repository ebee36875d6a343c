//! Tokens that Phoenix reads, and the reading of Phoenix's. Phoenix: `Phoenix.Token`, which is
//! `Plug.Crypto.sign/4`, `verify/4`, `encrypt/4` and `decrypt/4`.
//!
//! A token is a [`Term`] with the time of its signing and the age that ends it. A [`Signer`] makes
//! tokens that everybody can read and nobody can change; an [`Encryptor`] makes tokens that nobody
//! else can read either. Both derive their key once, which costs as much as some hundred
//! verifications: make them when the server starts, not for each client.
//!
//! ```
//! use slackir::token::{KeyOptions, SecretKeyBase, SignOptions, Signer, Term, VerifyOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = SecretKeyBase::new("kjoy3o1zeidquwy1398juxzldjlksahdk3")?;
//! let signer = Signer::new(&secret, "user auth", KeyOptions::default());
//!
//! let token = signer.sign(7, SignOptions::now())?;
//! let user = signer.verify(Some(&token), VerifyOptions::now())?;
//! assert_eq!(user, Term::Integer(7));
//! # Ok(())
//! # }
//! ```
//!
//! Differences from plug_crypto 2.1.1: a token that was signed in the future is invalid, as in its
//! later source; a valid signature around something that is no token is invalid instead of raising;
//! and base64 whose unused last bits are set is invalid. The clock is read by [`SignOptions::now`]
//! and [`VerifyOptions::now`] and nowhere else.

mod aes_key_wrap;
mod base64url;
mod claims;
mod encryptor;
mod key;
mod signer;
mod term;

use std::time::{Duration, SystemTime};

pub use encryptor::{Encryptor, WrongKeyLength};
pub use key::{KeyDigest, KeyOptions, SecretKeyBase, SecretTooShort};
pub use signer::Signer;
pub use term::{AtomForm, EncodeError, NoJsonForm, Term};

/// Why a token is refused. Each is one of the atoms that Phoenix returns with `:error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no token. Phoenix: `:missing`, for `nil`.
    #[error("the token is missing")]
    Missing,
    /// The text is no token, or was changed, or was made with another secret, salt or key option,
    /// or was signed in the future. Phoenix: `:invalid`.
    #[error("the token is invalid")]
    Invalid,
    /// The token is genuine and too old. Phoenix: `:expired`.
    #[error("the token has expired")]
    Expired,
}

/// How long a token is good for, counted from its signing. Phoenix: the option `:max_age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    /// Up to this age and still at it; zero is expired at once. Kept in milliseconds: what is
    /// shorter is cut off.
    Limited(Duration),
    /// For ever. Phoenix: `:infinity`.
    Infinity,
}

/// How a token is made. Phoenix: the options of `sign/4` and `encrypt/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignOptions {
    /// The moment from which the age counts, in whole milliseconds: what is shorter is cut off.
    pub signed_at: SystemTime,
    /// The age that ends the token where the verifier names none; a day by default.
    pub max_age: MaxAge,
    /// How atoms are written. Phoenix reads both forms.
    pub atoms: AtomForm,
}

/// How a token is judged. Phoenix: the options of `verify/4` and `decrypt/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// The moment at which the token must be good; one that was signed after it is invalid.
    pub now: SystemTime,
    /// The age that ends the token, whatever the token says; by default the token's own counts.
    pub max_age: Option<MaxAge>,
}

impl MaxAge {
    /// A day, which Phoenix takes where nobody says anything.
    pub const DEFAULT: Self = Self::Limited(Duration::from_secs(86_400));
}

impl Default for MaxAge {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl From<Duration> for MaxAge {
    fn from(age: Duration) -> Self {
        Self::Limited(age)
    }
}

impl SignOptions {
    /// Signed at this moment and good for a day.
    pub fn at(signed_at: SystemTime) -> Self {
        Self {
            signed_at,
            max_age: MaxAge::DEFAULT,
            atoms: AtomForm::default(),
        }
    }

    /// Signed now, by the system's clock, and good for a day.
    pub fn now() -> Self {
        Self::at(SystemTime::now())
    }
}

impl VerifyOptions {
    /// Good at this moment, by the age that the token names.
    pub fn at(now: SystemTime) -> Self {
        Self { now, max_age: None }
    }

    /// Good now, by the system's clock and the age that the token names.
    pub fn now() -> Self {
        Self::at(SystemTime::now())
    }
}

#[cfg(test)]
mod tests;
