//! [`Writer`]: what a client is sent, written to a stream that the server owns; and how the
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
use crate::outbox::{CloseReason, Interrupt, Outbox};
use crate::socket::OpenStream;
use crate::transport::close_frame;
use crate::transport::tcp::{OWN_LINGER, hang_up, reset};

/// How long a client may take to read what is still queued when its connection ends. It is the
/// kernel's time for bytes that are not acknowledged, too.
const FAREWELL: Duration = Duration::from_secs(30);

/// A client that is gone is an error and no signal. Where there is no such flag Rust's own start
/// code has the signal ignored.
#[cfg(target_os = "linux")]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// One connection's writer. Small, because every connection has one.
pub(super) struct Writer {
    /// Shared with the connection's reader.
    stream: Rc<TcpStream>,
    outbox: Rc<Outbox>,
    /// What is left to do once the outbox is closed.
    parting: Option<LocalBoxFuture<'static, ()>>,
    _open: OpenStream,
}

impl Future for Writer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.parting.is_none() {
            if ready!(self.poll_write(cx)).is_err() {
                self.outbox.interrupt(Interrupt::WriterGone);
                return Poll::Ready(());
            }
            // A client that does not read would not read a close frame either.
            if self.outbox.closed() == Some(CloseReason::SlowConsumer) {
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

impl Writer {
    /// Writes what enters `outbox` to `stream` until the connection has ended. `open` counts it as
    /// long.
    pub(super) fn new(stream: Rc<TcpStream>, outbox: Rc<Outbox>, open: OpenStream) -> Self {
        Self {
            stream,
            outbox,
            parting: None,
            _open: open,
        }
    }

    /// Takes out the frame that is all there is to do, and waits for the next.
    pub(super) fn take_lone(&self, cx: &mut Context<'_>) -> Option<Frame> {
        self.outbox.take_lone(cx)
    }

    /// Gives a lone frame to the stream. Whether all of it went; if not, the rest is queued again,
    /// and polling the writer tells why.
    pub(super) fn send_lone(&self, frame: &Frame) -> bool {
        // Not through tokio, which would look up what it knows of the stream.
        let taken = send(&*self.stream, frame.wire(), SEND_FLAGS).unwrap_or(0);
        if taken == frame.len() {
            return true;
        }
        self.outbox.put_back(frame.clone(), taken);
        false
    }

    /// Ready when the outbox was closed, whether or not the stream takes what is in it.
    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outbox.poll_closed(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        poll_flush(&self.stream, &self.outbox, cx)
    }
}

/// Writes what is queued, now and later; ready when the outbox is closed and empty.
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

/// Writes what is still queued and the close frame, and hangs up. A client that does not read it is
/// cut off.
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
