//! [`JwtAlgorithm`]: the signature algorithms.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A signature algorithm of RFC 7518 or RFC 8037, except `none` and ES512, which ring does not have.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// The kind of a key. An algorithm has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwtKeyKind {
    /// A secret that the issuer shares with this server.
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl JwtAlgorithm {
    /// The algorithm of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        serde_json::from_value(name.into()).ok()
    }

    /// The kind of its keys.
    pub(crate) fn key_kind(self) -> JwtKeyKind {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => JwtKeyKind::Secret,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                JwtKeyKind::Rsa
            }
            Self::Es256 => JwtKeyKind::P256,
            Self::Es384 => JwtKeyKind::P384,
            Self::EdDsa => JwtKeyKind::Ed25519,
        }
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for JwtKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "a secret",
            Self::Rsa => "an RSA key",
            Self::P256 => "a P-256 key",
            Self::P384 => "a P-384 key",
            Self::Ed25519 => "an Ed25519 key",
        })
    }
}
