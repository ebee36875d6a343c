//! Makes and verifies tokens that anybody can read and nobody can change. Phoenix:
//! `Plug.Crypto.MessageVerifier`.

use std::fmt;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};

use super::{
    EncodeError, KeyOptions, SecretKeyBase, SignOptions, Term, TokenError, VerifyOptions,
    base64url, claims,
};

/// `HS256`, `HS384` and `HS512` in base64url, the first part of a signed token.
const HS256: &str = "SFMyNTY";
const HS384: &str = "SFMzODQ";
const HS512: &str = "SFM1MTI";

/// Signs tokens for one purpose, and verifies them. Holds a derived key, as Phoenix caches one in a table;
/// a clone copies it.
///
/// Phoenix: `Phoenix.Token.sign/4` and `verify/4` with one secret, salt and set of key options.
#[derive(Clone)]
pub struct Signer {
    key: Box<[u8]>,
}

impl Signer {
    /// Derives the key for the purpose that `salt` names, such as `"user socket"`. Tokens for one purpose
    /// are invalid for another. Takes some tenths of a millisecond with the default options.
    pub fn new(secret: &SecretKeyBase, salt: impl AsRef<[u8]>, options: KeyOptions) -> Self {
        Self {
            key: secret.derive(salt.as_ref(), options),
        }
    }

    /// Makes a token with `data`. Anybody can read it, so it must not hold a password.
    ///
    /// # Errors
    /// If `data` has no external form or exceeds one of its bounds.
    pub fn sign(&self, data: impl Into<Term>, options: SignOptions) -> Result<String, EncodeError> {
        let message = claims::pack(data.into(), options)?;
        Ok(self.sign_message(&message))
    }

    /// The data of a token that this signer, or a Phoenix server with the same secret, has signed.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use slackir::token::{
    ///     KeyOptions, SecretKeyBase, SignOptions, Signer, TokenError, VerifyOptions,
    /// };
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = SecretKeyBase::new("a secret of at least twenty bytes")?;
    /// let signer = Signer::new(&secret, "user socket", KeyOptions::default());
    /// let yesterday = SystemTime::now() - Duration::from_secs(90_000);
    /// let token = signer.sign("user-42", SignOptions::at(yesterday))?;
    ///
    /// assert_eq!(signer.verify(None, VerifyOptions::now()), Err(TokenError::Missing));
    /// assert_eq!(signer.verify(Some("?"), VerifyOptions::now()), Err(TokenError::Invalid));
    /// assert_eq!(signer.verify(Some(&token), VerifyOptions::now()), Err(TokenError::Expired));
    ///
    /// let a_week = VerifyOptions::now().max_age(Duration::from_secs(604_800));
    /// assert_eq!(signer.verify(Some(&token), a_week)?.as_str(), Some("user-42"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no token, or if it is not genuine or too old.
    pub fn verify(&self, token: Option<&str>, options: VerifyOptions) -> Result<Term, TokenError> {
        let token = token.ok_or(TokenError::Missing)?;
        Ok(self.verify_dated(token, options)?.0)
    }

    /// As [`verify`](Self::verify), with the time at which the token was signed, in milliseconds. It is `None` for a
    /// token without a maximum age whose time is no number.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use slackir::token::{KeyOptions, SecretKeyBase, SignOptions, Signer, VerifyOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = SecretKeyBase::new("a secret of at least twenty bytes")?;
    /// let signer = Signer::new(&secret, "user socket", KeyOptions::default());
    /// let at = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    /// let token = signer.sign("user-42", SignOptions::at(at))?;
    ///
    /// let (_, signed_at) = signer.verify_dated(&token, VerifyOptions::at(at))?;
    /// assert_eq!(signed_at, Some(at));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the token is not genuine or too old.
    pub fn verify_dated(
        &self,
        token: &str,
        options: VerifyOptions,
    ) -> Result<(Term, Option<SystemTime>), TokenError> {
        let message = self.verify_message(token).ok_or(TokenError::Invalid)?;
        claims::unpack(&message, options)
    }

    /// Writes header, message and signature, separated by dots.
    pub(crate) fn sign_message(&self, message: &[u8]) -> String {
        let mut token = format!("{HS256}.{}", base64url::encode(message));
        let mac = Hmac::<Sha256>::new_from_slice(&self.key)
            .expect("HMAC takes keys of any length")
            .chain_update(&token);
        token.push('.');
        token.push_str(&base64url::encode(&mac.finalize().into_bytes()));
        token
    }

    /// The message, if the signature was made with this key. The text before the second dot is signed.
    pub(crate) fn verify_message(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, message) = signed.split_once('.')?;
        let verifies = match header {
            HS256 => verifies::<Hmac<Sha256>>,
            HS384 => verifies::<Hmac<Sha384>>,
            HS512 => verifies::<Hmac<Sha512>>,
            _ => return None,
        };
        let genuine = verifies(&self.key, signed, &base64url::decode(signature)?);
        if genuine {
            base64url::decode(message)
        } else {
            None
        }
    }
}

/// Whether the signature is valid, compared in constant time.
fn verifies<M: Mac + KeyInit>(key: &[u8], signed: &str, signature: &[u8]) -> bool {
    M::new_from_slice(key).is_ok_and(|mac| mac.chain_update(signed).verify_slice(signature).is_ok())
}

/// Hides the key.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}
