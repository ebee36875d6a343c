//! [`ApiError`]: all failures of a request, and the one table of their statuses and words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use serde::Serialize;

use crate::ban::MAX_BANS;
use crate::log::{LoadError, NotStored, StoreFull};
use crate::message::reason;
use crate::pubsub::PublishError;
use crate::revocation::MAX_REVOCATIONS;
use crate::server::sanctions::SanctionError;
use crate::server::tokens::TokenRefused;
use crate::slow_mode::MAX_SLOW_MODES;
use crate::store::EraseError;
use crate::token::TokenError;

/// The header that names a message.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The time after which a caller should retry, in milliseconds, if the failure itself names none.
const RETRY_AFTER_MS: u64 = 1_000;
/// The same if the memory for revocations, bans or slow modes is full.
const FULL_RETRY_AFTER_MS: u64 = 60_000;

/// The problems of a request: a sentence for each field that is wrong.
pub(super) type FieldProblems = BTreeMap<String, Cow<'static, str>>;

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("nothing is served at this path")]
    NoRoute,
    #[error("the methods of this path are {allow}")]
    MethodNotAllowed { allow: String },
    #[error("{0}")]
    Unauthorized(TokenRefused),
    /// The token is valid, and does not let its holder use the API.
    #[error("{0}")]
    Forbidden(TokenRefused),
    #[error("the keys of the token's issuer cannot be fetched at present")]
    NoKeys,
    #[error("see the fields")]
    Invalid(FieldProblems),
    #[error("a body has at most {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive whole")]
    CutShort,
    #[error("no room keeps messages of this topic")]
    NoLog,
    #[error("there is no such revocation")]
    NotRevoked,
    #[error(
        "{MAX_REVOCATIONS} revocations are remembered, and there is room for no other until one ends or is taken back"
    )]
    TooManyRevocations,
    #[error("there is no such ban")]
    NotBanned,
    #[error(
        "{MAX_BANS} bans are remembered, and there is room for no other until one ends or is taken back"
    )]
    TooManyBans,
    #[error("the topic is not in slow mode")]
    NoSlowMode,
    #[error(
        "{MAX_SLOW_MODES} topics are in slow mode, and there is room for no other until one ends or is taken out"
    )]
    TooManySlowModes,
    #[error("there is no open connection with this id")]
    UnknownConnection,
    #[error("no room shows who is present in this topic")]
    NoPresence,
    #[error("the header Idempotency-Key and the client_ref of the body differ: send one of them")]
    ConflictingKeys,
    #[error("the topic has no message with this id")]
    UnknownMessage,
    #[error("the message of this client_ref was stored, and has been deleted since")]
    Gone,
    #[error("the database will never take the message")]
    Rejected,
    #[error(
        "the database did not confirm the message in time; it may still be stored: try again with the same client_ref"
    )]
    Unconfirmed,
    #[error("too many requests with this token")]
    RateLimited { retry_after_ms: u64 },
    #[error("the database cannot take or give messages at present")]
    StorageUnavailable { retry_after_ms: u64 },
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// The body of every failure.
#[derive(Serialize)]
pub(super) struct FailureBody<'a> {
    error: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<&'a FieldProblems>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl ApiError {
    /// One field is wrong.
    pub(super) fn field(name: &str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(FieldProblems::from([(name.to_owned(), problem.into())]))
    }

    /// Logs a failed read of the database, and returns the caller's `answer`.
    pub(super) fn unread(error: &LoadError, answer: Self) -> Self {
        tracing::error!(
            error = error as &dyn Error,
            "api.read.failed: the request got an error; see that the database answers"
        );
        answer
    }

    /// The status, and `error` of the body.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoRoute => (StatusCode::NOT_FOUND, "not found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NoKeys => (StatusCode::SERVICE_UNAVAILABLE, "no keys"),
            Self::NotRevoked => (StatusCode::NOT_FOUND, "not revoked"),
            Self::NotBanned => (StatusCode::NOT_FOUND, "not banned"),
            Self::TooManyBans => (StatusCode::SERVICE_UNAVAILABLE, "too many bans"),
            Self::NoSlowMode => (StatusCode::NOT_FOUND, "no slow mode"),
            Self::TooManySlowModes => (StatusCode::SERVICE_UNAVAILABLE, "too many slow modes"),
            Self::UnknownConnection => (StatusCode::NOT_FOUND, "unknown connection"),
            Self::NoPresence => (StatusCode::NOT_FOUND, "no presence"),
            Self::ConflictingKeys => (StatusCode::BAD_REQUEST, "conflicting keys"),
            Self::TooManyRevocations => (StatusCode::SERVICE_UNAVAILABLE, "too many revocations"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too large"),
            Self::CutShort => (StatusCode::BAD_REQUEST, "cut short"),
            Self::NoLog => (StatusCode::NOT_FOUND, "no log"),
            Self::UnknownMessage => (StatusCode::NOT_FOUND, reason::UNKNOWN_MESSAGE),
            Self::Gone => (StatusCode::GONE, "gone"),
            Self::Rejected => (StatusCode::CONFLICT, reason::REJECTED),
            Self::Unconfirmed => (StatusCode::GATEWAY_TIMEOUT, reason::UNCONFIRMED),
            Self::StorageUnavailable { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, reason::STORAGE_UNAVAILABLE)
            }
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, reason::RATE_LIMITED),
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting down"),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.kind().0
    }

    pub(super) fn body(&self) -> FailureBody<'_> {
        FailureBody {
            error: self.kind().1,
            detail: self.to_string(),
            fields: match self {
                Self::Invalid(fields) => Some(fields),
                _ => None,
            },
            retry_after_ms: self.retry_after_ms(),
        }
    }

    fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::StorageUnavailable { retry_after_ms } | Self::RateLimited { retry_after_ms } => {
                Some(*retry_after_ms)
            }
            Self::ShuttingDown | Self::NoKeys => Some(RETRY_AFTER_MS),
            Self::TooManyRevocations | Self::TooManyBans | Self::TooManySlowModes => {
                Some(FULL_RETRY_AFTER_MS)
            }
            _ => None,
        }
    }

    /// The header that the status requires.
    fn header(&self) -> Option<(HeaderName, String)> {
        match self {
            Self::MethodNotAllowed { allow } => Some((ALLOW, allow.clone())),
            Self::Unauthorized(
                TokenRefused::Missing | TokenRefused::Phoenix(TokenError::Missing),
            ) => Some((WWW_AUTHENTICATE, "Bearer".to_owned())),
            Self::Unauthorized(_) => Some((
                WWW_AUTHENTICATE,
                "Bearer error=\"invalid_token\"".to_owned(),
            )),
            _ => {
                let seconds = self.retry_after_ms()?.div_ceil(1_000);
                Some((RETRY_AFTER, seconds.to_string()))
            }
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status());
        if let Some(header) = self.header() {
            answer.insert_header(header);
        }
        answer.json(self.body())
    }
}

