//! [`Incoming`]: splits the bytes of one client into request heads and bodies, with actix-http's codec.
//!
//! After a head it reads nothing more until the body or the next head is asked for. So no request is read
//! while the previous one is being answered, except for bytes that the same read brought.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_codec::Decoder;
use actix_http::error::ParseError;
use actix_http::h1::{Codec, Message, MessageType};
use actix_http::{Request, ServiceConfig, StatusCode};
use bytes::{Bytes, BytesMut};

use super::target;
use crate::transport::stream::Stream;
use crate::transport::tcp::with_buffer;
use crate::transport::unfinished::Room;

/// The longest head of a request, in bytes.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// Bytes of one read of a head. This also bounds the memory for later requests of the client.
const HEAD_READ: usize = 16 * 1024;
/// Bytes of one read of a body.
const BODY_READ: usize = 64 * 1024;
/// How many bytes of an unread body are dropped so that its connection can serve another request.
const MAX_UNWANTED: usize = 64 * 1024;

/// The read half of a connection.
pub(super) struct Incoming {
    stream: Rc<Stream>,
    codec: Codec,
    /// Bytes that have arrived and are not decoded.
    bytes: BytesMut,
    /// The budget's share for an incomplete head.
    room: Room,
    /// How many of `bytes` were searched for the end of a head.
    searched: usize,
    /// The number of the current request. The body of an earlier request reads nothing more.
    pub(super) number: u64,
    body: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    expects: bool,
    /// The client sent the body too slowly.
    pub(super) is_late: bool,
}

/// How to find the end of the current request's body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// The body has ended, or there is none.
    Ended,
    /// The codec finds it.
    Codec,
    /// The body ends with the connection: the bytes that follow are not HTTP.
    Connection,
    /// The end cannot be found; the connection cannot serve another request.
    Broken,
}

/// Why there is no next request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRequest {
    /// The client is gone.
    Gone,
    /// The head cannot be served.
    Refused(StatusCode),
}

impl Incoming {
    pub(super) fn new(stream: Rc<Stream>, config: ServiceConfig) -> Self {
        Self {
            stream,
            codec: Codec::new(config),
            bytes: BytesMut::new(),
            room: Room::new(),
            searched: 0,
            number: 0,
            body: Framing::Ended,
            expects: false,
            is_late: false,
        }
    }

