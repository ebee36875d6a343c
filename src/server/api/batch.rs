//! The handler that publishes several messages. Each has its own result: a message that is refused does not keep the
//! others from being published.

use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::join_all;

use super::auth::Authorized;
use super::body::{self, BatchItem};
use super::error::IDEMPOTENCY_KEY;
use super::output::{BatchJson, BatchResultJson, MessageJson};
use super::path::LoggedTopic;
use super::{ApiError, Shared};
use crate::log::Receipt;
use crate::store::CommittedMessage;

/// A message that is stored: its topic, whether it is new, and the message.
type Created = (LoggedTopic, bool, CommittedMessage);

/// Publishes the messages in their order; answers once each is committed or refused.
pub(super) async fn create_all(
    api: Data<Shared>,
    caller: Authorized,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    if request.headers().contains_key(IDEMPOTENCY_KEY) {
        let problem = "names one message: give each message of a batch a client_ref";
        return Err(ApiError::field(IDEMPOTENCY_KEY, problem));
    }
    let body = api.body(body).await?;
    let items = body::batch(&body)?;
    if api.endpoint.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let mut begun = Vec::with_capacity(items.len());
    for item in items {
        begun.push(api.begin_item(item).await);
    }
    // The commits are waited for together: mostly they are one.
    let results = begun.into_iter().map(async |begun| match begun {
        Ok((topic, receipt)) => api.finish_item(topic, receipt, &caller).await,
        Err(error) => Err(error),
    });
    let results: Vec<Result<Created, ApiError>> = join_all(results).await;
    let results = results.iter().map(|result| match result {
        Ok((topic, is_new, message)) => BatchResultJson {
            status: if *is_new { 201 } else { 200 },
            message: Some(MessageJson::new(&topic.name, message)),
            error: None,
        },
        Err(error) => BatchResultJson {
            status: error.status().as_u16(),
            message: None,
            error: Some(error.body()),
        },
    });
    Ok(HttpResponse::Ok().json(BatchJson {
        results: results.collect(),
    }))
}

impl Shared {
    /// Publishes one message of a batch.
    async fn begin_item(&self, item: BatchItem<'_>) -> Result<(LoggedTopic, Receipt), ApiError> {
        let (topic, form) = item.topic()?;
        let topic = LoggedTopic::named(self, topic)?;
        let draft = form.created(&topic.room, None)?;
        let receipt = self.begin(&topic, draft).await?;
        Ok((topic, receipt))
    }

    async fn finish_item(
        &self,
        topic: LoggedTopic,
        receipt: Receipt,
        caller: &Authorized,
    ) -> Result<Created, ApiError> {
        let stored = receipt.confirmed().await?;
        if !stored.duplicate {
            caller.audit("created", &topic.name, stored.id);
        }
        let message = self.read_back(&topic, stored.id).await?;
        let message = message.ok_or(ApiError::Gone)?;
        Ok((topic, !stored.duplicate, message))
    }
}
