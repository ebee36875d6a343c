//! The handlers that revoke tokens, and take revocations back.

use std::time::{Duration, SystemTime};

use actix_web::HttpResponse;
use actix_web::web::{self, Data};
use tokio::sync::Mutex;

use super::auth::Authorized;
use super::output::RevokedJson;
use super::path::NameInPath;
use super::{ApiError, Shared, body};
use crate::endpoint::Endpoint;
use crate::revocation::{Revocation, Revocations, RevokedSubject};
use crate::store::{DbWriterHandle, RevocationsUnavailable, StoredRevocations};

/// How long a revocation is remembered, unless the request says so.
pub(super) const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

type Answer = Result<HttpResponse, ApiError>;

/// Changes revocations in the database, and then in memory.
pub(super) struct Revoker {
    list: Revocations,
    stored: StoredRevocations,
    endpoint: Endpoint,
    /// Held by the one change at a time, so that both places see the same order.
    changing: Mutex<()>,
}

/// Why a user or a token is not revoked.
pub(super) enum NotRevoked {
    Full,
    Unavailable(RevocationsUnavailable),
}

impl Revoker {
    pub(super) fn new(list: Revocations, writer: &DbWriterHandle, endpoint: &Endpoint) -> Self {
        Self {
            list,
            stored: StoredRevocations::new(writer),
            endpoint: endpoint.clone(),
            changing: Mutex::default(),
        }
    }

    /// Stores the revocation, and closes the connections that it concerns. Returns the one in force.
    async fn revoke(&self, revocation: &Revocation) -> Result<Revocation, NotRevoked> {
        let in_force = {
            let _changing = self.changing.lock().await;
            if !self.list.has_room_for(&revocation.subject) {
                return Err(NotRevoked::Full);
            }
            let stored = self.stored.put(revocation).await;
            stored.map_err(NotRevoked::Unavailable)?;
            self.list.insert(revocation)
        };
        self.endpoint.check_permits().await;
        in_force.ok_or(NotRevoked::Full)
    }

    /// Returns whether there was one.
    async fn take_back(&self, subject: &RevokedSubject) -> Result<bool, RevocationsUnavailable> {
        let _changing = self.changing.lock().await;
        let was_stored = self.stored.remove(subject).await?;
        Ok(self.list.remove(subject) || was_stored)
    }
}

/// Refuses the tokens of a user that were issued before now, and ends its connections.
pub(super) async fn revoke_user(
    api: Data<Shared>,
    caller: Authorized,
    NameInPath(user): NameInPath,
    body: web::Payload,
) -> Answer {
    revoke(api, &caller, RevokedSubject::User(user), body).await
}

/// Refuses one token, and ends its connections.
pub(super) async fn revoke_token(
    api: Data<Shared>,
    caller: Authorized,
    NameInPath(id): NameInPath,
    body: web::Payload,
) -> Answer {
    revoke(api, &caller, RevokedSubject::Token(id), body).await
}

/// Accepts the tokens of a user again.
pub(super) async fn restore_user(
    api: Data<Shared>,
    caller: Authorized,
    NameInPath(user): NameInPath,
) -> Answer {
    restore(api, &caller, RevokedSubject::User(user)).await
}

/// Accepts a token again.
pub(super) async fn restore_token(
    api: Data<Shared>,
    caller: Authorized,
    NameInPath(id): NameInPath,
) -> Answer {
    restore(api, &caller, RevokedSubject::Token(id)).await
}

async fn revoke(
    api: Data<Shared>,
    caller: &Authorized,
    subject: RevokedSubject,
    body: web::Payload,
) -> Answer {
    let remembered = body::revocation(&api.body(body).await?)?;
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let now = SystemTime::now();
    let revocation = Revocation {
        subject,
        not_before: now,
        ends: now + remembered.unwrap_or(REMEMBERED),
    };
    // A task of its own: a caller that hangs up does not part the database from the memory.
    let revoked = actix_rt::spawn(async move { api.revoker.revoke(&revocation).await });
    let in_force = revoked.await.map_err(|_| ApiError::ShuttingDown)??;
    caller.audit_revocation("revoked", &in_force.subject);
    Ok(HttpResponse::Ok().json(RevokedJson::from(&in_force)))
}

async fn restore(api: Data<Shared>, caller: &Authorized, subject: RevokedSubject) -> Answer {
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let of = subject.clone();
    let restored = actix_rt::spawn(async move { api.revoker.take_back(&of).await });
    if !restored.await.map_err(|_| ApiError::ShuttingDown)?? {
        return Err(ApiError::NotRevoked);
    }
    caller.audit_revocation("restored", &subject);
    Ok(HttpResponse::NoContent().finish())
}
