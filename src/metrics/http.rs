//! The metrics of HTTP requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

/// The handles by route, method and status.
type Handles = HashMap<(String, &'static str, u16), (Counter, Histogram), RandomState>;

thread_local! {
    /// Bounded by the patterns of the routes, not by what clients ask for.
    static HANDLES: RefCell<Handles> = RefCell::default();
}

/// Counts an answered request. `route` is the pattern of its path, `method` from a closed list.
pub(crate) fn request(route: String, method: &'static str, status: u16, took: Duration) {
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
        seconds.record(took);
    });
}

pub(super) fn describe() {
    describe_counter!(
        "slackir_http_requests_total",
        "HTTP requests, by route, method and status"
    );
    describe_histogram!(
        "slackir_http_request_seconds",
        "Seconds of an HTTP request, by route"
    );
}
