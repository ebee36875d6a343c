//! The handlers of the routes.

use actix_web::http::header::ContentType;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Authorized;
use super::erasing;
use super::listing::Listing;
use super::output::{ErasedJson, MessageJson, PageJson};
use super::path::{LoggedTopic, MessageInPath};
use super::{ApiError, OPENAPI, Shared, body};
use crate::log::{MessageId, Receipt, Stored};
use crate::pubsub::Draft;
use crate::store::{CommittedMessage, Target};

type Answer = Result<HttpResponse, ApiError>;

/// The OpenAPI document. Needs no token.
pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::json())
        .body(OPENAPI)
}

/// A page of the topic's messages.
pub(super) async fn list(
    api: Data<Shared>,
    _: Authorized,
    topic: LoggedTopic,
    request: HttpRequest,
) -> Answer {
    let Listing { window, limit } = Listing::read(request.query_string())?;
    let page = api.reader.list(&topic.name, window, limit).await?;
    Ok(HttpResponse::Ok().json(PageJson::new(&topic.name, &page)))
}

/// One message.
pub(super) async fn get(
    api: Data<Shared>,
    _: Authorized,
    topic: LoggedTopic,
    MessageInPath(id): MessageInPath,
) -> Answer {
    let message = api.reader.get(&topic.name, id).await?;
    let message = message.ok_or(ApiError::UnknownMessage)?;
    Ok(HttpResponse::Ok().json(MessageJson::new(&topic.name, &message)))
}

/// Publishes a message; answers once it is committed.
pub(super) async fn create(
    api: Data<Shared>,
    caller: Authorized,
    topic: LoggedTopic,
    request: HttpRequest,
    body: web::Payload,
) -> Answer {
    let key = body::idempotency_key(&request)?;
    let draft = body::created(&api.body(body).await?, &topic.room, key)?;
    let Stored { id, duplicate } = api.publish(&topic, draft).await?;
    if !duplicate {
        caller.audit("created", &topic.name, id);
    }
    let message = api.read_back(&topic, id).await?.ok_or(ApiError::Gone)?;
    let mut answer = if duplicate {
        HttpResponse::Ok()
    } else {
        HttpResponse::Created()
    };
    answer.insert_header(topic.location(message.id));
    Ok(answer.json(MessageJson::new(&topic.name, &message)))
}

/// Gives a message a new payload; answers once the update is committed.
pub(super) async fn update(
    api: Data<Shared>,
    caller: Authorized,
    topic: LoggedTopic,
    MessageInPath(id): MessageInPath,
    body: web::Payload,
) -> Answer {
    let payload = body::updated(&api.body(body).await?, &topic.room)?;
    let id = api.existing(&topic, id).await?;
    api.publish(&topic, Draft::update(id, &payload)).await?;
    caller.audit("updated", &topic.name, id);
    let message = api.read_back(&topic, id).await?;
    // It may have been deleted meanwhile.
    let message = message.ok_or(ApiError::UnknownMessage)?;
    Ok(HttpResponse::Ok().json(MessageJson::new(&topic.name, &message)))
}

/// Deletes a message; answers once the deletion is committed.
pub(super) async fn delete(
    api: Data<Shared>,
    caller: Authorized,
    topic: LoggedTopic,
    MessageInPath(id): MessageInPath,
) -> Answer {
    let id = api.existing(&topic, id).await?;
    api.publish(&topic, Draft::delete(id)).await?;
    caller.audit("deleted", &topic.name, id);
    Ok(HttpResponse::NoContent().finish())
}

/// Erases all messages of the topic, or those of a name.
pub(super) async fn erase(
    api: Data<Shared>,
    caller: Authorized,
    topic: LoggedTopic,
    request: HttpRequest,
) -> Answer {
    let target = match erasing::name(request.query_string())? {
        Some(name) => Target::Name {
            name,
            topic: Some(topic.name),
        },
        None => Target::Topic(topic.name),
    };
    api.erase(&target, &caller).await
}

/// Erases the messages of a name in every topic.
pub(super) async fn erase_everywhere(
    api: Data<Shared>,
    caller: Authorized,
    request: HttpRequest,
) -> Answer {
    let name = erasing::name(request.query_string())?;
    let name = name.ok_or(ApiError::field(erasing::NAME, "is missing"))?;
    let target = Target::Name { name, topic: None };
    api.erase(&target, &caller).await
}

impl Shared {
    async fn erase(&self, target: &Target, caller: &Authorized) -> Answer {
        if self.endpoint.is_draining() {
            return Err(ApiError::ShuttingDown);
        }
        let erased = self.eraser.erase(target).await?;
        caller.audit_erasure(target, erased);
        Ok(HttpResponse::Ok().json(ErasedJson { erased }))
    }

    /// The current id of a message, if it exists.
    async fn existing(&self, topic: &LoggedTopic, id: MessageId) -> Result<MessageId, ApiError> {
        let found = self.endpoint.pubsub().find(&topic.name, id).await?;
        found.map_or(Err(ApiError::UnknownMessage), |entry| Ok(entry.id()))
    }

    /// Broadcasts, and waits for the commit.
    async fn publish(&self, topic: &LoggedTopic, draft: Draft) -> Result<Stored, ApiError> {
        Ok(self.begin(topic, draft).await?.confirmed().await?)
    }

    /// Broadcasts. The receipt tells when the message is committed.
    pub(super) async fn begin(
        &self,
        topic: &LoggedTopic,
        draft: Draft,
    ) -> Result<Receipt, ApiError> {
        // A message published from now on might miss the last flush.
        if self.endpoint.is_draining() {
            return Err(ApiError::ShuttingDown);
        }
        let draft = draft.with_receipt();
        let published = self.endpoint.pubsub().publish(&topic.name, &draft).await?;
        published.receipt.ok_or(ApiError::NoLog)
    }

    /// The message as it is stored now. A failed read is [`ApiError::Unconfirmed`], because the message was
    /// published.
    pub(super) async fn read_back(
        &self,
        topic: &LoggedTopic,
        id: MessageId,
    ) -> Result<Option<CommittedMessage>, ApiError> {
        let read = self.reader.get(&topic.name, id).await;
        read.map_err(|error| ApiError::unread(&error, ApiError::Unconfirmed))
    }
}
