//! The WebSocket driver on actix-ws, mountable in any actix-web `App`.
//!
//! actix-ws makes the handshake and reads the client's frames. Writing is ours: the response body
//! is the connection's outbox itself. `actix_ws::Session` has a channel of 32 messages whose only
//! way in waits for room, and it frames each message again for each receiver; taking frames
//! straight from the outbox costs less than half as much at the peak (docs: ARCHITECTURE.md).

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::{Method, Version, header};
use actix_web::web::{Bytes, Payload};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, ProtocolError};
use futures_core::Stream;
use futures_util::FutureExt;

use super::frame_guard::{FrameGuard, RefusedFrame};
use super::handshake::{Accepted, HandshakeOptions, Mounted, Refusal, texts};
use super::{CLOSE_LINGER, close_code, subprotocol};
use crate::flow::Flow;
use crate::frame::{Frame, Opcode};
use crate::message::Message;
use crate::outbox::{CloseReason, Interrupt, Outbox};
use crate::serializer::{DecodeError, Serializer};
use crate::socket::{Activity, Ending, Incoming, Sign, SocketServer};

/// Fragmented messages have a limit of their own, as on Bandit.
const MAX_MESSAGE_SIZE: usize = 8_000_000;

impl Mounted {
    /// The answer of Phoenix's WebSocket transport to what is refused.
    fn refuse(&self, refusal: &Refusal) -> HttpResponse {
        match refusal {
            Refusal::Method => HttpResponse::BadRequest().finish(),
            Refusal::BadRequest(text) => HttpResponse::BadRequest().body(text.clone()),
            Refusal::Forbidden => HttpResponse::Forbidden().finish(),
            Refusal::Refused(refused) => match &self.handshake.error_handler {
                Some(handler) if refused.has_reason() => handler(refused),
                _ => HttpResponse::Forbidden().finish(),
            },
            Refusal::Draining => HttpResponse::ServiceUnavailable().finish(),
            Refusal::Crashed => HttpResponse::InternalServerError().finish(),
        }
    }
}

/// Answers a request to the socket's path: 101, or the refusal that Phoenix would give.
pub(crate) async fn upgrade(ws: &Mounted, req: HttpRequest, payload: Payload) -> HttpResponse {
    match connect(ws, &req).await {
        Ok((accepted, subprotocol)) => open(ws, &req, payload, accepted, subprotocol.as_deref()),
        Err(refusal) => ws.refuse(&refusal),
    }
}

/// The checks, in Phoenix's order.
async fn connect(ws: &Mounted, req: &HttpRequest) -> Result<(Accepted, Option<String>), Refusal> {
    if req.method() != Method::GET {
        return Err(Refusal::Method);
    }
    let params = Mounted::params(req)?;
    ws.check_origin(req)?;
    let offered = texts(req.headers(), &header::SEC_WEBSOCKET_PROTOCOL);
    let HandshakeOptions {
        auth_token,
        subprotocols,
        ..
    } = &ws.handshake;
    let found = subprotocol::negotiate(&offered, *auth_token, subprotocols)
        .map_err(|_| Refusal::Forbidden)?;
    let accepted = ws.connect(req, params, found.auth_token).await?;
    validate_upgrade(req)?;
    Ok((accepted, found.chosen))
}

