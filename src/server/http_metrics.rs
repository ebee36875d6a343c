//! Counts and times the HTTP requests of an App, by the pattern of their route.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;

use crate::metrics;

/// The route of requests that no path matches.
const NO_ROUTE: &str = "none";

/// Serves a request and counts it. For `actix_web::middleware::from_fn`.
pub(super) async fn count<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let begun = Instant::now();
    let method = label(request.method());
    let answer = next.call(request).await?;
    let route = answer.request().match_pattern();
    let route = route.unwrap_or_else(|| NO_ROUTE.to_owned());
    metrics::request(route, method, answer.status().as_u16(), begun.elapsed());
    Ok(answer)
}

/// Methods that no route has share a label: a client may send any word.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
