//! Derives a key for each purpose from the server's secret. Phoenix: `Plug.Crypto.KeyGenerator`.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use pbkdf2::pbkdf2_hmac;
use sha2::{Sha256, Sha384, Sha512};

/// The secret from which a server derives all its keys. Servers with the same secret read each other's
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

/// How to derive a key. Signer and verifier must use the same options. Phoenix: the options
/// `:key_iterations`, `:key_length` and `:key_digest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyOptions {
    /// Rounds of PBKDF2, to which the time of a derivation is proportional. Default: 1,000.
    pub iterations: NonZeroU32,
    /// Bytes of the key. Encryption needs 32. Default: 32.
    pub length: NonZeroU16,
    /// The hash of PBKDF2. Tokens are signed with SHA-256 in any case. Default: SHA-256.
    pub digest: KeyDigest,
}

setters!(KeyOptions {
    iterations: NonZeroU32,
    length: NonZeroU16,
    digest: KeyDigest,
});

/// The hash in the derivation of a key. Phoenix: `:key_digest`.
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
    /// The fewest bytes of a secret. `mix phx.gen.secret` makes 64.
    pub const MIN_LENGTH: usize = 20;

    /// Takes the secret as it is in the settings: it is neither trimmed nor decoded.
    ///
    /// # Errors
    /// If the secret has fewer than [`Self::MIN_LENGTH`] bytes.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, SecretTooShort> {
        let secret = secret.into();
        if secret.len() < Self::MIN_LENGTH {
            return Err(SecretTooShort {
                length: secret.len(),
            });
        }
        Ok(Self(secret.into()))
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Derives the key for the purpose that `salt` names.
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

/// Hides the secret.
impl fmt::Debug for SecretKeyBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKeyBase").finish_non_exhaustive()
    }
}

impl KeyOptions {
    /// Phoenix's defaults.
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
