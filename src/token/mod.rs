//! Makes tokens that Phoenix reads, and reads Phoenix's tokens. Phoenix: `Phoenix.Token`, which is
//! `Plug.Crypto.sign/4`, `verify/4`, `encrypt/4` and `decrypt/4`.
//!
//! A token is a [`Term`] with the time of its signing and its maximum age. Anybody can read a token of a
//! [`Signer`], but nobody can change it. A token of an [`Encryptor`] can only be read with the secret. Both
//! derive their key once, which costs as much as some hundred verifications: make them when the server
//! starts, not for each client.
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
//! Differences from plug_crypto 2.1.1: a token that was signed in the future is invalid, as in its later
//! source; a valid signature around data that is no token is invalid instead of raising; and base64 whose
//! unused last bits are set is invalid. Only [`SignOptions::now`] and [`VerifyOptions::now`] read the
//! clock.

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
#[cfg(feature = "_cluster")]
pub(crate) use term::TupleReader;
pub use term::{AtomForm, EncodeError, NoJsonForm, Term};

/// Why a token is refused. Each is one of the atoms that Phoenix returns with `:error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is no token. Phoenix: `:missing`, for `nil`.
    #[error("the token is missing")]
    Missing,
    /// The text is not a token, was changed, was made with another secret, salt or key option, or was
    /// signed in the future. Phoenix: `:invalid`.
    #[error("the token is invalid")]
    Invalid,
    /// The token is genuine but too old. Phoenix: `:expired`.
    #[error("the token has expired")]
    Expired,
}

/// How long a token is valid, counted from its signing. Phoenix: the option `:max_age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    /// Up to and including this age; a token with zero is expired at once. Fractions of a millisecond are
    /// cut off.
    Limited(Duration),
    /// No limit. Phoenix: `:infinity`.
    Infinity,
}

/// How a token is made. Phoenix: the options of `sign/4` and `encrypt/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignOptions {
    /// The moment from which the age counts. Fractions of a millisecond are cut off.
    pub signed_at: SystemTime,
    /// The maximum age, if the verifier sets none. Default: one day.
    pub max_age: MaxAge,
    /// How to write atoms. Phoenix reads both forms.
    pub atoms: AtomForm,
}

setters!(SignOptions {
    signed_at: SystemTime,
    max_age: MaxAge,
    atoms: AtomForm,
});

/// How a token is checked. Phoenix: the options of `verify/4` and `decrypt/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The moment at which the token must be valid. A token that was signed after it is invalid.
    pub now: SystemTime,
    /// A maximum age that overrides that of the token. Default: that of the token counts.
    pub max_age: Option<MaxAge>,
}

setters!(VerifyOptions {
} some {
    max_age: impl Into<MaxAge>,
});

impl MaxAge {
    /// One day, Phoenix's default.
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
    /// Signs at this moment, for one day.
    pub fn at(signed_at: SystemTime) -> Self {
        Self {
            signed_at,
            max_age: MaxAge::DEFAULT,
            atoms: AtomForm::default(),
        }
    }

    /// Signs now, by the system's clock, for one day.
    pub fn now() -> Self {
        Self::at(SystemTime::now())
    }
}

impl VerifyOptions {
    /// Checks the token at this moment, with the token's own maximum age.
    pub fn at(now: SystemTime) -> Self {
        Self { now, max_age: None }
    }

    /// Checks the token now, by the system's clock, with the token's own maximum age.
    pub fn now() -> Self {
        Self::at(SystemTime::now())
    }
}

#[cfg(test)]
mod tests;
