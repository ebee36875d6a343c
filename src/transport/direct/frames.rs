//! [`TcpFrames`]: the client's frames, read from a stream that the server owns.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::socket::ConnectionEnd;
use crate::transport::arrived::Arrived;
use crate::transport::reader::Received;
use crate::transport::stream::Stream as ClientStream;
use crate::transport::tcp::with_buffer;

/// The frames of one client; the stream ends with the client's side of the connection.
pub(super) struct TcpFrames {
    /// Shared with the connection's writer.
    stream: Rc<ClientStream>,
    arrived: Arrived,
}

impl TcpFrames {
    pub(super) fn new(stream: Rc<ClientStream>, arrived: Arrived) -> Self {
        Self { stream, arrived }
    }

    /// Reads once and decodes from the thread's buffer. `None` at the end of the stream.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Option<Received>, ConnectionEnd>>> {
        ready!(self.stream.poll_read_ready(cx)).ok();
        with_buffer(|buffer| match self.stream.try_read(buffer) {
            Ok(0) => Poll::Ready(None),
            Ok(len) => {
                if len < buffer.len() {
                    self.stream.assume_drained();
                }
                Poll::Ready(Some(self.arrived.next_of(&buffer[..len])))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Some(Ok(None))),
            Err(_) => Poll::Ready(None),
        })
    }
}

impl Stream for TcpFrames {
    type Item = Result<Received, ConnectionEnd>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let decoded = if self.arrived.has_rest() {
                self.arrived.next()
            } else {
                match ready!(self.poll_read(cx)) {
                    Some(decoded) => decoded,
                    None => return Poll::Ready(None),
                }
            };
            if let Some(item) = decoded.transpose() {
                return Poll::Ready(Some(item));
            }
        }
    }
}
