//! [`Refusal`]: why a request for a connection is refused.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, HttpResponseBuilder};

use crate::admission::Full;
use crate::metrics::{Refused, connection_metrics};
use crate::socket::ConnectRefused;

/// Why a request for a connection is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The transport does not serve the request's method.
    Method,
    /// The query is not UTF-8, or the request is not a WebSocket handshake. The text is the body of the
    /// response.
    BadRequest(String),
    /// The origin is not allowed.
    Origin,
    /// The subprotocol is not allowed.
    Subprotocol,
    /// The `vsn` is not served.
    Version,
    /// The application's `connect` has refused.
    Refused(ConnectRefused),
    /// The server or the client's address has its maximum of connections.
    Full(Full),
    /// The server is shutting down.
    Draining,
    /// The budget for incomplete bodies has no room for this one.
    NoRoom,
    /// `connect` panicked.
    Crashed,
}

impl Refusal {
    /// Counts it. The admission counts its own.
    pub(super) fn count(&self) {
        let label = match self {
            Self::Method | Self::BadRequest(_) => Refused::BadRequest,
            Self::Origin => Refused::Origin,
            Self::Subprotocol => Refused::Subprotocol,
            Self::Version => Refused::Version,
            Self::Refused(refused) if refused.is_too_many() => Refused::UserLimit,
            Self::Refused(refused) if refused.is_unavailable() => Refused::Unavailable,
            Self::Refused(refused) if refused.is_of_token() => Refused::Token,
            Self::Refused(_) => Refused::Connect,
            Self::Full(_) => return,
            Self::Draining => Refused::Draining,
            Self::NoRoom => Refused::Full,
            Self::Crashed => Refused::Error,
        };
        connection_metrics().refused(label).increment(1);
    }
}

/// The client's user or address is banned.
pub(super) fn banned() -> ConnectRefused {
    ConnectRefused::because("banned")
}

/// The response to a client for whom there is no room.
pub(super) fn full_response(full: Full) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(full_status(full));
    if let Full::Often(wait) = full {
        response.insert_header((header::RETRY_AFTER, wait.as_secs() + 1));
    }
    response
}

/// Its status.
pub(super) fn full_status(full: Full) -> StatusCode {
    match full {
        Full::Server => StatusCode::SERVICE_UNAVAILABLE,
        Full::Address | Full::Often(_) => StatusCode::TOO_MANY_REQUESTS,
    }
}
