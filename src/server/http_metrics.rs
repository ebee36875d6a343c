//! Counts and times the HTTP requests of an App, by the pattern of their route.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use foldhash::fast::RandomState;
use metrics::{Counter, Histogram, counter, histogram};

/// The route of requests that no path matches.
const NO_ROUTE: &str = "none";

/// The handles of one route, method and status.
type Handles = HashMap<(String, &'static str, u16), (Counter, Histogram), RandomState>;

thread_local! {
    /// Bounded by the patterns of the routes, not by what clients ask for.
    static HANDLES: RefCell<Handles> = RefCell::default();
}

/// Serves a request and counts it. For `actix_web::middleware::from_fn`.
pub(super) async fn count<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let begun = Instant::now();
    let method = label(request.method());
    let answer = next.call(request).await;
    if let Ok(answer) = &answer {
        let route = answer.request().match_pattern();
        let route = route.unwrap_or_else(|| NO_ROUTE.to_owned());
        record((route, method, answer.status().as_u16()), begun);
    }
    answer
}

fn record((route, method, status): (String, &'static str, u16), begun: Instant) {
    HANDLES.with_borrow_mut(|handles| {
        let (requests, seconds) = handles
            .entry((route, method, status))
            .or_insert_with_key(|(route, method, status)| {
                (
                    counter!(
                        "slackir_http_requests_total",
                        "route" => route.clone(), "method" => *method, "status" => status.to_string()
                    ),
                    histogram!("slackir_http_request_seconds", "route" => route.clone()),
                )
            });
        requests.increment(1);
        seconds.record(begun.elapsed());
    });
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
