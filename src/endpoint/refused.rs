//! A refused broadcast as the response of an HTTP handler.

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::pubsub::PublishError;

/// For `?` on a broadcast in an HTTP handler. Answers 503 if the store cannot accept the message now, with
/// `Retry-After` if it knows the time; else 400. Both have the body `{"reason": ..}`.
///
/// ```
/// use actix_web::HttpResponse;
/// use actix_web::web::{Data, Json};
/// use slackir::Endpoint;
///
/// async fn news(endpoint: Data<Endpoint>, news: Json<serde_json::Value>) -> actix_web::Result<HttpResponse> {
///     endpoint.broadcast("room:lobby", "news", news.into_inner()).await?;
///     Ok(HttpResponse::NoContent().finish())
/// }
/// ```
impl ResponseError for PublishError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::StoreFull(_) | Self::NotLoaded => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Self::StoreFull(full) = self {
            let seconds = full.retry_after_ms.div_ceil(1_000);
            response.insert_header((RETRY_AFTER, seconds));
        }
        response.json(json!({ "reason": self.to_string() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StoreFull;

    #[test]
    fn a_full_store_says_when_to_try_again() {
        let full = PublishError::StoreFull(StoreFull {
            retry_after_ms: 1_500,
        });
        let response = full.error_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(RETRY_AFTER).expect("there"), "2");
        assert_eq!(
            PublishError::NotAnObject.status_code(),
            StatusCode::BAD_REQUEST
        );
    }
}
