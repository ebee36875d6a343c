//! [`Handover`]: brings a stream that the App has upgraded to its connection.
//!
//! An upgrade request goes through the App like any other, so that paths, guards, middleware and
//! refusals are the same on both drivers. The owner of the stream puts a `Handover` into the request;
//! the endpoint's handler leaves the accepted connection in it beside its 101.

use std::cell::RefCell;
use std::rc::Rc;

use actix_http::ws::hash_key;
use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use bytes::Bytes;

use super::frames::TcpFrames;
use super::writers;
use crate::admission::Admitted;
use crate::socket::{Connection, Sign, SocketServer};
use crate::transport::arrived::Arrived;
use crate::transport::extensions::negotiate;
use crate::transport::handshake::{Accepted, Mounted, texts};
use crate::transport::head::Head;
use crate::transport::reader::MessageReader;
use crate::transport::stream::Stream;

/// Shared by the request and the owner of its stream.
#[derive(Clone, Default)]
pub(in crate::transport) struct Handover(Rc<RefCell<Option<Upgraded>>>);

/// A connection that waits for its stream.
pub(in crate::transport) struct Upgraded {
    connection: Connection,
    max_frame_size: usize,
    /// Whether the client's messages may be compressed.
    inflates: bool,
}

impl Handover {
    /// The handler's side: leaves the connection and answers 101.
    pub(in crate::transport) fn accept(
        &self,
        ws: &Mounted,
        req: &Head<'_>,
        accepted: Accepted,
        subprotocol: Option<&str>,
    ) -> HttpResponse {
        let options = &ws.mount.options;
        let deflate = if ws.handshake.compress {
            negotiate(&texts(req.headers(), &header::SEC_WEBSOCKET_EXTENSIONS))
        } else {
            None
        };
        let accepted = accepted.with_window(deflate.as_ref().map(|deflate| deflate.window));
        *self.0.borrow_mut() = Some(Upgraded {
            connection: ws.open(accepted, Sign::Bytes, options.timeout),
            max_frame_size: options.max_frame_size,
            inflates: deflate.is_some(),
        });
        let key = req.headers().get(header::SEC_WEBSOCKET_KEY);
        let hash = hash_key(key.map(header::HeaderValue::as_bytes).unwrap_or_default());
        let mut response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
        response
            .upgrade("websocket")
            .insert_header((header::SEC_WEBSOCKET_ACCEPT, &hash[..]));
        if let Some(subprotocol) = subprotocol {
            response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, subprotocol));
        }
        if let Some(deflate) = deflate {
            response.insert_header((header::SEC_WEBSOCKET_EXTENSIONS, deflate.response));
        }
        response.finish()
    }

    /// The owner's side: the connection, if the request was accepted.
    pub(in crate::transport) fn take(&self) -> Option<Upgraded> {
        self.0.borrow_mut().take()
    }
}

impl Upgraded {
    /// Starts the connection on a stream whose client has read its 101. `behind` are the bytes behind the request,
    /// `admitted` counts the stream.
    pub(in crate::transport) fn start(
        self,
        stream: Rc<Stream>,
        behind: Bytes,
        admitted: Option<Admitted>,
    ) {
        let connection = self.connection;
        let activity = Rc::clone(&connection.activity);
        let arrived = Arrived::new(behind, self.max_frame_size, self.inflates, activity);
        let frames = TcpFrames::new(Rc::clone(&stream), arrived);
        let reader = MessageReader::new(&connection, frames);
        let open = connection.registration.sockets().open_stream(admitted);
        writers::start(stream, Rc::clone(&connection.outbox), open);
        SocketServer::start(connection, reader);
    }
}
