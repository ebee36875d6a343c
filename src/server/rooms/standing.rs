//! [`TokenStanding`]: whether the token of a connection has been revoked since.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::Value;

use super::identity::{Identity, SharedUser};
use crate::lock::lock;
use crate::revocation::{Revocations, TokenFacts};
use crate::server::tokens::{VerifiedToken, text_of};
use crate::socket::Permit;

/// What revocations need to know of a connection.
#[derive(Debug)]
pub(super) struct TokenStanding {
    revocations: Revocations,
    user: SharedUser,
    /// The token that named the user last.
    token: Mutex<NamedToken>,
}

#[derive(Debug)]
struct NamedToken {
    subject: Option<Box<str>>,
    id: Option<Box<str>>,
    issued: Option<SystemTime>,
}

impl From<&VerifiedToken> for NamedToken {
    fn from(token: &VerifiedToken) -> Self {
        Self {
            subject: token.subject().map(Box::from),
            id: token.id().map(Box::from),
            issued: token.issued,
        }
    }
}

impl TokenStanding {
    /// `None`: nothing can revoke the connection, because neither its user nor its token has a name.
    pub(super) fn new(
        revocations: &Revocations,
        identity: &Identity,
        token: &VerifiedToken,
    ) -> Option<Arc<Self>> {
        let named = NamedToken::from(token);
        let has_user = text_of(&identity.user()["id"]).is_some();
        let has_name = has_user || named.subject.is_some() || named.id.is_some();
        has_name.then(|| {
            Arc::new(Self {
                revocations: revocations.clone(),
                user: identity.shared_user(),
                token: Mutex::new(named),
            })
        })
    }

    /// The connection's permit, which holds until its token is revoked.
    pub(super) fn permit(self: &Arc<Self>) -> Permit {
        let standing = Arc::clone(self);
        Permit::new(move || !standing.is_revoked())
    }

    /// The connection has a newer token.
    pub(super) fn renew(&self, token: &VerifiedToken) {
        *lock(&self.token) = token.into();
    }

    pub(super) fn is_revoked(&self) -> bool {
        if self.revocations.is_empty() {
            return false;
        }
        let user = Arc::clone(&lock(&self.user));
        let token = lock(&self.token);
        let user = text_of(&user["id"]);
        self.revocations.refuses(TokenFacts {
            user: user.as_deref().or(token.subject.as_deref()),
            id: token.id.as_deref(),
            issued: token.issued,
        })
    }
}

/// Whether a token is revoked that gives its holder these fields. Its user is the field `id`; without it, `sub`.
pub(super) fn is_revoked(token: &VerifiedToken, user: &Value, revocations: &Revocations) -> bool {
    if revocations.is_empty() {
        return false;
    }
    let user = text_of(&user["id"]).or_else(|| token.subject());
    token.is_revoked(user.as_deref(), revocations)
}