/// A route may answer with nothing but a failure.
impl Responder for ApiError {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.error_response()
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::StoreFull(StoreFull { retry_after_ms }) => {
                Self::StorageUnavailable { retry_after_ms }
            }
            PublishError::NotLoaded => Self::StorageUnavailable {
                retry_after_ms: RETRY_AFTER_MS,
            },
            PublishError::NoLog => Self::NoLog,
            PublishError::Unconfirmed => Self::Unconfirmed,
            PublishError::ClientRefTooLong | PublishError::NulInClientRef => {
                Self::field("client_ref", error.to_string())
            }
            PublishError::NulInTopic => Self::field("topic", error.to_string()),
            PublishError::NotAnObject | PublishError::NameTooLong | PublishError::NotStorable => {
                Self::field("payload", error.to_string())
            }
        }
    }
}

impl From<NotStored> for ApiError {
    fn from(error: NotStored) -> Self {
        match error {
            NotStored::Rejected => Self::Rejected,
            NotStored::Unconfirmed => Self::Unconfirmed,
        }
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        let retry_after_ms = RETRY_AFTER_MS;
        Self::unread(&error, Self::StorageUnavailable { retry_after_ms })
    }
}

impl From<TokenRefused> for ApiError {
    fn from(error: TokenRefused) -> Self {
        match error {
            TokenRefused::NoKeys => Self::NoKeys,
            TokenRefused::Role(_) => Self::Forbidden(error),
            error => Self::Unauthorized(error),
        }
    }
}

impl From<SanctionError> for ApiError {
    fn from(error: SanctionError) -> Self {
        match error {
            SanctionError::FullOfRevocations => Self::TooManyRevocations,
            SanctionError::FullOfBans => Self::TooManyBans,
            SanctionError::FullOfSlowModes => Self::TooManySlowModes,
            SanctionError::RevocationsUnavailable(_)
            | SanctionError::BansUnavailable(_)
            | SanctionError::SlowModesUnavailable(_) => {
                tracing::error!(
                    error = &error as &dyn Error,
                    "api.revoke.failed: nothing has changed; see that the database answers"
                );
                Self::StorageUnavailable {
                    retry_after_ms: RETRY_AFTER_MS,
                }
            }
        }
    }
}

impl From<EraseError> for ApiError {
    fn from(error: EraseError) -> Self {
        tracing::error!(
            error = &error as &dyn Error,
            "api.erase.failed: see that the database answers, and ask again"
        );
        Self::StorageUnavailable {
            retry_after_ms: RETRY_AFTER_MS,
        }
    }
}
