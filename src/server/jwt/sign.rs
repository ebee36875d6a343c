//! [`JwtSigner`]: signs tokens. `slackir token jwt` uses it; a server signs none.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::{Map, Value, json};

use super::algorithm::{JwtAlgorithm, JwtKeyKind};
use super::der::decode_pem;
use super::key::JwtKey;

/// An algorithm, and a key for it.
pub(crate) struct JwtSigner {
    algorithm: JwtAlgorithm,
    key: SigningKey,
}

enum SigningKey {
    Secret(JwtKey),
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// The key does not sign by the algorithm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwtSignError {
    /// The algorithm needs a secret, or a private key, and the other one is there.
    #[error("{algorithm} needs {kind}")]
    Kind {
        /// The algorithm.
        algorithm: JwtAlgorithm,
        /// The keys that it takes.
        kind: JwtKeyKind,
    },
    /// The PEM text has no such private key.
    #[error("it holds no private key for {algorithm} (BEGIN PRIVATE KEY, of {kind})")]
    NoKey {
        /// The algorithm.
        algorithm: JwtAlgorithm,
        /// The keys that it takes.
        kind: JwtKeyKind,
    },
    /// The cryptography gives no signature.
    #[error("the signature cannot be made: the system gives no random bytes")]
    NoSignature,
}

impl JwtSigner {
    /// Signs with a secret.
    ///
    /// # Errors
    /// If the algorithm takes no secrets, or the key is none.
    pub(crate) fn with_secret(algorithm: JwtAlgorithm, key: JwtKey) -> Result<Self, JwtSignError> {
        let kind = algorithm.key_kind();
        if kind != JwtKeyKind::Secret || key.kind() != kind {
            return Err(JwtSignError::Kind { algorithm, kind });
        }
        let key = SigningKey::Secret(key);
        Ok(Self { algorithm, key })
    }

    /// Signs with the private key of a PEM text (PKCS #8).
    ///
    /// # Errors
    /// If the text has none, or one for other algorithms.
    pub(crate) fn with_private_key(
        algorithm: JwtAlgorithm,
        pem: &str,
    ) -> Result<Self, JwtSignError> {
        let kind = algorithm.key_kind();
        let none = || JwtSignError::NoKey { algorithm, kind };
        let block = decode_pem(pem).filter(|(label, _)| *label == "PRIVATE KEY");
        let (_, der) = block.ok_or_else(none)?;
        let der = &der;
        let ecdsa = |with: &'static EcdsaSigningAlgorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(with, der, &SystemRandom::new());
            pair.map(|pair| SigningKey::Ecdsa(Box::new(pair)))
        };
        let key = match kind {
            JwtKeyKind::Secret => return Err(JwtSignError::Kind { algorithm, kind }),
            JwtKeyKind::Rsa => {
                RsaKeyPair::from_pkcs8(der).map(|pair| SigningKey::Rsa(Box::new(pair)))
            }
            JwtKeyKind::P256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            JwtKeyKind::P384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            JwtKeyKind::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
                .map(|pair| SigningKey::Ed25519(Box::new(pair))),
        };
        let key = key.map_err(|_| none())?;
        Ok(Self { algorithm, key })
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn sign(&self, claims: &Map<String, Value>) -> Result<String, JwtSignError> {
        let header = json!({ "alg": self.algorithm, "typ": "JWT" }).to_string();
        let claims = Value::from(claims.clone()).to_string();
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{claims}");
        let signature = self.signature(message.as_bytes());
        let signature = signature.ok_or(JwtSignError::NoSignature)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.key {
            SigningKey::Secret(secret) => secret.mac(self.algorithm, message),
            SigningKey::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let encoding = rsa_encoding(self.algorithm)?;
                let signed = pair.sign(encoding, &random, message, &mut signature);
                signed.ok().map(|()| signature)
            }
            SigningKey::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).ok()?;
                Some(signature.as_ref().to_vec())
            }
            SigningKey::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn rsa_encoding(algorithm: JwtAlgorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        JwtAlgorithm::Rs256 => &RSA_PKCS1_SHA256,
        JwtAlgorithm::Rs384 => &RSA_PKCS1_SHA384,
        JwtAlgorithm::Rs512 => &RSA_PKCS1_SHA512,
        JwtAlgorithm::Ps256 => &RSA_PSS_SHA256,
        JwtAlgorithm::Ps384 => &RSA_PSS_SHA384,
        JwtAlgorithm::Ps512 => &RSA_PSS_SHA512,
        JwtAlgorithm::Hs256
        | JwtAlgorithm::Hs384
        | JwtAlgorithm::Hs512
        | JwtAlgorithm::Es256
        | JwtAlgorithm::Es384
        | JwtAlgorithm::EdDsa => return None,
    })
}
