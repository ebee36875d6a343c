//! Authorization of the API: a caller needs the API's token, a `Phoenix.Token` of the application, or a JSON Web Token
//! with a claim.

use std::net::SocketAddr;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use chrono::{DateTime, SecondsFormat, Utc};
use futures_core::future::LocalBoxFuture;
use futures_util::FutureExt;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tracing::field::{DisplayValue, display};

use super::{ApiError, Shared};
use crate::ban::{Ban, BanKind, BanTarget};
use crate::log::MessageId;
use crate::metrics::metrics;
use crate::rate::{self, Buckets, Limit, Rate};
use crate::revocation::{Revocations, RevokedSubject};
use crate::server::config::{ApiConfig, ApiJwtConfig, JwtSetupError};
use crate::server::jwt::JwtRefused;
use crate::server::telemetry::AUDIT;
use crate::server::tokens::{RoleVerifier, TokenRefused};
use crate::store::Target;
use crate::token::{
    KeyOptions, MaxAge, SecretKeyBase, SecretTooShort, Signer, TokenError, VerifyOptions,
};

/// The shortest token, in bytes: a shorter one could be guessed.
const MIN_TOKEN: usize = 16;
/// The message of the MACs whose keys are tokens.
const PURPOSE: &[u8] = b"slackir api token";

/// The settings of the API's authorization are not valid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The token is too short, or cannot be sent in a header.
    #[error("--api-token: at least {MIN_TOKEN} visible ASCII characters are needed")]
    Token,
    /// A salt without a secret.
    #[error(
        "--api-token-salt: it needs SECRET_KEY_BASE, the secret that the tokens are signed with"
    )]
    NoSecret,
    /// The secret is too short.
    #[error("SECRET_KEY_BASE: {0}")]
    Secret(#[from] SecretTooShort),
    /// A key of the section's `jwt` cannot be read or used.
    #[error("[api] {0}")]
    Jwt(#[from] JwtSetupError),
}

/// The credentials that let a caller in; at least one is configured.
pub struct Auth {
    token: Option<TokenMac>,
    signer: Option<(Signer, MaxAge)>,
    jwt: Option<RoleVerifier>,
    /// Requests by token.
    requests: Buckets,
}

named_debug!(Auth);

impl Auth {
    /// Lets in callers with this token.
    ///
    /// # Errors
    /// If the token has fewer than 16 characters, or others than visible ASCII.
    pub fn by_token(token: &str) -> Result<Self, AuthError> {
        Ok(Self {
            token: Some(TokenMac::of_token(token)?),
            signer: None,
            jwt: None,
            requests: Buckets::new(Rate::new(0, 0)),
        })
    }

    /// The credentials of these settings, with JSON Web Tokens that are not revoked. `None` if no credential is
    /// configured: the API is off.
    ///
    /// # Errors
    /// If the settings would let in nobody, or everybody. If a key of the tokens cannot be used.
    pub(crate) fn with_jwt(
        config: &ApiConfig,
        jwt: Option<&ApiJwtConfig>,
        revocations: &Revocations,
    ) -> Result<Option<Self>, AuthError> {
        let jwt = jwt.map(|jwt| RoleVerifier::new(jwt, revocations));
        let token = config
            .api_token
            .as_deref()
            .map(TokenMac::of_token)
            .transpose()?;
        let signer = config.api_token_salt.as_deref().map(|salt| {
            let secret = config.secret_key_base.as_deref();
            let secret = SecretKeyBase::new(secret.ok_or(AuthError::NoSecret)?)?;
            let signer = Signer::new(&secret, salt, KeyOptions::DEFAULT);
            Ok::<_, AuthError>((signer, MaxAge::Limited(config.api_token_max_age)))
        });
        let auth = Self {
            token,
            signer: signer.transpose()?,
            jwt: jwt.transpose()?,
            requests: Buckets::new(Rate::new(
                config.api_requests_per_second,
                config.api_requests_burst,
            )),
        };
        let configured = auth.token.is_some() || auth.signer.is_some() || auth.jwt.is_some();
        Ok(configured.then_some(auth))
    }

    /// Counts a request with this token.
    fn count(&self, token: Option<&str>) -> Result<(), ApiError> {
        self.requests.take(token, rate::now()).map_err(|wait| {
            metrics().limited(Limit::Api).increment(1);
            ApiError::RateLimited {
                retry_after_ms: rate::retry_after_ms(wait),
            }
        })
    }

    /// The credential that lets the caller in. Counts a refusal.
    async fn check(&self, presented: Option<&str>) -> Result<Credential, TokenRefused> {
        let checked = self.check_local(presented);
        let (presented, refused) = match (presented, checked) {
            (_, Ok(credential)) => return Ok(credential),
            (Some(presented), Err(TokenError::Invalid)) => (presented, TokenError::Invalid),
            (_, Err(refused)) => return Err(TokenRefused::from(refused).counted()),
        };
        let Some(jwt) = &self.jwt else {
            return Err(TokenRefused::from(refused).counted());
        };
        match jwt.verify(presented).await {
            Ok(token) => Ok(Credential::Jwt {
                sub: token.subject().map(String::from),
            }),
            // It need not be a JWT.
            Err(TokenRefused::Jwt(JwtRefused::Malformed)) => Err(refused.into()),
            Err(refused) => Err(refused),
        }
    }

    /// Checks the credentials that need no keys of an issuer.
    fn check_local(&self, presented: Option<&str>) -> Result<Credential, TokenError> {
        let presented = presented.ok_or(TokenError::Missing)?;
        if self.token.as_ref().is_some_and(|mac| mac.is_of(presented)) {
            return Ok(Credential::Token);
        }
        let Some((signer, max_age)) = &self.signer else {
            return Err(TokenError::Invalid);
        };
        let options = VerifyOptions {
            max_age: Some(*max_age),
            ..VerifyOptions::now()
        };
        signer
            .verify(Some(presented), options)
            .map(|_| Credential::SignedToken)
    }
}

/// The MAC of a token. Comparing two MACs takes the same time wherever they differ.
struct TokenMac([u8; 32]);

impl TokenMac {
    fn of_token(token: &str) -> Result<Self, AuthError> {
        if token.len() < MIN_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AuthError::Token);
        }
        Ok(Self(mac(token).finalize().into_bytes().into()))
    }

    fn is_of(&self, presented: &str) -> bool {
        mac(presented).verify_slice(&self.0).is_ok()
    }
}

