//! Decrypts messages of plug_crypto 1: AES-128-GCM under a key for each message, which is itself encrypted
//! ("wrapped") with AES-256-GCM. Phoenix: the clause of `Plug.Crypto.MessageEncryptor` for earlier
//! versions.

use aes_gcm::{Aes128Gcm, Aes256Gcm};

use super::base64url;
use super::encryptor::{AAD, KEY_LENGTH, TAG_LENGTH, open};

/// `A128GCM` in base64url, the first of five parts.
const A128GCM: &str = "QTEyOEdDTQ";

/// The bytes of a message's own key. plug_crypto 1 made only keys of this length.
const MESSAGE_KEY_LENGTH: usize = 16;

/// Decrypts `header.wrapped_key.nonce.ciphertext.tag`. The wrapped key is ciphertext, tag and nonce, and
/// the sign secret is authenticated with it.
pub(super) fn decrypt_message(
    key: &[u8; KEY_LENGTH],
    token: &str,
    sign_secret: &[u8],
) -> Option<Vec<u8>> {
    let mut parts = token.split('.');
    if parts.next() != Some(A128GCM) {
        return None;
    }
    let mut part = || base64url::decode(parts.next()?);
    let (wrapped, nonce, ciphertext, tag) = (part()?, part()?, part()?, part()?);
    if parts.next().is_some() {
        return None;
    }
    let (wrapped_key, rest) = wrapped.split_at_checked(MESSAGE_KEY_LENGTH)?;
    let (key_tag, key_nonce) = rest.split_at_checked(TAG_LENGTH)?;
    let message_key = open::<Aes256Gcm>(key, key_nonce, wrapped_key, key_tag, sign_secret)?;
    open::<Aes128Gcm>(&message_key, &nonce, &ciphertext, &tag, AAD)
}
