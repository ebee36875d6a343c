//! [`TcpWriter`]: what a client is sent, written to a stream that the server owns; and how the
//! connection ends. [`writers`](super::writers) runs them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::net::TcpStream;
use futures_core::future::LocalBoxFuture;
use rustix::net::{SendFlags, send};
use tokio::time::timeout;

use crate::frame::Frame;
use crate::outbox::{Interrupt, Outbox};
use crate::socket::OpenStream;
use crate::transport::ending::{close_frame, is_deaf};
use crate::transport::tcp::{OWN_LINGER, hang_up, reset};

/// A client may take this long to read its queued frames when its connection ends. The kernel waits as long for
/// acknowledgements.
const FAREWELL: Duration = Duration::from_secs(30);

/// A client that is gone is an error and no signal. On systems without this flag, Rust's own start code ignores the
/// signal.
#[cfg(target_os = "linux")]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// One connection's writer. Small, because every connection has one.
pub(super) struct TcpWriter {
    /// Shared with the connection's reader.
    stream: Rc<TcpStream>,
    outbox: Rc<Outbox>,
    /// What is left to do once the outbox is closed.
    parting: Option<LocalBoxFuture<'static, ()>>,
    _open: OpenStream,
}

impl Future for TcpWriter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.parting.is_none() {
            if ready!(self.poll_write(cx)).is_err() {
                self.outbox.interrupt(Interrupt::WriterGone);
                return Poll::Ready(());
            }
            if self.outbox.closed().is_some_and(is_deaf) {
                reset(&self.stream);
                return Poll::Ready(());
            }
            let parting = part(Rc::clone(&self.stream), Rc::clone(&self.outbox));
            self.parting = Some(Box::pin(parting));
        }
        match &mut self.parting {
            Some(parting) => parting.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl TcpWriter {
    /// Writes the frames of `outbox` to `stream` until the connection has ended. `open` keeps the connection counted
    /// until the writer ends.
    pub(super) fn new(stream: Rc<TcpStream>, outbox: Rc<Outbox>, open: OpenStream) -> Self {
        Self {
            stream,
            outbox,
            parting: None,
            _open: open,
        }
    }

    /// Takes out a frame that is alone in the outbox, and waits for the next.
    pub(super) fn take_lone(&self, cx: &mut Context<'_>) -> Option<Frame> {
        self.outbox.take_lone(cx)
    }

    /// Gives a lone frame to the stream. Returns true if all of it was sent; else the rest is queued again, and
    /// polling the writer shows why.
    pub(super) fn send_lone(&self, frame: &Frame) -> bool {
        // Not through tokio, which would look up the readiness of the stream.
        let taken = send(&*self.stream, frame.wire(), SEND_FLAGS).unwrap_or(0);
        if taken == frame.len() {
            return true;
        }
        self.outbox.put_back(frame.clone(), taken);
        false
    }

    /// Ready once the outbox is closed, even if the stream does not take its frames.
    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outbox.poll_closed(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        poll_flush(&self.stream, &self.outbox, cx)
    }
}

/// Writes the queued frames, now and later; ready once the outbox is closed and empty.
fn poll_flush(stream: &TcpStream, outbox: &Outbox, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while ready!(outbox.poll_queued(cx)) {
        let written = outbox.write_to(|frames| stream.try_write_vectored(frames));
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(stream.poll_write_ready(cx))?;
            }
            written => written?,
        }
    }
    Poll::Ready(Ok(()))
}

/// Writes the queued frames and the close frame, and hangs up. A client that does not read them is reset.
async fn part(stream: Rc<TcpStream>, outbox: Rc<Outbox>) {
    let said = timeout(FAREWELL, say_goodbye(&stream, &outbox)).await;
    if matches!(said, Ok(Ok(()))) {
        let _ = hang_up(&stream, OWN_LINGER).await;
    } else {
        reset(&stream);
    }
}

async fn say_goodbye(stream: &TcpStream, outbox: &Outbox) -> io::Result<()> {
    poll_fn(|cx| poll_flush(stream, outbox, cx)).await?;
    let close = close_frame(outbox);
    let mut rest = &close.wire()[..];
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            written => rest = &rest[written?..],
        }
    }
    Ok(())
}
