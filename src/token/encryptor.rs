//! Makes and reads tokens that can only be read with the secret. Phoenix: `Plug.Crypto.MessageEncryptor`.

use std::fmt;

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Nonce, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::{
    EncodeError, KeyOptions, SecretKeyBase, SignOptions, Term, TokenError, VerifyOptions,
    aes_key_wrap, base64url, claims,
};

/// The prefix of an encrypted token.
const XCP: &str = "XCP.";

/// The data that is authenticated with the message. It names another cipher, because Phoenix kept the old
/// name.
pub(super) const AAD: &[u8] = b"A128GCM";

/// The sign secret of tokens: they have none, unlike session cookies.
const NO_SIGN_SECRET: &[u8] = b"";

/// The bytes of an encryption key.
pub(super) const KEY_LENGTH: usize = 32;

/// The bytes of the nonce, the first part of an encrypted token.
const NONCE_LENGTH: usize = 24;

/// The bytes of the tag that authenticates a message, the second part of an encrypted token.
pub(super) const TAG_LENGTH: usize = 16;

/// Encrypts tokens for one purpose, and decrypts them. Holds a derived key; a clone copies it.
///
/// Phoenix: `Phoenix.Token.encrypt/4` and `decrypt/4` with one secret, salt and set of key
/// options.
#[derive(Clone)]
pub struct Encryptor {
    key: [u8; KEY_LENGTH],
}

/// The key options give a key length that the cipher cannot use. Phoenix raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encryption key has {KEY_LENGTH} bytes, not {length}")]
pub struct WrongKeyLength {
    length: usize,
}

impl Encryptor {
    /// Derives the key for the purpose that `salt` names. Tokens for one purpose are invalid for another.
    /// Takes some tenths of a millisecond with the default options.
    ///
    /// ```
    /// use slackir::token::{Encryptor, KeyOptions, SecretKeyBase, SignOptions, VerifyOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = SecretKeyBase::new("a secret of at least twenty bytes")?;
    /// let encryptor = Encryptor::new(&secret, "user secret", KeyOptions::default())?;
    /// let token = encryptor.encrypt("nobody reads this", SignOptions::now())?;
    /// let data = encryptor.decrypt(Some(&token), VerifyOptions::now())?;
    /// assert_eq!(data.as_str(), Some("nobody reads this"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the options give a key length other than 32 bytes.
    pub fn new(
        secret: &SecretKeyBase,
        salt: impl AsRef<[u8]>,
        options: KeyOptions,
    ) -> Result<Self, WrongKeyLength> {
        let length = options.length.get().into();
        if length != KEY_LENGTH {
            return Err(WrongKeyLength { length });
        }
        let mut key = [0; KEY_LENGTH];
        key.copy_from_slice(&secret.derive(salt.as_ref(), options));
        Ok(Self { key })
    }

    /// Makes a token with `data`, encrypted with XChaCha20-Poly1305 and a random nonce.
    ///
    /// # Errors
    /// If `data` has no external form or exceeds one of its bounds.
    ///
    /// # Panics
    /// If the operating system provides no random bytes.
    pub fn encrypt(
        &self,
        data: impl Into<Term>,
        options: SignOptions,
    ) -> Result<String, EncodeError> {
        let message = claims::pack(data.into(), options)?;
        Ok(self.encrypt_message(&message, &XNonce::generate()))
    }

    /// The data of a token that this encryptor, or a Phoenix server with the same secret, has made. Tokens
    /// of plug_crypto 1 (`QTEyOEdDTQ.`, AES-GCM) are read, but not written.
    ///
    /// # Errors
    /// If there is no token, or if it is not genuine or too old.
    pub fn decrypt(&self, token: Option<&str>, options: VerifyOptions) -> Result<Term, TokenError> {
        let token = token.ok_or(TokenError::Missing)?;
        let message = self.decrypt_message(token, NO_SIGN_SECRET);
        let message = message.ok_or(TokenError::Invalid)?;
        claims::unpack(&message, options).map(|(data, _)| data)
    }

    /// Writes nonce, tag and ciphertext, in this order. A nonce must never be used twice.
    pub(super) fn encrypt_message(&self, message: &[u8], nonce: &XNonce) -> String {
        let payload = Payload {
            msg: message,
            aad: AAD,
        };
        let sealed = XChaCha20Poly1305::new(&self.key.into())
            .encrypt(nonce, payload)
            .expect("a term is shorter than the 256 GiB that the cipher takes");
        let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG_LENGTH);
        let sealed = [nonce, tag, ciphertext].concat();
        format!("{XCP}{}", base64url::encode(&sealed))
    }

    /// The message, if it is genuine. Only the format of plug_crypto 1 uses the sign secret.
    pub(crate) fn decrypt_message(&self, token: &str, sign_secret: &[u8]) -> Option<Vec<u8>> {
        let Some(sealed) = token.strip_prefix(XCP) else {
            return aes_key_wrap::decrypt_message(&self.key, token, sign_secret);
        };
        let sealed = base64url::decode(sealed)?;
        let (nonce, rest) = sealed.split_at_checked(NONCE_LENGTH)?;
        let (tag, ciphertext) = rest.split_at_checked(TAG_LENGTH)?;
        open::<XChaCha20Poly1305>(&self.key, nonce, ciphertext, tag, AAD)
    }
}

/// The plain text, if the tag is valid and all lengths are those of the cipher.
pub(super) fn open<C: Aead + KeyInit>(
    key: &[u8],
    nonce: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
    aad: &[u8],
) -> Option<Vec<u8>> {
    let cipher = C::new_from_slice(key).ok()?;
    let nonce = Nonce::<C>::try_from(nonce).ok()?;
    if tag.len() != TAG_LENGTH {
        return None;
    }
    let msg = &[ciphertext, tag].concat();
    cipher.decrypt(&nonce, Payload { msg, aad }).ok()
}

/// Hides the key.
impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryptor").finish_non_exhaustive()
    }
}
