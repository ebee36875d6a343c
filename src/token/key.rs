//! From the server's one secret to a key for each purpose. Phoenix: `Plug.Crypto.KeyGenerator`.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use pbkdf2::pbkdf2_hmac;
use sha2::{Sha256, Sha384, Sha512};

/// The secret from which a server derives all its keys; servers that share it read each other's
/// tokens. Phoenix: `secret_key_base`.
#[derive(Clone)]
pub struct SecretKeyBase(Box<[u8]>);

/// The secret is so short that it could be guessed. Phoenix raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret key base of {length} bytes is too short: at least {} are needed",
    SecretKeyBase::MIN_LENGTH
)]
pub struct SecretTooShort {
    length: usize,
}

/// How a key is derived. Signer and verifier must agree on it. Phoenix: the options
/// `:key_iterations`, `:key_length` and `:key_digest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOptions {
    /// Rounds of PBKDF2; 1,000 by default. The time of a derivation grows with it.
    pub iterations: NonZeroU32,
    /// Bytes of the key; 32 by default, which encryption demands.
    pub length: NonZeroU16,
    /// The hash inside PBKDF2; SHA-256 by default. Tokens are signed with SHA-256 whatever it is.
    pub digest: KeyDigest,
}

/// The hash inside the derivation of a key. Phoenix: `:key_digest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyDigest {
    /// Phoenix: `:sha256`.
    #[default]
    Sha256,
    /// Phoenix: `:sha384`.
    Sha384,
    /// Phoenix: `:sha512`.
    Sha512,
}

impl SecretKeyBase {
    /// Bytes that a secret must have. `mix phx.gen.secret` makes 64.
    pub const MIN_LENGTH: usize = 20;

    /// Takes the secret as it stands in the settings: it is neither trimmed nor decoded.
    ///
    /// # Errors
    /// When it has fewer than [`Self::MIN_LENGTH`] bytes.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, SecretTooShort> {
        let secret = secret.into();
        if secret.len() < Self::MIN_LENGTH {
            return Err(SecretTooShort {
                length: secret.len(),
            });
        }
        Ok(Self(secret.into()))
    }

    /// Bytes of the secret.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key for the purpose that `salt` names.
    pub(crate) fn derive(&self, salt: &[u8], options: KeyOptions) -> Box<[u8]> {
        let mut key = vec![0; options.length.get().into()];
        let derive = match options.digest {
            KeyDigest::Sha256 => pbkdf2_hmac::<Sha256>,
            KeyDigest::Sha384 => pbkdf2_hmac::<Sha384>,
            KeyDigest::Sha512 => pbkdf2_hmac::<Sha512>,
        };
        derive(&self.0, salt, options.iterations.get(), &mut key);
        key.into()
    }
}

/// Says that there is a secret and not which.
impl fmt::Debug for SecretKeyBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKeyBase").finish_non_exhaustive()
    }
}

impl KeyOptions {
    /// What Phoenix takes where nobody says anything.
    pub const DEFAULT: Self = Self {
        iterations: NonZeroU32::new(1000).expect("1,000 is not zero"),
        length: NonZeroU16::new(32).expect("32 is not zero"),
        digest: KeyDigest::Sha256,
    };
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}
