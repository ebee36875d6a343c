//! The WebSocket driver on actix-ws, mountable in any actix-web `App`.
//!
//! actix-ws makes the handshake. The request's body is decoded like a stream of the server's own, and the response
//! body is the connection's outbox itself: `actix_ws::Session` has a channel of 32 messages that makes senders wait,
//! and frames each message again for each receiver, which costs more than twice as much at the peak
//! (ARCHITECTURE.md). It agrees on no compression: actix-ws writes the answer to the handshake.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::{Bytes, Payload};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev};
use futures_core::Stream;
use futures_util::FutureExt;

use super::arrived::Arrived;
use super::ending::close_frame;
use super::handshake::{Accepted, Mounted};
use super::reader::{MessageReader, Received};
use crate::outbox::{Interrupt, Outbox};
use crate::socket::{ConnectionEnd, Sign, SocketServer};

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
    // The stream and the session of actix-ws stay unused.
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
        arrived: Arrived::new(Bytes::new(), options.max_frame_size, false, activity),
    };
    let reader = MessageReader::new(&connection, frames);
    SocketServer::start(connection, reader);
    response
        .map_body(|_, _| OutboxBody {
            outbox,
            said_goodbye: false,
        })
        .map_into_boxed_body()
}

/// The client's frames: the request's body.
struct BodyFrames {
    body: Payload,
    arrived: Arrived,
}

impl Stream for BodyFrames {
    type Item = Result<Received, ConnectionEnd>;

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

/// The server's frames: the outbox as the response's body.
struct OutboxBody {
    outbox: Rc<Outbox>,
    said_goodbye: bool,
}

impl MessageBody for OutboxBody {
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

impl Drop for OutboxBody {
    fn drop(&mut self) {
        self.outbox.interrupt(Interrupt::WriterGone);
    }
}
