//! [`TokenRefused`]: why a token is refused, and how the metrics and the log tell it.

use crate::metrics::token_metrics;
use crate::notice::Notice;
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
    /// Counts the refusal. The log tells of those that a mistake of the settings causes.
    pub(crate) fn counted(self) -> Self {
        let reason = self.reason();
        token_metrics().refusals(reason).increment(1);
        match reason {
            "invalid" => tell_of_wrong_keys(),
            "claims" => tell_of_wrong_claims(),
            "unknown_key" | "no_keys" => tell_of_missing_keys(),
            _ => {}
        }
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

fn tell_of_wrong_keys() {
    static NOTICE: Notice = Notice::new();
    if let Some(refused) = NOTICE.count() {
        tracing::info!(
            refused,
            "tokens.invalid: if your application makes them, it signs with another secret or key: \
             compare SECRET_KEY_BASE and the salt, or the keys of jwt"
        );
    }
}

fn tell_of_wrong_claims() {
    static NOTICE: Notice = Notice::new();
    if let Some(refused) = NOTICE.count() {
        tracing::info!(
            refused,
            "tokens.claims.wrong: compare iss and aud of a token with issuer and audience of jwt; it \
             needs an exp"
        );
    }
}

fn tell_of_missing_keys() {
    static NOTICE: Notice = Notice::new();
    if let Some(refused) = NOTICE.count() {
        tracing::info!(
            refused,
            "tokens.key.unknown: see that jwks_url, or the keys of jwt, are those of the tokens' issuer"
        );
    }
}

impl From<TokenRefused> for ConnectRefused {
    fn from(error: TokenRefused) -> Self {
        Self::of_token(error.to_string())
    }
}
