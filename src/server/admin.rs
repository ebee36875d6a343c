//! Routes for operators: health, readiness, metrics.

use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use crate::endpoint::Endpoint;
use crate::server::exporter::Exporter;
use crate::server::methods::readable;

/// Prometheus's text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the server should get new connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It should.
    Ready,
    /// It should, and the operator should know this.
    Impaired(String),
    /// It should not, for this reason.
    NotReady(String),
}

/// Who may read the metrics. Clones share it.
#[derive(Clone)]
pub(crate) struct MetricsToken(Arc<RwLock<Option<Arc<str>>>>);

named_debug!(MetricsToken);

/// The token for the metrics cannot be sent in a header.
#[derive(Debug, thiserror::Error)]
#[error("--metrics-token: it must be visible ASCII characters, and at least one")]
pub struct MetricsTokenError;

impl MetricsToken {
    /// `None`: everybody.
    ///
    /// # Errors
    /// If no header can carry the token.
    pub(crate) fn new(token: Option<&str>) -> Result<Self, MetricsTokenError> {
        let visible =
            |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if token.is_some_and(|token| !visible(token)) {
            return Err(MetricsTokenError);
        }
        Ok(Self(Arc::new(RwLock::new(token.map(Arc::from)))))
    }

    /// Whoever the other one admits may read the metrics from now on.
    pub(crate) fn set(&self, other: &Self) {
        let token = other.token();
        // No code panics while it holds this lock.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn token(&self) -> Option<Arc<str>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn admits(&self, request: &HttpRequest) -> bool {
        let Some(token) = self.token() else {
            return true;
        };
        let sent = request.headers().get(AUTHORIZATION);
        let sent = sent.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        // Digests, because their comparison tells nothing about the token.
        sent.is_some_and(|sent| Sha256::digest(sent) == Sha256::digest(token.as_bytes()))
    }
}

/// Routes `/healthz` (200 while the process runs), `/readyz` (503 during a shutdown, else the answer of
/// `readiness`) and `/metrics`.
pub(crate) fn routes<R: Fn() -> Readiness + Clone + Send + 'static>(
    endpoint: &Endpoint,
    metrics: &Exporter,
    token: MetricsToken,
    readiness: R,
) -> impl FnOnce(&mut ServiceConfig) + Clone + Send + use<R> {
    let (endpoint, metrics) = (endpoint.clone(), metrics.clone());
    move |config| {
        let ready = move || std::future::ready(ready(&endpoint, &readiness));
        config
            .service(readable("/healthz", async || {
                HttpResponse::Ok().body("ok\n")
            }))
            .service(readable("/readyz", ready))
            .service(readable("/metrics", move |request: HttpRequest| {
                std::future::ready(render(&metrics, &token, &request))
            }));
    }
}

fn ready(endpoint: &Endpoint, readiness: &impl Fn() -> Readiness) -> HttpResponse {
    if endpoint.is_draining() {
        return HttpResponse::ServiceUnavailable().body("draining\n");
    }
    match readiness() {
        Readiness::Ready => HttpResponse::Ok().body("ready\n"),
        Readiness::Impaired(how) => HttpResponse::Ok().body(format!("ready; {how}\n")),
        Readiness::NotReady(why) => HttpResponse::ServiceUnavailable().body(format!("{why}\n")),
    }
}

fn render(metrics: &Exporter, token: &MetricsToken, request: &HttpRequest) -> HttpResponse {
    if !token.admits(request) {
        return HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, "Bearer"))
            .body("the header Authorization: Bearer TOKEN is needed, with the metrics_token\n");
    }
    HttpResponse::Ok()
        .content_type(TEXT_FORMAT)
        .body(metrics.render())
}