fn mac(token: &str) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(token.as_bytes())
        .expect("HMAC takes keys of any length")
        .chain_update(PURPOSE)
}

/// The credential that a caller presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    Token,
    SignedToken,
    Jwt { sub: Option<String> },
}

impl Credential {
    /// Its name in the log.
    fn kind(&self) -> &'static str {
        match self {
            Self::Token => "Token",
            Self::SignedToken => "SignedToken",
            Self::Jwt { .. } => "Jwt",
        }
    }

    /// The holder of a JWT.
    fn sub(&self) -> Option<&str> {
        match self {
            Self::Jwt { sub } => sub.as_deref(),
            Self::Token | Self::SignedToken => None,
        }
    }
}

/// Proof that the caller may use the API.
pub(super) struct Authorized {
    credential: Credential,
    peer: Option<SocketAddr>,
}

impl Authorized {
    /// The kind of the credential, the holder of a JWT, and the other end of the connection, for the log.
    fn caller(&self) -> (&'static str, Option<&str>, Option<DisplayValue<SocketAddr>>) {
        let peer = self.peer.map(display);
        (self.credential.kind(), self.credential.sub(), peer)
    }

    /// Logs that the caller has created, updated or deleted a message.
    pub(super) fn audit(&self, done: &str, topic: &str, id: MessageId) {
        let (credential, sub, peer) = self.caller();
        tracing::info!(target: AUDIT, done, topic, %id, peer, %credential, sub, "api.message.changed");
    }

    /// Logs that the caller has reached the present members of a topic.
    pub(super) fn audit_live(&self, done: &str, topic: &str, event: Option<&str>) {
        let (credential, sub, peer) = self.caller();
        tracing::info!(target: AUDIT, done, topic, event, peer, %credential, sub, "api.members.reached");
    }

    /// Logs that the caller has revoked tokens (`revoked`), or taken a revocation back (`restored`).
    pub(super) fn audit_revocation(&self, done: &str, subject: &RevokedSubject) {
        let (credential, sub, peer) = self.caller();
        let (user, token) = match subject {
            RevokedSubject::User(user) => (Some(user), None),
            RevokedSubject::Token(id) => (None, Some(id)),
        };
        tracing::info!(target: AUDIT, done, user, token, peer, %credential, sub, "api.revocation.changed");
    }

    /// Logs that the caller has banned or muted somebody (`added`), or taken that back (`removed`).
    pub(super) fn audit_ban(&self, done: &str, ban: &Ban) {
        let (credential, sub, peer) = self.caller();
        let (user, address) = match &ban.target {
            BanTarget::User(user) => (Some(user), None),
            BanTarget::Address(range) => (None, Some(display(range))),
        };
        let kind = match ban.kind {
            BanKind::Ban => "ban",
            BanKind::Mute => "mute",
        };
        let ends = DateTime::<Utc>::from(ban.ends);
        let ends = ends.to_rfc3339_opts(SecondsFormat::Secs, true);
        let id = &ban.id;
        tracing::info!(target: AUDIT, done, kind, user, address, ends, id, peer, %credential, sub, "api.ban.changed");
    }

