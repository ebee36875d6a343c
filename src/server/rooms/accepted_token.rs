//! [`TokenVerifier`]: verifies the tokens of one source.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::identity::IdentityError;
use crate::message::Payload;
use crate::server::config::{JwtSetupError, jwt_keys};
use crate::server::jwks::RemoteKeys;
use crate::server::jwt::{self, JwtKeys, JwtPolicy, JwtRefused, VerifiedJwt};
use crate::server::language::{JoinToken, JwtConfig, JwtKeySource, PhoenixTokenConfig};
use crate::socket::ConnectRefused;
use crate::token::{KeyOptions, MaxAge, SecretKeyBase, Signer, TokenError, VerifyOptions};

/// Verifies the tokens of one source.
pub(super) enum TokenVerifier {
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

/// Verifies the tokens that the joins of a room need.
pub(super) struct JoinVerifier(TokenVerifier);

impl JoinVerifier {
    /// # Errors
    /// If there is no key, or it cannot be used.
    pub(super) fn new(config: &JoinToken, secret: Option<&str>) -> Result<Self, IdentityError> {
        Ok(Self(match config {
            JoinToken::Phoenix(tokens) => TokenVerifier::phoenix(tokens, secret)?,
            JoinToken::Jwt(tokens) => TokenVerifier::jwt(tokens)?,
        }))
    }

    /// The content of the token among these join params.
    ///
    /// # Errors
    /// If it is missing, wrong or expired.
    pub(super) async fn verify(
        &self,
        config: &JoinToken,
        params: &Payload,
    ) -> Result<Value, TokenRefused> {
        let Payload::Json(params) = params else {
            return Err(TokenRefused::Missing);
        };
        let token = params.members([config.param()]).and_then(|[token]| token);
        let token = token.and_then(|token| serde_json::from_str::<String>(token.get()).ok());
        let verified = self.0.verify(&token.ok_or(TokenRefused::Missing)?).await?;
        Ok(verified.content)
    }
}

/// The content of a valid token.
#[derive(Debug, Default)]
pub(super) struct VerifiedToken {
    pub(super) content: Value,
    /// The end of a JWT. `None` for other tokens, whose end is not watched.
    pub(super) expires: Option<SystemTime>,
}

impl From<VerifiedJwt> for VerifiedToken {
    fn from(verified: VerifiedJwt) -> Self {
        Self {
            content: verified.claims,
            expires: verified.expires,
        }
    }
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenRefused {
    #[error(transparent)]
    Phoenix(#[from] TokenError),
    #[error(transparent)]
    Jwt(#[from] JwtRefused),
    /// The issuer's keys cannot be had.
    #[error("no keys")]
    NoKeys,
    #[error("no token")]
    Missing,
    /// It holds an Erlang term that has no form in JSON.
    #[error("{0}")]
    Content(String),
}

impl From<TokenRefused> for ConnectRefused {
    fn from(error: TokenRefused) -> Self {
        Self::because(error.to_string())
    }
}

impl TokenVerifier {
    /// # Errors
    /// If there is no secret, or it is too short.
    pub(super) fn phoenix(
        config: &PhoenixTokenConfig,
        secret: Option<&str>,
    ) -> Result<Self, IdentityError> {
        let secret = SecretKeyBase::new(secret.ok_or(IdentityError::NoSecret)?)?;
        Ok(Self::Phoenix {
            signer: Signer::new(&secret, &config.salt, KeyOptions::default()),
            max_age: config.max_age.map(MaxAge::from),
        })
    }

    /// # Errors
    /// If a key cannot be read or used.
    pub(super) fn jwt(config: &JwtConfig) -> Result<Self, IdentityError> {
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

    /// Verifies a token now.
    ///
    /// # Errors
    /// If it is wrong or expired, or if there are no keys.
    pub(super) async fn verify(&self, token: &str) -> Result<VerifiedToken, TokenRefused> {
        match self {
            Self::Phoenix { signer, max_age } => {
                let options = VerifyOptions {
                    max_age: *max_age,
                    ..VerifyOptions::now()
                };
                let term = signer.verify(Some(token), options)?;
                let content = Value::try_from(term);
                let content = content.map_err(|error| TokenRefused::Content(error.to_string()))?;
                Ok(VerifiedToken {
                    content,
                    expires: None,
                })
            }
            Self::Jwt { keys, policy } => {
                Ok(jwt::verify(token, policy, keys, SystemTime::now())?.into())
            }
            Self::RemoteJwt { keys, policy } => {
                let known = keys.current().await.ok_or(TokenRefused::NoKeys)?;
                let verify =
                    |keys| jwt::verify(token, policy, &JwtKeys::Set(keys), SystemTime::now());
                match verify(Arc::clone(&known)) {
                    Err(JwtRefused::UnknownKey) => {
                        let newer = keys.newer(Some(known)).await;
                        Ok(verify(newer.ok_or(JwtRefused::UnknownKey)?)?.into())
                    }
                    verified => Ok(verified?.into()),
                }
            }
        }
    }
}
