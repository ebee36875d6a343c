//! Answers a request for the WebSocket transport: opens a connection, or refuses as Phoenix does. Both
//! drivers use it.

use actix_web::http::{Method, Version, header};
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use super::direct::Handover;
use super::edge::OwnStream;
use super::handshake::{Accepted, HandshakeOptions, Mounted, text, texts};
use super::head::Head;
use super::refusal::{Refusal, full_response};
use super::{subprotocol, websocket};

impl Mounted {
    /// The response of Phoenix's WebSocket transport to a refused request.
    fn refuse(&self, req: &Head<'_>, refusal: &Refusal) -> HttpResponse {
        refusal.count();
        match refusal {
            Refusal::Method => HttpResponse::BadRequest().finish(),
            Refusal::BadRequest(reason) => {
                self.log_malformed(req, reason);
                HttpResponse::BadRequest().body(reason.clone())
            }
            Refusal::Origin | Refusal::Subprotocol | Refusal::Version => {
                HttpResponse::Forbidden().finish()
            }
            Refusal::Refused(refused) => match &self.handshake.error_handler {
                Some(handler) if refused.has_reason() => handler(refused),
                _ if refused.is_too_many() => HttpResponse::TooManyRequests().finish(),
                _ if refused.is_unavailable() => HttpResponse::ServiceUnavailable().finish(),
                _ => HttpResponse::Forbidden().finish(),
            },
            Refusal::Full(full) => full_response(*full).finish(),
            Refusal::Draining | Refusal::NoRoom => HttpResponse::ServiceUnavailable().finish(),
            Refusal::Crashed => HttpResponse::InternalServerError().finish(),
        }
    }
}

/// Answers a request that an App has routed to the socket's path: with 101, or with Phoenix's refusal.
pub(crate) async fn upgrade(ws: &Mounted, req: HttpRequest, payload: Payload) -> HttpResponse {
    // Under `direct::serve` the edge puts a `Handover` into the request.
    let handover = req.extensions().get::<Handover>().cloned();
    if let Some(handover) = handover {
        return hand_over(ws, &Head::from(&req), &handover).await;
    }
    let is_own = req.extensions().contains::<OwnStream>();
    match connect(ws, &Head::from(&req), is_own).await {
        Ok((accepted, subprotocol)) => {
            websocket::open(ws, &req, payload, accepted, subprotocol.as_deref())
        }
        Err(refusal) => ws.refuse(&Head::from(&req), &refusal),
    }
}

/// Like [`upgrade`], for a request whose stream is handed over after the 101.
pub(super) async fn hand_over(ws: &Mounted, req: &Head<'_>, handover: &Handover) -> HttpResponse {
    match connect(ws, req, true).await {
        Ok((accepted, subprotocol)) => handover.accept(ws, req, accepted, subprotocol.as_deref()),
        Err(refusal) => ws.refuse(req, &refusal),
    }
}

/// Runs the checks in Phoenix's order. `is_own`: the edge treats all bytes after the head as the
/// connection's.
async fn connect(
    ws: &Mounted,
    req: &Head<'_>,
    is_own: bool,
) -> Result<(Accepted, Option<String>), Refusal> {
    if req.method() != Method::GET {
        return Err(Refusal::Method);
    }
    validate_stream(req, is_own)?;
    let params = Mounted::params(req)?;
    ws.check_origin(req)?;
    let offered = texts(req.headers(), &header::SEC_WEBSOCKET_PROTOCOL);
    let HandshakeOptions {
        auth_token,
        subprotocols,
        ..
    } = &ws.handshake;
    let found =
        subprotocol::negotiate(&offered, *auth_token, subprotocols).map_err(|malformed| {
            ws.log_malformed(req, malformed);
            Refusal::Subprotocol
        })?;
    let accepted = ws.connect(req, params, found.auth_token).await?;
    validate_upgrade(req)?;
    Ok((accepted, found.chosen))
}

/// Refuses a handshake after whose 101 the stream would hold bytes that are not the WebSocket's: one with a
/// body, and one that actix-http does not recognise as an upgrade, because actix-http would go on to read
/// requests.
fn validate_stream(req: &Head<'_>, is_own: bool) -> Result<(), Refusal> {
    let headers = req.headers();
    let length = text(headers, &header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|len| len != "0") {
        return Err(Refusal::BadRequest("a handshake has no body".to_owned()));
    }
    let protocols = texts(headers, &header::UPGRADE);
    let is_list = protocols.iter().any(|listed| listed.contains(','));
    if is_list && !is_own {
        let text = "the 'upgrade' header must be 'websocket' and no list";
        return Err(Refusal::BadRequest(text.to_owned()));
    }
    Ok(())
}

/// Has the checks and the error texts of Phoenix (websock_adapter).
fn validate_upgrade(req: &Head<'_>) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::BadRequest(text));
    if req.version() < Version::HTTP_11 {
        return refuse(format!("HTTP version {:?} unsupported", req.version()));
    }
    for (name, token) in [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
    ] {
        let values = texts(req.headers(), &name);
        let mut tokens = values.iter().flat_map(|value| value.split(','));
        if !tokens.any(|found| found.trim().eq_ignore_ascii_case(token)) {
            return refuse(format!(
                "'{name}' header must contain '{token}', got {values:?}"
            ));
        }
    }
    if text(req.headers(), &header::SEC_WEBSOCKET_KEY).is_none_or(str::is_empty) {
        return refuse("'sec-websocket-key' header is absent".to_owned());
    }
    let versions = texts(req.headers(), &header::SEC_WEBSOCKET_VERSION);
    if versions != ["13"] {
        return refuse(format!(
            "'sec-websocket-version' header must equal '13', got {versions:?}"
        ));
    }
    Ok(())
}
