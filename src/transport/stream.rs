//! [`Stream`]: an accepted TCP connection, plain or with TLS. Its readers and writers see the bytes of HTTP and
//! WebSocket in both cases.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::net::TcpStream;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;

use super::tcp;
use super::tls::Session;

/// A client that is gone is an error and no signal. On systems without this flag, Rust's own start code ignores the
/// signal.
#[cfg(target_os = "linux")]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// The stream of one client. Both halves of a connection share it.
pub(super) struct Stream {
    tcp: TcpStream,
    /// `None`: the stream is plain.
    tls: Option<Box<Session>>,
}

impl Stream {
    /// A stream without TLS.
    pub(super) fn plain(tcp: TcpStream) -> Self {
        Self { tcp, tls: None }
    }

    /// A stream whose TLS handshake is done.
    pub(super) fn secure(tcp: TcpStream, session: Box<Session>) -> Self {
        Self {
            tcp,
            tls: Some(session),
        }
    }

    /// The TCP connection, for its options and its end. Its bytes may be ciphertext.
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Ready if a read finds bytes, the end or an error.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(session) if session.has_input() => Poll::Ready(Ok(())),
            _ => self.tcp.poll_read_ready(cx),
        }
    }

    /// Reads without waiting; `Ok(0)` at the end of the client's side.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => self.tcp.try_read(buffer),
            Some(session) => session.try_read(&self.tcp, buffer),
        }
    }

    /// After a short read nothing is left: saves the read that would show it.
    pub(super) fn assume_drained(&self) {
        if self.tls.is_none() {
            assume_drained(&self.tcp);
        }
    }

    /// Writes without waiting. TLS may keep bytes that it has taken: see [`poll_flush`](Self::poll_flush).
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => self.tcp.try_write(bytes),
            Some(session) => session.try_write(&self.tcp, &[IoSlice::new(bytes)]),
        }
    }

    /// Like [`try_write`](Self::try_write), with many slices.
    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.tls {
            None => self.tcp.try_write_vectored(slices),
            Some(session) => session.try_write(&self.tcp, slices),
        }
    }

    /// Like [`try_write`](Self::try_write), but not through tokio, which would look up the readiness of the stream.
    /// Returns the number of bytes that were taken; after an error or a full stream 0.
    pub(super) fn send(&self, bytes: &[u8]) -> usize {
        let taken = match &self.tls {
            None => send_now(&self.tcp, bytes),
            Some(session) => session.send(&self.tcp, bytes),
        };
        taken.unwrap_or(0)
    }

    /// Whether TLS keeps bytes that it has taken and the kernel has not.
    pub(super) fn keeps_bytes(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|session| session.keeps_bytes())
    }

    /// The number of those bytes.
    #[cfg(all(test, feature = "tls"))]
    pub(super) fn kept_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |session| session.kept_bytes())
    }

    /// Ready once the kernel has all bytes that were taken.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(session) = &self.tls else {
            return Poll::Ready(Ok(()));
        };
        loop {
            match session.try_flush(&self.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.tcp.poll_write_ready(cx))?;
                }
                flushed => return Poll::Ready(flushed),
            }
        }
    }

    pub(super) async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Ends the server's side and waits up to `linger` for the client to end its own. Returns `false` if the client
    /// reset the stream before it had read everything.
    pub(super) async fn hang_up(&self, linger: Duration) -> bool {
        let farewell = async {
            if let Some(session) = &self.tls {
                // After an error of TLS the alert is the farewell.
                let _ = session.queue_end();
                self.flush().await?;
            }
            Ok(())
        };
        tcp::hang_up(&self.tcp, farewell, linger).await
    }

    /// Whether the client has ended its side or is gone. A reader misses nothing by it.
    pub(super) fn has_ended(&self) -> bool {
        match &self.tls {
            None => tcp::has_ended(&self.tcp),
            Some(session) => session.look(&self.tcp),
        }
    }

    /// Waits until the client ends its side. Never returns if the client sends more bytes first, because then only a
    /// read can detect the end.
    pub(super) async fn ended(&self) {
        let Some(session) = &self.tls else {
            return tcp::ended(&self.tcp).await;
        };
        while !session.look(&self.tcp) {
            if session.has_input() {
                return std::future::pending().await;
            }
            if self.tcp.readable().await.is_err() {
                return;
            }
        }
    }
}

/// Clears tokio's note that the connection has bytes to read.
pub(super) fn assume_drained(tcp: &TcpStream) {
    let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    // The error is the one made here.
    let _ = tcp.try_io(Interest::READABLE, blocked);
}

/// Gives bytes to the kernel without tokio.
pub(super) fn send_now(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(tcp, bytes, SEND_FLAGS)?)
}

/// Reads without tokio, whose note of what there is to read may be older.
pub(super) fn receive_now(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let read = recv(tcp, buffer, RecvFlags::DONTWAIT).map(|(_, read)| read)?;
    Ok(read)
}
