//! [`Reader`]: what a WebSocket client sends, as the messages its SocketServer reads. The same for
//! both drivers, which bring whole frames.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::Stream;

use crate::client::log_client;
use crate::flow::Flow;
use crate::frame::{Frame, Opcode};
use crate::message::Message;
use crate::outbox::Outbox;
use crate::serializer::{DecodeError, Serializer};
use crate::socket::{Activity, Connection, Ending, Incoming};

/// Fragmented messages have a limit of their own, in bytes, as on Bandit.
pub(super) const MAX_MESSAGE_SIZE: usize = 8_000_000;

/// Pings and pongs of one client that are read before others have their turn.
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
pub(super) struct Reader<S> {
    /// The driver's half: what arrives, and an error where the client breaks the protocol. It ends
    /// when the connection is lost.
    frames: S,
    serializer: Serializer,
    outbox: Rc<Outbox>,
    flow: Rc<Flow>,
    activity: Rc<Activity>,
    ended: bool,
}

impl<S> Reader<S> {
    pub(super) fn new(connection: &Connection, frames: S) -> Self {
        Self {
            frames,
            serializer: connection.serializer,
            outbox: Rc::clone(&connection.outbox),
            flow: Rc::clone(&connection.flow),
            activity: Rc::clone(&connection.activity),
            ended: false,
        }
    }

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
                log_client!(info, self.outbox.client(), %error, "transport.message.undecodable");
                self.end(Ending::UNDECODABLE)
            }
        }
    }

    fn end(&mut self, ending: Ending) -> Poll<Option<Incoming>> {
        self.ended = true;
        Poll::Ready(Some(Incoming::End(ending)))
    }
}

impl<S: Stream<Item = Result<Received, Ending>> + Unpin> Stream for Reader<S> {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(interrupt) = self.outbox.poll_interrupted(cx) {
            return self.end(Ending::of(interrupt));
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
                Some(Ok(Received::Close(code))) => return self.end(goodbye(code)),
                Some(Err(ending)) => return self.end(ending),
                None => return self.end(Ending::LOST),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A close frame with a code that no client may send is a violation.
fn goodbye(code: Option<u16>) -> Ending {
    match code {
        None | Some(1000..=1003 | 1007..=1011 | 3000..=4999) => Ending::GOODBYE,
        Some(_) => Ending::VIOLATION,
    }
}
