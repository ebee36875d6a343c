//! [`JwtKey`]: a key that verifies signatures.

use std::fmt;

use ring::hmac;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

use super::algorithm::{JwtAlgorithm, JwtKeyKind};
use super::der::read_pem;

/// The shortest secret, in bytes: the output of SHA-256 (RFC 7518, 3.2).
const MIN_SECRET: usize = 32;
/// The lengths of an RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key, and its kind. A signature of an algorithm for another kind is never tried with it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct JwtKey(Material);

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Secret(Vec<u8>),
    /// Both without leading zeros.
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why something is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtKeyError {
    #[error("the secret has {0} bytes, it must have {MIN_SECRET} or more")]
    ShortSecret(usize),
    #[error("the secret is a PEM text; a public key belongs into public_key_file")]
    SecretIsPem,
    #[error("it holds no PEM public key (BEGIN PUBLIC KEY)")]
    NoPem,
    #[error(
        "it holds a private key; the server needs the public key, and must not have the private one"
    )]
    Private,
    #[error("it holds a certificate; the server needs its public key: openssl x509 -pubkey -noout")]
    Certificate,
    #[error("the key must be RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519")]
    Unsupported,
}

impl JwtKey {
    /// # Errors
    /// If the secret is too short, or a public key by mistake: everybody has that.
    pub(crate) fn secret(secret: &[u8]) -> Result<Self, JwtKeyError> {
        if secret.starts_with(b"-----BEGIN ") {
            return Err(JwtKeyError::SecretIsPem);
        }
        if secret.len() < MIN_SECRET {
            return Err(JwtKeyError::ShortSecret(secret.len()));
        }
        Ok(Self(Material::Secret(secret.to_vec())))
    }

    /// The public key of a PEM text.
    ///
    /// # Errors
    /// If the text has none, or one that is not supported.
    pub(crate) fn pem(text: &str) -> Result<Self, JwtKeyError> {
        read_pem(text)
    }

    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, JwtKeyError> {
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let top = modulus
            .first()
            .map_or(8, |byte| byte.leading_zeros() as usize);
        let bits = (modulus.len() * 8).saturating_sub(top);
        if !RSA_BITS.contains(&bits) || exponent.is_empty() {
            return Err(JwtKeyError::Unsupported);
        }
        Ok(Self(Material::Rsa { modulus, exponent }))
    }

    /// `point`: uncompressed.
    pub(super) fn p256(point: &[u8]) -> Result<Self, JwtKeyError> {
        fixed(point, 65, Some(4)).map(|point| Self(Material::P256(point)))
    }

    /// `point`: uncompressed.
    pub(super) fn p384(point: &[u8]) -> Result<Self, JwtKeyError> {
        fixed(point, 97, Some(4)).map(|point| Self(Material::P384(point)))
    }

    pub(super) fn ed25519(key: &[u8]) -> Result<Self, JwtKeyError> {
        fixed(key, 32, None).map(|key| Self(Material::Ed25519(key)))
    }

    pub(crate) fn kind(&self) -> JwtKeyKind {
        match self.0 {
            Material::Secret(_) => JwtKeyKind::Secret,
            Material::Rsa { .. } => JwtKeyKind::Rsa,
            Material::P256(_) => JwtKeyKind::P256,
            Material::P384(_) => JwtKeyKind::P384,
            Material::Ed25519(_) => JwtKeyKind::Ed25519,
        }
    }

    /// The MAC of a message under this secret. `None` if the key or the algorithm is of another kind.
    pub(super) fn mac(&self, algorithm: JwtAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
        match &self.0 {
            Material::Secret(secret) if algorithm.key_kind() == JwtKeyKind::Secret => {
                let tag = hmac::sign(&mac_key(algorithm, secret), message);
                Some(tag.as_ref().to_vec())
            }
            _ => None,
        }
    }

    /// Whether `signature` is this key's, by this algorithm. `false` if the key is of another kind.
    pub(super) fn verifies(
        &self,
        algorithm: JwtAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        use JwtAlgorithm::{
            EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512,
        };
        let rsa = |with: &'static RsaParameters| self.verifies_rsa(with, message, signature);
        match (algorithm, &self.0) {
            (Hs256 | Hs384 | Hs512, Material::Secret(secret)) => {
                hmac::verify(&mac_key(algorithm, secret), message, signature).is_ok()
            }
            (Rs256, Material::Rsa { .. }) => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            (Rs384, Material::Rsa { .. }) => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            (Rs512, Material::Rsa { .. }) => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            (Ps256, Material::Rsa { .. }) => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            (Ps384, Material::Rsa { .. }) => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            (Ps512, Material::Rsa { .. }) => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            (Es256, Material::P256(point)) => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            (Es384, Material::P384(point)) => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            (EdDsa, Material::Ed25519(key)) => {
                let key = UnparsedPublicKey::new(&signature::ED25519, key);
                key.verify(message, signature).is_ok()
            }
            _ => false,
        }
    }

    fn verifies_rsa(&self, with: &'static RsaParameters, message: &[u8], signature: &[u8]) -> bool {
        let Material::Rsa { modulus, exponent } = &self.0 else {
            return false;
        };
        let key = RsaPublicKeyComponents {
            n: modulus,
            e: exponent,
        };
        key.verify(with, message, signature).is_ok()
    }
}

/// The kind alone: a secret must not reach a log.
impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JwtKey").field(&self.kind()).finish()
    }
}

/// `algorithm`: one that takes a secret.
fn mac_key(algorithm: JwtAlgorithm, secret: &[u8]) -> hmac::Key {
    let hash = match algorithm {
        JwtAlgorithm::Hs384 => hmac::HMAC_SHA384,
        JwtAlgorithm::Hs512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    hmac::Key::new(hash, secret)
}

fn without_zeros(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number[zeros..].to_vec()
}

fn fixed(key: &[u8], length: usize, first: Option<u8>) -> Result<Vec<u8>, JwtKeyError> {
    let begins = first.is_none_or(|first| key.first() == Some(&first));
    if key.len() != length || !begins {
        return Err(JwtKeyError::Unsupported);
    }
    Ok(key.to_vec())
}
