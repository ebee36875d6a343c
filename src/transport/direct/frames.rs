//! [`TcpFrames`]: the client's frames, read from a stream that the server owns.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_rt::net::TcpStream;
use bytes::{Buf, Bytes};
use futures_core::Stream;
use tokio::io::Interest;

use super::decoder::Decoder;
use crate::socket::{Activity, Ending};
use crate::transport::frame_scanner::RefusedFrame;
use crate::transport::reader::Received;
use crate::transport::tcp::with_buffer;
use crate::transport::unfinished::Unfinished;

/// What one client sends; it ends when its side of the connection does.
pub(super) struct TcpFrames {
    /// Shared with the connection's writer.
    stream: Rc<TcpStream>,
    decoder: Decoder,
    /// What has arrived behind the message that was taken last: mostly nothing.
    rest: Bytes,
    unfinished: Unfinished,
    activity: Rc<Activity>,
}

impl TcpFrames {
    /// `behind` is what the client has sent behind its request.
    pub(super) fn new(
        stream: Rc<TcpStream>,
        behind: Bytes,
        max_frame_size: usize,
        activity: Rc<Activity>,
    ) -> Self {
        Self {
            stream,
            decoder: Decoder::new(max_frame_size),
            rest: behind,
            unfinished: Unfinished::new(Rc::clone(&activity)),
            activity,
        }
    }

    /// The next message of what has arrived before.
    fn decode_rest(&mut self) -> Result<Option<Received>, Ending> {
        let mut input = &self.rest[..];
        let decoded = self.decoder.decode(&mut input);
        let taken = self.rest.len() - input.len();
        if input.is_empty() {
            self.rest = Bytes::new();
        } else {
            self.rest.advance(taken);
        }
        decoded
    }

    /// Reads once and decodes from the thread's buffer; only what is behind the first message is
    /// kept. `None` at the end of the stream.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Option<Received>, Ending>>> {
        ready!(self.stream.poll_read_ready(cx)).ok();
        with_buffer(|buffer| match self.stream.try_read(buffer) {
            Ok(0) => Poll::Ready(None),
            Ok(len) => {
                self.activity.touch();
                if len < buffer.len() {
                    self.assume_drained();
                }
                let mut input = &buffer[..len];
                let decoded = self.decoder.decode(&mut input);
                if !input.is_empty() {
                    self.rest = Bytes::copy_from_slice(input);
                }
                Poll::Ready(Some(decoded))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Ready(Some(Ok(None))),
            Err(_) => Poll::Ready(None),
        })
    }

    /// After a short read nothing is left; saves the read that would find it out.
    fn assume_drained(&self) {
        let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        // Its error is the one it was given.
        let _ = self.stream.try_io(Interest::READABLE, blocked);
    }
}

impl Stream for TcpFrames {
    type Item = Result<Received, Ending>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let decoded = if self.rest.is_empty() {
                match ready!(self.poll_read(cx)) {
                    Some(decoded) => decoded,
                    None => return Poll::Ready(None),
                }
            } else {
                self.decode_rest()
            };
            let (begun, kept) = (self.decoder.begun(), self.decoder.kept());
            if let Err(no_room) = self.unfinished.note(begun, kept) {
                return Poll::Ready(Some(Err(RefusedFrame::from(no_room).into())));
            }
            if let Some(item) = decoded.transpose() {
                return Poll::Ready(Some(item));
            }
        }
    }
}
