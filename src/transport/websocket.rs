//! The WebSocket driver on actix-ws, mountable in any actix-web `App`.
//!
//! actix-ws makes the handshake. Reading is ours: the request's body is decoded as a stream of the
//! server's own is. Writing is ours, too: the response body is the connection's outbox itself.
//! `actix_ws::Session` has a channel of 32 messages whose only way in waits for room, and it frames
//! each message again for each receiver; taking frames straight from the outbox costs less than half
//! as much at the peak (docs: ARCHITECTURE.md).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::{Bytes, Payload};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev};
use futures_core::Stream;
use futures_util::FutureExt;

use super::arrived::Arrived;
use super::close_frame;
use super::handshake::{Accepted, Mounted};
use super::reader::{Reader, Received};
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
    let nothing = Payload::from_request(req, &mut dev::Payload::None).now_or_never();
    let Some(Ok(nothing)) = nothing else {
        return HttpResponse::InternalServerError().finish();
    };
    // The handshake is actix-ws's; its stream and its session stay unused.
    let response = match actix_ws::handle_with_protocols(req, nothing, subprotocol.as_slice()) {
        Ok((response, _session, _stream)) => response,
        Err(error) => return error.error_response(),
    };
    let options = &ws.mount.options;
    let connection = ws.open(accepted, Sign::Bytes, options.timeout);
    let outbox = Rc::clone(&connection.outbox);
    let activity = Rc::clone(&connection.activity);
    let frames = BodyFrames {
        body: payload,
        arrived: Arrived::new(Bytes::new(), options.max_frame_size, activity),
    };
    let reader = Reader::new(&connection, frames);
    SocketServer::start(connection, reader);
    response
        .map_body(|_, _| Writer {
            outbox,
            said_goodbye: false,
        })
        .map_into_boxed_body()
}

/// What the client sends: the request's body, whose bytes are frames.
struct BodyFrames {
    body: Payload,
    arrived: Arrived,
}

impl Stream for BodyFrames {
    type Item = Result<Received, Ending>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(item) = self.arrived.next().transpose() {
                return Poll::Ready(Some(item));
            }
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(chunk)) => self.arrived.keep(chunk),
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
    }
}

/// What the client is sent: the outbox as a response body.
struct Writer {
    outbox: Rc<Outbox>,
    said_goodbye: bool,
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
