//! What each route does.

use actix_web::http::header::ContentType;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Authorized;
use super::erasing;
use super::listing::Listing;
use super::output::{ErasedJson, MessageJson, PageJson};
use super::place::{Named, Place};
use super::{ApiError, OPENAPI, Shared, body};
use crate::pubsub::{Draft, MessageId, Stored};
use crate::store::{CommittedMessage, Target};

type Answer = Result<HttpResponse, ApiError>;

/// The description of the API, for everybody.
pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::json())
        .body(OPENAPI)
}

/// A page of the topic's messages.
pub(super) async fn list(
    api: Data<Shared>,
    _: Authorized,
    place: Place,
    request: HttpRequest,
) -> Answer {
    let Listing { window, limit } = Listing::read(request.query_string())?;
    let page = api.reader.list(&place.topic, window, limit).await?;
    Ok(HttpResponse::Ok().json(PageJson::new(&place.topic, &page)))
}

/// One message.
pub(super) async fn get(
    api: Data<Shared>,
    _: Authorized,
    place: Place,
    Named(id): Named,
) -> Answer {
    let message = api.reader.get(&place.topic, id).await?;
    let message = message.ok_or(ApiError::UnknownMessage)?;
    Ok(HttpResponse::Ok().json(MessageJson::new(&place.topic, &message)))
}

/// Publishes a message; answers when it is stored.
pub(super) async fn create(
    api: Data<Shared>,
    caller: Authorized,
    place: Place,
    body: web::Payload,
) -> Answer {
    let draft = body::created(&api.body(body).await?, &place.room)?;
    let Stored { id, duplicate } = api.publish(&place, draft).await?;
    if !duplicate {
        caller.audit("created", &place.topic, id);
    }
    let message = api.read_back(&place, id).await?.ok_or(ApiError::Gone)?;
    let mut answer = if duplicate {
        HttpResponse::Ok()
    } else {
        HttpResponse::Created()
    };
    answer.insert_header(place.location(message.id));
    Ok(answer.json(MessageJson::new(&place.topic, &message)))
}

/// Gives a message a new payload; answers when that is stored.
pub(super) async fn update(
    api: Data<Shared>,
    caller: Authorized,
    place: Place,
    Named(id): Named,
    body: web::Payload,
) -> Answer {
    let payload = body::updated(&api.body(body).await?, &place.room)?;
    let id = api.existing(&place, id).await?;
    api.publish(&place, Draft::update(id, &payload)).await?;
    caller.audit("updated", &place.topic, id);
    let message = api.read_back(&place, id).await?;
    // Somebody may have deleted it meanwhile.
    let message = message.ok_or(ApiError::UnknownMessage)?;
    Ok(HttpResponse::Ok().json(MessageJson::new(&place.topic, &message)))
}

/// Deletes a message; answers when it is gone.
pub(super) async fn delete(
    api: Data<Shared>,
    caller: Authorized,
    place: Place,
    Named(id): Named,
) -> Answer {
    let id = api.existing(&place, id).await?;
    api.publish(&place, Draft::delete(id)).await?;
    caller.audit("deleted", &place.topic, id);
    Ok(HttpResponse::NoContent().finish())
}

/// Erases the topic's messages, all of them or those of a name.
pub(super) async fn erase(
    api: Data<Shared>,
    caller: Authorized,
    place: Place,
    request: HttpRequest,
) -> Answer {
    let target = match erasing::name(request.query_string())? {
        Some(name) => Target::Name {
            name,
            topic: Some(place.topic),
        },
        None => Target::Topic(place.topic),
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

    /// The id by which clients know a message now, if it is there.
    async fn existing(&self, place: &Place, id: MessageId) -> Result<MessageId, ApiError> {
        let found = self.endpoint.pubsub().find(&place.topic, id).await?;
        found.map_or(Err(ApiError::UnknownMessage), |entry| Ok(entry.id()))
    }

    /// Broadcasts, and waits until it is stored.
    async fn publish(&self, place: &Place, draft: Draft) -> Result<Stored, ApiError> {
        // What is published from now on might come after the last flush.
        if self.endpoint.is_draining() {
            return Err(ApiError::ShuttingDown);
        }
        let draft = draft.with_receipt();
        let published = self.endpoint.pubsub().publish(&place.topic, &draft).await?;
        let receipt = published.receipt.ok_or(ApiError::NoLog)?;
        Ok(receipt.confirmed().await?)
    }

    /// What is stored now. Where it cannot be read, the caller must not think that nothing was
    /// published.
    async fn read_back(
        &self,
        place: &Place,
        id: MessageId,
    ) -> Result<Option<CommittedMessage>, ApiError> {
        let read = self.reader.get(&place.topic, id).await;
        read.map_err(|error| ApiError::unread(&error, ApiError::Unconfirmed))
    }
}
