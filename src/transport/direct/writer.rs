//! [`TcpWriter`]: what a client is sent, written to a stream that the server owns; and how the
//! connection ends. [`writers`](super::writers) runs them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::future::LocalBoxFuture;
use tokio::time::timeout;

use crate::frame::Frame;
use crate::outbox::{Interrupt, Outbox};
use crate::socket::OpenStream;
use crate::transport::ending::{close_frame, is_deaf};
use crate::transport::stream::Stream;
use crate::transport::tcp::{OWN_LINGER, reset};

/// A client may take this long to read its queued frames when its connection ends. The kernel waits as long for
/// acknowledgements.
const FAREWELL: Duration = Duration::from_secs(30);

/// One connection's writer. Small, because every connection has one.
pub(super) struct TcpWriter {
    /// Shared with the connection's reader.
    stream: Rc<Stream>,
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
                reset(self.stream.tcp());
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
    pub(super) fn new(stream: Rc<Stream>, outbox: Rc<Outbox>, open: OpenStream) -> Self {
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
        let taken = self.stream.send(frame.wire());
        if taken == frame.len() {
            return true;
        }
        self.outbox.put_back(frame.clone(), taken);
        false
    }

    /// Whether TLS keeps a part of what was sent, which polling the writer sends.
    pub(super) fn keeps_bytes(&self) -> bool {
        self.stream.keeps_bytes()
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
fn poll_flush(stream: &Stream, outbox: &Outbox, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(stream.poll_flush(cx))?;
        if !ready!(outbox.poll_queued(cx)) {
            return Poll::Ready(Ok(()));
        }
        let written = outbox.write_to(|frames| stream.try_write_vectored(frames));
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(stream.poll_write_ready(cx))?;
            }
            written => written?,
        }
    }
}

/// Writes the queued frames and the close frame, and hangs up. A client that does not read them is reset.
async fn part(stream: Rc<Stream>, outbox: Rc<Outbox>) {
    let said = timeout(FAREWELL, say_goodbye(&stream, &outbox)).await;
    if matches!(said, Ok(Ok(()))) {
        let _ = stream.hang_up(OWN_LINGER).await;
    } else {
        reset(stream.tcp());
    }
}

async fn say_goodbye(stream: &Stream, outbox: &Outbox) -> io::Result<()> {
    poll_fn(|cx| poll_flush(stream, outbox, cx)).await?;
    let close = close_frame(outbox);
    let mut rest = &close.wire()[..];
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            written => rest = &rest[written?..],
        }
    }
    stream.flush().await
}
