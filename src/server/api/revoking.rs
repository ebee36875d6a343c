//! The handlers that revoke tokens, and take revocations back.

use std::time::{Duration, SystemTime};

use actix_web::HttpResponse;
use actix_web::web::{self, Data};

use super::auth::Authorized;
use super::output::RevokedJson;
use super::path::NameInPath;
use super::{ApiError, Shared, body};
use crate::revocation::{Revocation, RevokedSubject};

/// How long a revocation is remembered, unless the request says so.
pub(super) const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

type Answer = Result<HttpResponse, ApiError>;

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
    let revoked = actix_rt::spawn(async move { api.sanctions.revoke(&revocation).await });
    let in_force = revoked.await.map_err(|_| ApiError::ShuttingDown)??;
    caller.audit_revocation("revoked", &in_force.subject);
    Ok(HttpResponse::Ok().json(RevokedJson::from(&in_force)))
}

async fn restore(api: Data<Shared>, caller: &Authorized, subject: RevokedSubject) -> Answer {
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let of = subject.clone();
    let restored = actix_rt::spawn(async move { api.sanctions.restore(&of).await });
    if !restored.await.map_err(|_| ApiError::ShuttingDown)?? {
        return Err(ApiError::NotRevoked);
    }
    caller.audit_revocation("restored", &subject);
    Ok(HttpResponse::NoContent().finish())
}
