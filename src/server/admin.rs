//! For operators: health, readiness, metrics.

use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, http::header::ContentType};

use crate::endpoint::Endpoint;
use crate::server::exporter::Exporter;
use crate::server::methods::readable;

/// What there is to say about new connections, beside that the server is not going down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// They are welcome.
    Ready,
    /// They are welcome, and somebody should know this.
    Impaired(String),
    /// They would come in vain, for this reason.
    NotReady(String),
}

/// Routes `/healthz` (the process lives), `/readyz` (it wants new connections, unless it is going
/// down or `readiness` says otherwise) and `/metrics`.
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