/// The checks and the texts of Phoenix (websock_adapter), before actix-ws makes its own.
fn validate_upgrade(req: &HttpRequest) -> Result<(), Refusal> {
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
    if !req.headers().contains_key(header::SEC_WEBSOCKET_KEY) {
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

/// Makes the connection and starts its actor.
fn open(
    ws: &Mounted,
    req: &HttpRequest,
    payload: Payload,
    accepted: Accepted,
    subprotocol: Option<&str>,
) -> HttpResponse {
    let options = &ws.mount.options;
    let refused = Rc::new(Cell::new(None));
    let connection = ws.open(accepted, Sign::Bytes, options.timeout);
    let guard = FrameGuard::new(
        payload,
        options.max_frame_size,
        Rc::clone(&connection.activity),
        Rc::clone(&refused),
    );
    let mut guarded: dev::Payload = dev::Payload::Stream {
        payload: Box::pin(guard),
    };
    let Some(Ok(payload)) = Payload::from_request(req, &mut guarded).now_or_never() else {
        return HttpResponse::InternalServerError().finish();
    };
    let (response, _session, stream) =
        match actix_ws::handle_with_protocols(req, payload, subprotocol.as_slice()) {
            Ok(parts) => parts,
            Err(error) => return error.error_response(),
        };
    let outbox = Rc::clone(&connection.outbox);
    let reader = Reader {
        stream: stream
            .max_frame_size(options.max_frame_size)
            .aggregate_continuations()
            .max_continuation_size(MAX_MESSAGE_SIZE),
        serializer: connection.serializer,
        outbox: Rc::clone(&outbox),
        flow: Rc::clone(&connection.flow),
        activity: Rc::clone(&connection.activity),
        refused,
        failed: None,
        ended: false,
    };
    SocketServer::start(connection, reader);
    response
        .map_body(|_, actix_body| Writer {
            outbox,
            said_goodbye: false,
            _actix_body: actix_body,
        })
        .map_into_boxed_body()
}

/// What the client sends: messages for the SocketServer. Pings are answered here.
struct Reader {
    stream: AggregatedMessageStream,
    serializer: Serializer,
    outbox: Rc<Outbox>,
    flow: Rc<Flow>,
    activity: Rc<Activity>,
    refused: Rc<Cell<Option<RefusedFrame>>>,
    /// An error of the parser. It reports an error before the messages that it had already read;
    /// those come first here.
    failed: Option<Ending>,
    ended: bool,
}

impl Stream for Reader {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(interrupt) = self.outbox.poll_interrupted(cx) {
            return self.end(Ending::of(interrupt));
        }
        let may_read = self.poll_may_read(cx);
        self.activity.set_unread(may_read.is_pending());
        ready!(may_read);
        loop {
            let item = match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Ready(item) => item,
                Poll::Pending => match self.failed {
                    Some(ending) => return self.end(ending),
                    None => return Poll::Pending,
                },
            };
            match item {
                Some(Ok(AggregatedMessage::Text(text))) => {
                    let decoded = self.serializer.decode_text(&text);
                    return self.message(decoded, text.len());
                }
                Some(Ok(AggregatedMessage::Binary(data))) => {
                    let size = data.len();
                    let decoded = self.serializer.decode_binary(data);
                    return self.message(decoded, size);
                }
                Some(Ok(AggregatedMessage::Ping(data))) => {
                    self.outbox.push(Frame::new(Opcode::Pong, &data));
                }
                Some(Ok(AggregatedMessage::Pong(_))) => {}
                Some(Ok(AggregatedMessage::Close(reason))) => {
                    return self.end(goodbye(reason.map(|reason| reason.code.into())));
                }
                Some(Err(error)) => match self.failed {
                    Some(ending) => return self.end(ending),
                    None => self.failed = Some(ending_of(&error)),
                },
                None => {
                    let ending = self.failed.unwrap_or(match self.refused.get() {
                        Some(RefusedFrame::TooBig) => Ending::TOO_BIG,
                        Some(RefusedFrame::EmptyFragment) => Ending::EMPTY_FRAGMENT,
                        Some(RefusedFrame::OutOfPlace) => Ending::VIOLATION,
                        None => Ending::LOST,
                    });
                    return self.end(ending);
                }
            }
        }
    }
}

impl Reader {
    /// Whether the client and its channels have kept up with what was read before.
    fn poll_may_read(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.outbox.poll_room(cx));
        self.flow.poll_open(cx)
    }

    fn message(
        &mut self,
        decoded: Result<Message, DecodeError>,
        size: usize,
    ) -> Poll<Option<Incoming>> {
        match decoded {
            Ok(message) => Poll::Ready(Some(Incoming::Message(message, size))),
            Err(error) => {
                tracing::info!(%error, "transport.message.undecodable");
                self.end(Ending::UNDECODABLE)
            }
        }
    }

    fn end(&mut self, ending: Ending) -> Poll<Option<Incoming>> {
        self.ended = true;
        Poll::Ready(Some(Incoming::End(ending)))
    }
}

/// A close frame with a code that no client may send is a violation.
fn goodbye(code: Option<u16>) -> Ending {
    match code {
        None | Some(1000..=1003 | 1007..=1011 | 3000..) => Ending::GOODBYE,
        Some(_) => Ending::VIOLATION,
    }
}

/// actix-ws has one error for text that is not UTF-8, for reserved bits and for a message over its
/// limit; its kind and its source tell them apart.
fn ending_of(error: &ProtocolError) -> Ending {
    match error {
        ProtocolError::Overflow => Ending::TOO_BIG,
        ProtocolError::Io(io) => match io.kind() {
            std::io::ErrorKind::InvalidData if io.to_string().contains("reserved bits") => {
                Ending::VIOLATION
            }
            std::io::ErrorKind::InvalidData => Ending::NOT_UTF8,
            _ if io.to_string().contains("continuation size") => Ending::TOO_BIG,
            _ => Ending::LOST,
        },
        _ => Ending::VIOLATION,
    }
}

/// What the client is sent: the outbox as a response body.
struct Writer {
    outbox: Rc<Outbox>,
    said_goodbye: bool,
    /// Tells actix-ws's stream that the connection is gone when it is dropped, so it stays here.
    _actix_body: BoxBody,
}

impl MessageBody for Writer {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.said_goodbye {
            wake_after_linger(cx.waker().clone());
            return Poll::Ready(None);
        }
        match ready!(self.outbox.poll_frame(cx)) {
            Some(frame) => Poll::Ready(Some(Ok(frame.wire().clone()))),
            None => {
                self.said_goodbye = true;
                let code = close_code(self.outbox.closed().unwrap_or(CloseReason::Goodbye));
                let close = Frame::new(Opcode::Close, &code.to_be_bytes());
                Poll::Ready(Some(Ok(close.wire().clone())))
            }
        }
    }
}

/// Has the connection look at its linger once that is over. actix-http counts it from a clock that
/// is up to half a second late, and a timer that is over when it is set wakes nobody: the
/// connection would stay open until its client hangs up.
fn wake_after_linger(connection: Waker) {
    actix_rt::spawn(async move {
        actix_rt::time::sleep(CLOSE_LINGER).await;
        connection.wake();
    });
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.outbox.interrupt(Interrupt::WriterGone);
    }
}
