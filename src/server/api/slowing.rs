//! The handlers that put topics into slow mode, and take them out of it.

use std::time::SystemTime;

use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Authorized;
use super::body::{self, NewSlowMode};
use super::output::{SlowModeJson, SlowModesJson};
use super::path::{LoggedTopic, NameInPath};
use super::query::QueryFields;
use super::{ApiError, Shared};

type Answer = Result<HttpResponse, ApiError>;

/// Puts a topic into slow mode, or gives it another interval and end.
pub(super) async fn put(
    api: Data<Shared>,
    caller: Authorized,
    LoggedTopic { name, .. }: LoggedTopic,
    body: web::Payload,
) -> Answer {
    let NewSlowMode { interval, lasts } = body::slow_mode(&api.body(body).await?)?;
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let ends = lasts.map(|lasts| SystemTime::now() + lasts);
    // A task of its own: a caller that hangs up does not part the database from the memory.
    let put = actix_rt::spawn(async move { api.sanctions.slow_down(name, interval, ends).await });
    let (mode, is_new) = put.await.map_err(|_| ApiError::ShuttingDown)??;
    caller.audit_slow_mode("set", &mode.topic, Some(&mode));
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(SlowModeJson::from(&mode)))
}

/// The slow mode of a topic.
pub(super) async fn get(api: Data<Shared>, _: Authorized, NameInPath(topic): NameInPath) -> Answer {
    let mode = api
        .sanctions
        .slow_mode(&topic)
        .ok_or(ApiError::NoSlowMode)?;
    Ok(HttpResponse::Ok().json(SlowModeJson::from(&mode)))
}

/// Takes a topic out of slow mode.
pub(super) async fn delete(
    api: Data<Shared>,
    caller: Authorized,
    NameInPath(topic): NameInPath,
) -> Answer {
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let name = topic.clone();
    let ended = actix_rt::spawn(async move { api.sanctions.end_slow_mode(&name).await });
    if !ended.await.map_err(|_| ApiError::ShuttingDown)?? {
        return Err(ApiError::NoSlowMode);
    }
    caller.audit_slow_mode("removed", &topic, None);
    Ok(HttpResponse::NoContent().finish())
}

/// The slow modes in force.
pub(super) async fn list(api: Data<Shared>, _: Authorized, request: HttpRequest) -> Answer {
    let mut query = QueryFields::read(request.query_string());
    let limit = query.limit();
    query.finish()?;
    let (modes, total) = api.sanctions.slow_modes(limit);
    let slow_modes = modes.iter().map(SlowModeJson::from).collect();
    Ok(HttpResponse::Ok().json(SlowModesJson { slow_modes, total }))
}
