//! The WebSocket driver on actix-ws, mountable in any actix-web `App`.
//!
//! actix-ws makes the handshake and reads the client's frames. Writing is ours: the response body
//! is the connection's outbox itself. `actix_ws::Session` has a channel of 32 messages whose only
//! way in waits for room, and it frames each message again for each receiver; taking frames
//! straight from the outbox costs less than half as much at the peak (docs: ARCHITECTURE.md).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::{Bytes, Payload};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, ProtocolError};
use futures_core::Stream;
use futures_util::FutureExt;

use super::close_frame;
use super::frame_guard::{FrameGuard, Told};
use super::handshake::{Accepted, Mounted};
use super::reader::{MAX_MESSAGE_SIZE, Reader, Received};
use crate::outbox::{Interrupt, Outbox};
use crate::socket::{Ending, Sign, SocketServer};

/// Makes the connection and starts its actor.
pub(super) fn open(
    ws: &Mounted,
    req: &HttpRequest,
    payload: Payload,
    accepted: Accepted,
    subprotocol: Option<&str>,
) -> HttpResponse {
    let options = &ws.mount.options;
    let told = Rc::new(Told::default());
    let connection = ws.open(accepted, Sign::Bytes, options.timeout);
    let guard = FrameGuard::new(
        payload,
        options.max_frame_size,
        Rc::clone(&connection.activity),
        Rc::clone(&told),
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
    let frames = ActixFrames {
        stream: stream
            .max_frame_size(options.max_frame_size)
            .aggregate_continuations()
            .max_continuation_size(MAX_MESSAGE_SIZE),
        told,
    };
    let reader = Reader::new(&connection, frames);
    SocketServer::start(connection, reader);
    response
        .map_body(|_, actix_body| Writer {
            outbox,
            said_goodbye: false,
            _actix_body: actix_body,
        })
        .map_into_boxed_body()
}

/// What the client sends, as actix-ws reads it. Nothing is read behind an error.
struct ActixFrames {
    stream: AggregatedMessageStream,
    told: Rc<Told>,
}

impl Stream for ActixFrames {
    type Item = Result<Received, Ending>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => Some(Ok(received(message))),
                Poll::Ready(Some(Err(error))) => Some(Err(ending_of(&error))),
                Poll::Ready(None) => self.told.refused.get().map(|refused| Err(refused.into())),
                Poll::Pending if self.told.has_paused.take() => continue,
                Poll::Pending => return Poll::Pending,
            });
        }
    }
}

fn received(message: AggregatedMessage) -> Received {
    match message {
        AggregatedMessage::Text(text) => Received::Text(text),
        AggregatedMessage::Binary(data) => Received::Binary(data),
        AggregatedMessage::Ping(data) => Received::Ping(data),
        AggregatedMessage::Pong(_) => Received::Pong,
        AggregatedMessage::Close(reason) => {
            Received::Close(reason.map(|reason| reason.code.into()))
        }
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
            return Poll::Ready(None);
        }
        match ready!(self.outbox.poll_frame(cx)) {
            Some(frame) => Poll::Ready(Some(Ok(frame.wire().clone()))),
            None => {
                self.said_goodbye = true;
                Poll::Ready(Some(Ok(close_frame(&self.outbox).wire().clone())))
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.outbox.interrupt(Interrupt::WriterGone);
    }
}
