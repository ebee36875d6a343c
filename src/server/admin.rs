//! Routes for operators: health, readiness, metrics.

use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, http::header::ContentType};

use crate::endpoint::Endpoint;
use crate::server::exporter::Exporter;
use crate::server::methods::readable;

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

/// Routes `/healthz` (200 while the process runs), `/readyz` (503 during a shutdown, else the answer of
/// `readiness`) and `/metrics`.
pub(crate) fn routes<R: Fn() -> Readiness + Clone + Send + 'static>(
    endpoint: &Endpoint,
    metrics: &Exporter,
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
            .service(readable("/metrics", move || render(metrics.clone())));
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

async fn render(metrics: Exporter) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body(metrics.render())
}
