//! For operators: health, readiness, metrics.

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, http::header::ContentType};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::endpoint::Endpoint;

/// Routes `/healthz` (the process lives), `/readyz` (it wants new connections) and `/metrics`.
pub fn routes(
    endpoint: &Endpoint,
    metrics: &PrometheusHandle,
) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let (endpoint, metrics) = (endpoint.clone(), metrics.clone());
    move |config| {
        config
            .route(
                "/healthz",
                web::get().to(async || HttpResponse::Ok().body("ok\n")),
            )
            .route("/readyz", web::get().to(move || ready(endpoint.clone())))
            .route("/metrics", web::get().to(move || render(metrics.clone())));
    }
}

async fn ready(endpoint: Endpoint) -> HttpResponse {
    if endpoint.is_draining() {
        HttpResponse::ServiceUnavailable().body("draining\n")
    } else {
        HttpResponse::Ok().body("ready\n")
    }
}

async fn render(metrics: PrometheusHandle) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body(metrics.render())
}
