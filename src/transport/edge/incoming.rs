//! [`Incoming`]: what one client sends, cut into request heads and bodies by actix-http's codec.
//!
//! It reads a head, and then nothing until somebody asks for the body or for the next head. So a
//! request is never read while the one before it is answered, but for what the same read brought.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_codec::Decoder;
use actix_http::error::ParseError;
use actix_http::h1::{Codec, Message, MessageType};
use actix_http::{Request, ServiceConfig, StatusCode};
use actix_rt::net::TcpStream;
use bytes::{Bytes, BytesMut};

use super::target;
use crate::transport::tcp::with_buffer;
use crate::transport::unfinished::Room;

/// Longest head of a request.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// What is read at once while a head is awaited, and so the bound of what is held of later requests.
const HEAD_READ: usize = 16 * 1024;
/// What is read at once of a body.
const BODY_READ: usize = 64 * 1024;
/// What is read and dropped of a body that nobody wanted, so that its connection can go on.
const MAX_UNWANTED: usize = 64 * 1024;

/// The read half of a connection.
pub(super) struct Incoming {
    stream: Rc<TcpStream>,
    codec: Codec,
    /// What has arrived and is not decoded.
    bytes: BytesMut,
    /// For the part of a head that has arrived.
    room: Room,
    /// How far `bytes` was searched for the end of a head.
    searched: usize,
    /// Counts the requests: the body of an earlier one reads nothing more.
    pub(super) number: u64,
    body: Framing,
    /// Whether the client waits for a `100 Continue` before it sends the body.
    expects: bool,
    /// The client took too long for the body.
    pub(super) is_late: bool,
}

/// Where the body of the current request ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// It has ended, or there was none.
    Ended,
    /// By the codec's count.
    Codec,
    /// With the connection: what follows is not HTTP.
    Connection,
    /// Nowhere to be found; the connection cannot go on.
    Broken,
}

/// Why no request comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRequest {
    /// The client is gone.
    Gone,
    /// The head cannot be served.
    Refused(StatusCode),
}

impl Incoming {
    pub(super) fn new(stream: Rc<TcpStream>, config: ServiceConfig) -> Self {
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

    /// Takes what has arrived from what the heads of all clients may hold together.
    fn make_room(&mut self) -> Result<(), NoRequest> {
        let made = self.room.resize(self.bytes.len());
        made.map_err(|_| NoRequest::Refused(StatusCode::SERVICE_UNAVAILABLE))
    }

    fn decode_head(&mut self) -> Result<Option<Request>, NoRequest> {
        // What is no HTTP at all shows at once; a head that comes in pieces is parsed when it is whole.
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

    /// Whether an empty line has arrived.
    fn find_end(&mut self) -> bool {
        // The last search may have stopped between the two line ends.
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
            // actix-http's way to say that it takes the request for an upgrade.
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

    /// Whether actix-http takes all that follows for the request's body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.body == Framing::Connection
    }

    /// From here on the connection is no HTTP.
    pub(super) fn end_http(&mut self) {
        self.body = Framing::Connection;
    }

    /// Whether the body waits for a word from the server.
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

    /// The next bytes of a body that have arrived.
    fn decode_body(&mut self) -> Option<Bytes> {
        match self.codec.decode(&mut self.bytes) {
            Ok(Some(Message::Chunk(Some(chunk)))) => return Some(chunk),
            Ok(Some(Message::Chunk(None))) => self.body = Framing::Ended,
            Ok(None) => {}
            Ok(Some(Message::Item(_))) | Err(_) => self.body = Framing::Broken,
        }
        None
    }

    /// Drops what is left of the body, as far as it has arrived. Whether the next request can be read.
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

    /// What has arrived behind the last head.
    pub(super) fn take_rest(&mut self) -> Bytes {
        // An empty part of a buffer would keep the buffer.
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
