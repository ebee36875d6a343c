//! [`MessageReader`]: the messages of a WebSocket client, as its SocketServer reads them. The same for both drivers,
//! which bring whole frames.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::Stream;

use super::ending::asked_by;
use crate::actor::put_off;
use crate::client::log_client;
use crate::flow::Flow;
use crate::frame::{Frame, Opcode};
use crate::message::Message;
use crate::metrics::{Hot, Pause, count, metrics};
use crate::outbox::Outbox;
use crate::serializer::{DecodeError, Serializer};
use crate::socket::{Activity, Connection, ConnectionEnd, Incoming, Sign};

/// Fragmented messages have a limit of their own, in bytes, as on Bandit.
pub(super) const MAX_MESSAGE_SIZE: usize = 8_000_000;

/// At most so many pings and pongs of one client are read in a turn.
const FRAMES_A_TURN: usize = 64;

/// One whole message of the WebSocket protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    Text(ByteString),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    /// A close frame, with its code if it has one.
    Close(Option<u16>),
}

/// The client's messages until its connection ends. Pings are answered here. Reading waits while
/// the client or its channels cannot keep up.
pub(super) struct MessageReader<S> {
    /// The driver's half: whole frames, and an error if the client breaks the protocol. It ends
    /// when the connection is lost.
    frames: S,
    serializer: Serializer,
    outbox: Rc<Outbox>,
    flow: Rc<Flow>,
    activity: Rc<Activity>,
    end: End,
}

/// How far the end of a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    None,
    /// It is known, and put off.
    Later(ConnectionEnd),
    Told,
}

impl<S> MessageReader<S> {
    pub(super) fn new(connection: &Connection, frames: S) -> Self {
        Self {
            frames,
            serializer: connection.serializer,
            outbox: Rc::clone(&connection.outbox),
            flow: Rc::clone(&connection.flow),
            activity: Rc::clone(&connection.activity),
            end: End::None,
        }
    }

    /// Ready if the client and its channels have kept up.
    fn poll_may_read(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.outbox.poll_room(cx).is_pending() {
            if !self.activity.is_unread() {
                metrics().reads_paused(Pause::Outbox).increment(1);
            }
            return Poll::Pending;
        }
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
                count(Hot::Undecodable, 1);
                log_client!(info, self.outbox.client(), %error, "transport.message.undecodable");
                self.end(ConnectionEnd::Undecodable)
            }
        }
    }

    fn end(&mut self, ending: ConnectionEnd) -> Poll<Option<Incoming>> {
        self.end = End::Told;
        Poll::Ready(Some(Incoming::End(ending)))
    }

    /// The client is gone or goes, and waits for nothing.
    fn end_later(&mut self, ending: ConnectionEnd) -> Poll<Option<Incoming>> {
        if !put_off() {
            return self.end(ending);
        }
        self.end = End::Later(ending);
        Poll::Pending
    }
}

impl<S: Stream<Item = Result<Received, ConnectionEnd>> + Unpin> Stream for MessageReader<S> {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        match self.end {
            End::None => {}
            End::Later(ending) => return self.end(ending),
            End::Told => return Poll::Ready(None),
        }
        if let Poll::Ready(interrupt) = self.outbox.poll_interrupted(cx) {
            return self.end(ConnectionEnd::of(interrupt, Sign::Bytes));
        }
        for _ in 0..FRAMES_A_TURN {
            let may_read = self.poll_may_read(cx);
            self.activity.set_unread(may_read.is_pending());
            ready!(may_read);
            match ready!(Pin::new(&mut self.frames).poll_next(cx)) {
                Some(Ok(Received::Text(text))) => {
                    let decoded = self.serializer.decode_text(&text);
                    return self.message(decoded, text.len());
                }
                Some(Ok(Received::Binary(data))) => {
                    let size = data.len();
                    let decoded = self.serializer.decode_binary(data);
                    return self.message(decoded, size);
                }
                Some(Ok(Received::Ping(data))) => {
                    self.outbox.push(Frame::new(Opcode::Pong, &data));
                }
                Some(Ok(Received::Pong)) => {}
                Some(Ok(Received::Close(code))) => return self.end_later(asked_by(code)),
                Some(Err(ending)) => return self.end(ending),
                None => return self.end_later(ConnectionEnd::Lost),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
