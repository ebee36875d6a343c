//! The handlers that reach the present members of a topic, and store nothing.

use actix_web::HttpResponse;
use actix_web::web::{self, Data};

use super::auth::Authorized;
use super::path::LoggedTopic;
use super::{ApiError, Shared, body};

/// Sends members an event of the room's `server_events`.
pub(super) async fn broadcast(
    api: Data<Shared>,
    caller: Authorized,
    topic: LoggedTopic,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let draft = body::broadcast(&api.body(body).await?, &topic.room)?;
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    api.endpoint.pubsub().publish(&topic.name, &draft).await?;
    caller.audit_live("broadcast", &topic.name, Some(draft.event()));
    Ok(HttpResponse::NoContent().finish())
}

/// Ends the channels of members.
pub(super) async fn close(
    api: Data<Shared>,
    caller: Authorized,
    topic: LoggedTopic,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let to = body::close(&api.body(body).await?)?;
    api.endpoint.pubsub().close(&topic.name, to);
    caller.audit_live("closed", &topic.name, None);
    Ok(HttpResponse::NoContent().finish())
}