    /// Logs that the caller has ended connections.
    pub(super) fn audit_disconnected(
        &self,
        user: Option<&str>,
        connection: Option<&str>,
        connections: usize,
    ) {
        let (credential, sub, peer) = self.caller();
        tracing::info!(target: AUDIT, user, connection, connections, peer, %credential, sub, "api.connections.ended");
    }

    /// Logs that the caller has erased messages.
    pub(super) fn audit_erasure(&self, target: &Target, messages: u64) {
        let (credential, sub, peer) = self.caller();
        let (topic, name) = match target {
            Target::Topic(topic) => (Some(topic), None),
            Target::Name { name, topic } => (topic.as_ref(), Some(name)),
        };
        tracing::info!(target: AUDIT, topic, name, messages, peer, %credential, sub, "api.messages.erased");
    }
}

impl FromRequest for Authorized {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        async move {
            let shared = request.app_data::<Data<Shared>>();
            let auth = shared.ok_or(ApiError::NoRoute)?.auth();
            let auth = auth.ok_or_else(|| TokenRefused::from(TokenError::Missing).counted())?;
            let token = bearer(&request);
            let credential = auth.check(token).await?;
            auth.count(token)?;
            Ok(Self {
                credential,
                peer: request.peer_addr(),
            })
        }
        .boxed_local()
    }
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::token::SignOptions;

    const TOKEN: &str = "0123456789abcdef";
    const SECRET: &str = "a secret of at least twenty bytes";

    fn config() -> ApiConfig {
        ApiConfig {
            api_token: None,
            api_token_salt: None,
            api_token_max_age: Duration::from_secs(86_400),
            api_requests_per_second: 0,
            api_requests_burst: 0,
            secret_key_base: None,
        }
    }

    #[test]
    fn without_settings_there_is_no_api() {
        let secret_alone = ApiConfig {
            secret_key_base: Some(SECRET.to_owned()),
            ..config()
        };
        for config in [config(), secret_alone] {
            assert!(matches!(
                Auth::with_jwt(&config, None, &Revocations::default()),
                Ok(None)
            ));
        }
    }

    #[test]
    fn settings_that_let_in_nobody_or_everybody_are_refused() {
        let token = |token: &str| ApiConfig {
            api_token: Some(token.to_owned()),
            ..config()
        };
        let salt = |secret: Option<&str>| ApiConfig {
            api_token_salt: Some("api".to_owned()),
            secret_key_base: secret.map(str::to_owned),
            ..config()
        };
        let spaced = "0123456789 abcdef";
        for (config, part) in [
            (token(""), "--api-token"),
            (token("short"), "--api-token"),
            (token(spaced), "--api-token"),
            (salt(None), "needs SECRET_KEY_BASE"),
            (salt(Some("short")), "too short"),
        ] {
            let error = Auth::with_jwt(&config, None, &Revocations::default())
                .err()
                .map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains(part)), "{part}");
        }
    }

    #[actix_rt::test]
    async fn a_caller_needs_the_token_or_a_signed_one_that_is_not_too_old() {
        let both = ApiConfig {
            api_token: Some(TOKEN.to_owned()),
            api_token_salt: Some("api".to_owned()),
            secret_key_base: Some(SECRET.to_owned()),
            ..config()
        };
        let auth = Auth::with_jwt(&both, None, &Revocations::default())
            .ok()
            .flatten()
            .expect("configured");
        let secret = SecretKeyBase::new(SECRET).expect("long enough");
        let signed = |salt: &str, age: u64| {
            let at = SystemTime::now() - Duration::from_secs(age);
            Signer::new(&secret, salt, KeyOptions::DEFAULT)
                .sign(7, SignOptions::at(at))
                .expect("a number has a form")
        };
        for (presented, result) in [
            (None, Err(TokenError::Missing)),
            (Some(TOKEN.to_owned()), Ok(Credential::Token)),
            (Some(TOKEN[1..].to_owned()), Err(TokenError::Invalid)),
            (Some(format!("{TOKEN}0")), Err(TokenError::Invalid)),
            (Some(String::new()), Err(TokenError::Invalid)),
            (Some(signed("api", 60)), Ok(Credential::SignedToken)),
            (Some(signed("user socket", 60)), Err(TokenError::Invalid)),
            (Some(signed("api", 90_000)), Err(TokenError::Expired)),
        ] {
            let checked = auth.check_local(presented.as_deref());
            assert_eq!(checked, result, "{presented:?}");
            let whole = auth.check(presented.as_deref()).await;
            assert_eq!(whole.is_ok(), result.is_ok(), "{presented:?}");
        }
    }
}
