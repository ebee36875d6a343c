//! [`TokenRefused`]: why a token is refused, and the metric that counts it.

use crate::metrics::token_metrics;
use crate::server::jwt::JwtRefused;
use crate::socket::ConnectRefused;
use crate::token::{SecretTooShort, TokenError};

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenRefused {
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
    #[error("token revoked")]
    Revoked,
    /// A new token of a connection names another user.
    #[error("the token of another user")]
    OtherUser,
    /// Its claims do not let the caller use the HTTP API.
    #[error("the claim {0} of the token has no accepted value")]
    Role(String),
}

/// Why Phoenix.Tokens cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenSetupError {
    #[error("there is no secret")]
    NoSecret,
    #[error(transparent)]
    Secret(#[from] SecretTooShort),
}

impl TokenRefused {
    /// Counts the refusal.
    pub(crate) fn counted(self) -> Self {
        token_metrics().refusals(self.reason()).increment(1);
        self
    }

    /// The reason in the metric.
    fn reason(&self) -> &'static str {
        match self {
            Self::Missing | Self::Phoenix(TokenError::Missing) => "missing",
            Self::Phoenix(TokenError::Expired) | Self::Jwt(JwtRefused::Expired) => "expired",
            Self::Jwt(JwtRefused::NotYet) => "not_yet",
            Self::Jwt(JwtRefused::NoExpiry | JwtRefused::Issuer | JwtRefused::Audience) => "claims",
            Self::Jwt(JwtRefused::UnknownKey) => "unknown_key",
            Self::NoKeys => "no_keys",
            Self::Revoked => "revoked",
            Self::OtherUser => "other_user",
            Self::Role(_) => "role",
            Self::Content(_)
            | Self::Phoenix(TokenError::Invalid)
            | Self::Jwt(
                JwtRefused::TooLong
                | JwtRefused::Malformed
                | JwtRefused::Algorithm
                | JwtRefused::Extension
                | JwtRefused::Signature,
            ) => "invalid",
        }
    }
}

impl From<TokenRefused> for ConnectRefused {
    fn from(error: TokenRefused) -> Self {
        Self::because(error.to_string())
    }
}
