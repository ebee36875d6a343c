//! [`VerifiedToken`]: the content of a token, and whether it is revoked.

use std::borrow::Cow;
use std::time::SystemTime;

use serde_json::Value;

use crate::revocation::{Revocations, TokenFacts};
use crate::server::jwt::VerifiedJwt;

/// The content of a valid token.
#[derive(Clone, Debug, Default)]
pub(crate) struct VerifiedToken {
    /// The claims of a JWT, or the data of a Phoenix.Token.
    pub(crate) content: Value,
    /// The end of a JWT. `None` for other tokens, whose end is not watched.
    pub(crate) expires: Option<SystemTime>,
    /// `iat` of a JWT, or the time at which a Phoenix.Token was signed.
    pub(crate) issued: Option<SystemTime>,
}

impl From<VerifiedJwt> for VerifiedToken {
    fn from(verified: VerifiedJwt) -> Self {
        Self {
            content: verified.claims,
            expires: verified.expires,
            issued: verified.issued,
        }
    }
}

impl VerifiedToken {
    /// In place of the token of a client that has none: null, and as if it was issued now.
    pub(crate) fn none() -> Self {
        Self {
            issued: Some(SystemTime::now()),
            ..Self::default()
        }
    }

    /// `sub` as text.
    pub(crate) fn subject(&self) -> Option<Cow<'_, str>> {
        text_of(&self.content["sub"])
    }

    /// Its own id.
    pub(crate) fn id(&self) -> Option<&str> {
        self.content["jti"].as_str()
    }

    /// Whether it is revoked as the token of this user, or by its id.
    pub(crate) fn is_revoked(&self, user: Option<&str>, revocations: &Revocations) -> bool {
        revocations.refuses(TokenFacts {
            user,
            id: self.id(),
            issued: self.issued,
        })
    }
}

/// The id of a user as text; `None` if it is null, an array or an object.
pub(crate) fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(_) | Value::Bool(_) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
