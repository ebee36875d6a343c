//! [`TokenVerifier`]: verifies the tokens of one source.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::refused::{TokenRefused, TokenSetupError};
use super::verified::VerifiedToken;
use crate::server::config::{JwtSetupError, jwt_keys};
use crate::server::jwks::RemoteKeys;
use crate::server::jwt::{self, JwtKeys, JwtPolicy, JwtRefused};
use crate::server::language::{JwtConfig, JwtKeySource, PhoenixTokenConfig};
use crate::token::{KeyOptions, MaxAge, SecretKeyBase, Signer, VerifyOptions};

/// Verifies the tokens of one source.
pub(crate) enum TokenVerifier {
    Phoenix {
        signer: Signer,
        max_age: Option<MaxAge>,
    },
    Jwt {
        keys: JwtKeys,
        policy: JwtPolicy,
    },
    /// The keys are behind a URL.
    RemoteJwt {
        keys: Arc<RemoteKeys>,
        policy: JwtPolicy,
    },
}

impl TokenVerifier {
    /// # Errors
    /// If there is no secret, or it is too short.
    pub(crate) fn phoenix(
        config: &PhoenixTokenConfig,
        secret: Option<&str>,
    ) -> Result<Self, TokenSetupError> {
        let secret = SecretKeyBase::new(secret.ok_or(TokenSetupError::NoSecret)?)?;
        Ok(Self::Phoenix {
            signer: Signer::new(&secret, &config.salt, KeyOptions::default()),
            max_age: config.max_age.map(MaxAge::from),
        })
    }

    /// # Errors
    /// If a key cannot be read or used.
    pub(crate) fn jwt(config: &JwtConfig) -> Result<Self, JwtSetupError> {
        let policy = config.policy.clone();
        Ok(match &config.keys {
            JwtKeySource::Local(source) => Self::Jwt {
                keys: jwt_keys(source, &policy.algorithms)?,
                policy,
            },
            JwtKeySource::Url(url) => Self::RemoteJwt {
                keys: RemoteKeys::new(url.clone()).map_err(JwtSetupError::of_url)?,
                policy,
            },
        })
    }

    /// Whether the keys are behind a URL.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self, Self::RemoteJwt { .. })
    }

    /// Verifies a token now, and counts a refusal. The caller asks whether it is revoked.
    ///
    /// # Errors
    /// If it is wrong or expired, or if there are no keys.
    pub(crate) async fn verify(&self, token: &str) -> Result<VerifiedToken, TokenRefused> {
        let verified = match self {
            Self::Phoenix { signer, max_age } => verify_phoenix(signer, *max_age, token),
            Self::Jwt { keys, policy } => verify_jwt(token, policy, keys),
            Self::RemoteJwt { keys, policy } => verify_remote(token, policy, keys).await,
        };
        verified.map_err(TokenRefused::counted)
    }
}

fn verify_phoenix(
    signer: &Signer,
    max_age: Option<MaxAge>,
    token: &str,
) -> Result<VerifiedToken, TokenRefused> {
    let options = VerifyOptions {
        max_age,
        ..VerifyOptions::now()
    };
    let (term, issued) = signer.verify_dated(token, options)?;
    let content = Value::try_from(term);
    Ok(VerifiedToken {
        content: content.map_err(|error| TokenRefused::Content(error.to_string()))?,
        expires: None,
        issued,
    })
}

fn verify_jwt(
    token: &str,
    policy: &JwtPolicy,
    keys: &JwtKeys,
) -> Result<VerifiedToken, TokenRefused> {
    Ok(jwt::verify(token, policy, keys, SystemTime::now())?.into())
}

/// Fetches keys if the token names none of those that are known.
async fn verify_remote(
    token: &str,
    policy: &JwtPolicy,
    keys: &Arc<RemoteKeys>,
) -> Result<VerifiedToken, TokenRefused> {
    let known = keys.current().await.ok_or(TokenRefused::NoKeys)?;
    match verify_jwt(token, policy, &JwtKeys::Set(Arc::clone(&known))) {
        Err(TokenRefused::Jwt(JwtRefused::UnknownKey)) => {
            let newer = keys.newer(Some(known)).await;
            let newer = newer.ok_or(JwtRefused::UnknownKey)?;
            verify_jwt(token, policy, &JwtKeys::Set(newer))
        }
        verified => verified,
    }
}
