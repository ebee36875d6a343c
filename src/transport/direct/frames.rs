//! [`TcpFrames`]: the client's frames, read from a stream that the server owns.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_rt::net::TcpStream;
use futures_core::Stream;
use tokio::io::Interest;

use crate::socket::ConnectionEnd;
use crate::transport::arrived::Arrived;
use crate::transport::reader::Received;
use crate::transport::tcp::with_buffer;

/// The frames of one client; the stream ends with the client's side of the connection.
pub(super) struct TcpFrames {
    /// Shared with the connection's writer.
    stream: Rc<TcpStream>,
    arrived: Arrived,
}

impl TcpFrames {
    pub(super) fn new(stream: Rc<TcpStream>, arrived: Arrived) -> Self {
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
                    self.assume_drained();
                }
                Poll::Ready(Some(self.arrived.next_of(&buffer[..len])))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Some(Ok(None))),
            Err(_) => Poll::Ready(None),
        })
    }

    /// After a short read nothing is left: saves the read that would show it.
    fn assume_drained(&self) {
        let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        // The error is the one made here.
        let _ = self.stream.try_io(Interest::READABLE, blocked);
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