    /// Whether part of the next request has arrived.
    pub(super) fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Waits for the first byte of a request.
    pub(super) fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_begun() && ready!(self.poll_read(cx, HEAD_READ))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for a whole head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Request, NoRequest>> {
        loop {
            if let Some(request) = self.decode_head().transpose() {
                return Poll::Ready(request);
            }
            match ready!(self.poll_read(cx, HEAD_READ)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(NoRequest::Gone)),
                Ok(_) => self.make_room()?,
            }
        }
    }

    /// Takes the bytes that have arrived from the budget of all connections.
    fn make_room(&mut self) -> Result<(), NoRequest> {
        let made = self.room.resize(self.bytes.len());
        made.map_err(|_| NoRequest::Refused(StatusCode::SERVICE_UNAVAILABLE))
    }

    fn decode_head(&mut self) -> Result<Option<Request>, NoRequest> {
        // The first attempt refuses bytes that are not HTTP at once. After it, an incomplete head is parsed
        // only when it is whole.
        let is_first = self.searched == 0;
        let is_whole = self.find_end();
        if !self.bytes.is_empty() && (is_first || is_whole) {
            target::encode(&mut self.bytes);
            self.searched = self.bytes.len();
            if let Some(Message::Item(request)) = self
                .codec
                .decode(&mut self.bytes)
                .map_err(|error| refused(&error))?
            {
                self.begin_body(&request);
                self.make_room()?;
                return Ok(Some(request));
            }
        }
        if self.bytes.len() >= MAX_HEAD {
            return Err(NoRequest::Refused(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ));
        }
        Ok(None)
    }

    /// Whether the empty line at the end of a head has arrived.
    fn find_end(&mut self) -> bool {
        // The last search may have stopped within the empty line.
        let from = self.searched.saturating_sub(2);
        self.searched = self.bytes.len();
        memchr::memchr_iter(b'\n', &self.bytes[from..]).any(|at| {
            let rest = &self.bytes[from + at + 1..];
            rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
        })
    }

    fn begin_body(&mut self, request: &Request) {
        self.searched = 0;
        self.number += 1;
        self.is_late = false;
        self.expects = request.head().expect();
        self.body = match self.codec.message_type() {
            MessageType::None => Framing::Ended,
            MessageType::Payload => Framing::Codec,
            // actix-http treats the request as an upgrade.
            MessageType::Stream => Framing::Connection,
        };
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }

    /// Whether the current request has a body by the rules of HTTP.
    pub(super) fn has_body(&self) -> bool {
        self.body == Framing::Codec
    }

    /// Whether actix-http treats all bytes that follow as the request's body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.body == Framing::Connection
    }

    /// The bytes after this request are not HTTP.
    pub(super) fn end_http(&mut self) {
        self.body = Framing::Connection;
    }

    /// Whether the client waits for `100 Continue`. True once for each request.
    pub(super) fn take_expectation(&mut self) -> bool {
        std::mem::take(&mut self.expects)
    }

    /// The next bytes of the current body, `None` at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match self.body {
                Framing::Ended => return Poll::Ready(Ok(None)),
                Framing::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Framing::Connection if self.has_begun() => {
                    return Poll::Ready(Ok(Some(self.take_rest())));
                }
                Framing::Connection => {}
                Framing::Codec => match self.decode_body() {
                    Some(chunk) => return Poll::Ready(Ok(Some(chunk))),
                    None if self.body != Framing::Codec => continue,
                    None => {}
                },
            }
            let len = ready!(self.poll_read(cx, BODY_READ))?;
            match (len, self.body) {
                (0, Framing::Connection) => self.body = Framing::Ended,
                (0, _) => {
                    self.body = Framing::Broken;
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                _ => {}
            }
        }
    }

    /// Decodes body bytes that have arrived.
    fn decode_body(&mut self) -> Option<Bytes> {
        match self.codec.decode(&mut self.bytes) {
            Ok(Some(Message::Chunk(Some(chunk)))) => return Some(chunk),
            Ok(Some(Message::Chunk(None))) => self.body = Framing::Ended,
            Ok(None) => {}
            Ok(Some(Message::Item(_))) | Err(_) => self.body = Framing::Broken,
        }
        None
    }

    /// Drops the rest of the body as far as it has arrived. Returns whether the next request can be read.
    pub(super) fn skip_body(&mut self) -> bool {
        if self.expects {
            return self.body == Framing::Ended;
        }
        let mut dropped = 0;
        while self.body == Framing::Codec {
            if let Some(chunk) = self.decode_body() {
                dropped += chunk.len();
                continue;
            }
            let has_more = dropped < MAX_UNWANTED && matches!(self.try_read(BODY_READ), Ok(1..));
            if self.body == Framing::Codec && !has_more {
                break;
            }
        }
        self.body == Framing::Ended
    }

    /// Takes the bytes that have arrived and are not decoded.
    pub(super) fn take_rest(&mut self) -> Bytes {
        // An empty slice of a buffer would keep the whole buffer alive.
        match self.bytes.is_empty() {
            true => Bytes::new(),
            false => std::mem::take(&mut self.bytes).freeze(),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.try_read(max) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    fn try_read(&mut self, max: usize) -> io::Result<usize> {
        with_buffer(|buffer| {
            let len = self.stream.try_read(&mut buffer[..max])?;
            self.bytes.extend_from_slice(&buffer[..len]);
            Ok(len)
        })
    }
}

fn refused(error: &ParseError) -> NoRequest {
    tracing::debug!(%error, "transport.edge.malformed");
    NoRequest::Refused(match error {
        ParseError::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    })
}
