//! The handlers that ban and mute users and addresses, and take that back.

use std::time::SystemTime;

use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Authorized;
use super::body::{self, NewBan};
use super::output::{BanJson, BansJson};
use super::path::NameInPath;
use super::query::QueryFields;
use super::{ApiError, Shared};

type Answer = Result<HttpResponse, ApiError>;

/// Bans or mutes a user, an address or a network.
pub(super) async fn ban(api: Data<Shared>, caller: Authorized, body: web::Payload) -> Answer {
    let NewBan {
        kind,
        target,
        lasts,
    } = body::ban(&api.body(body).await?)?;
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let ends = SystemTime::now() + lasts;
    // A task of its own: a caller that hangs up does not part the database from the memory.
    let banned = actix_rt::spawn(async move { api.sanctions.ban(kind, target, ends).await });
    let (ban, is_new) = banned.await.map_err(|_| ApiError::ShuttingDown)??;
    caller.audit_ban("added", &ban);
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(BanJson::from(&ban)))
}

/// The bans in force.
pub(super) async fn list(api: Data<Shared>, _: Authorized, request: HttpRequest) -> Answer {
    let mut query = QueryFields::read(request.query_string());
    let limit = query.limit();
    query.finish()?;
    let (bans, total) = api.sanctions.bans(limit);
    let bans = bans.iter().map(BanJson::from).collect();
    Ok(HttpResponse::Ok().json(BansJson { bans, total }))
}

/// Takes a ban back.
pub(super) async fn unban(
    api: Data<Shared>,
    caller: Authorized,
    NameInPath(id): NameInPath,
) -> Answer {
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let removed = actix_rt::spawn(async move { api.sanctions.unban(&id).await });
    let removed = removed.await.map_err(|_| ApiError::ShuttingDown)??;
    let ban = removed.ok_or(ApiError::NotBanned)?;
    caller.audit_ban("removed", &ban);
    Ok(HttpResponse::NoContent().finish())
}
