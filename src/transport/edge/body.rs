//! [`Body`]: the body of a request, read only when its handler asks for it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Sleep, sleep};

use super::incoming::Incoming;
use super::pace::Pace;
use crate::transport::stream::Stream as ClientStream;

/// A request's payload. It ends with an error if the client is too slow.
pub(super) struct Body {
    incoming: Rc<RefCell<Incoming>>,
    stream: Rc<ClientStream>,
    /// The number of its request.
    number: u64,
    /// `None` after an upgrade, when the client may be silent.
    pace: Option<Pace>,
    wait: Option<Wait>,
}

/// A wait for the client.
struct Wait {
    since: Instant,
    until: Pin<Box<Sleep>>,
}

impl Body {
    pub(super) fn new(
        incoming: &Rc<RefCell<Incoming>>,
        stream: &Rc<ClientStream>,
        pace: Option<Pace>,
    ) -> Self {
        Self {
            number: incoming.borrow().number,
            incoming: Rc::clone(incoming),
            stream: Rc::clone(stream),
            pace,
            wait: None,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.number != self.number {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        if incoming.take_expectation() && !go_on(&self.stream) {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let polled = incoming.poll_body(cx);
        let Some(pace) = &mut self.pace else {
            return polled;
        };
        if let Poll::Ready(read) = polled {
            if let (Some(wait), Ok(Some(chunk))) = (self.wait.take(), &read) {
                pace.note(wait.since.elapsed(), chunk.len());
            } else if let Ok(Some(chunk)) = &read {
                pace.note(std::time::Duration::ZERO, chunk.len());
            }
            return Poll::Ready(read);
        }
        let wait = self.wait.get_or_insert_with(|| Wait {
            since: Instant::now(),
            until: Box::pin(sleep(pace.next_wait())),
        });
        if wait.until.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        incoming.is_late = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Sends `100 Continue`. `false` if the stream does not accept all of it.
fn go_on(stream: &ClientStream) -> bool {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    // No answer is being sent, so the send buffer has room for all of it.
    matches!(stream.try_write(CONTINUE), Ok(len) if len == CONTINUE.len())
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => PayloadError::EncodingCorrupted,
                _ => PayloadError::Incomplete(Some(error)),
            })
            .map(Result::transpose)
    }
}
