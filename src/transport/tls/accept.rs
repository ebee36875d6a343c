//! The handshake of an accepted connection.

use std::io;
use std::sync::Arc;

use actix_rt::net::TcpStream;
use rustls::server::UnbufferedServerConnection;

use super::{Session, Tls};
use crate::metrics::{TlsHandshake, tls_metrics};
use crate::transport::stream::Stream;
use crate::transport::tcp::OWN_LINGER;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// The answer to a request without TLS.
const NOT_HTTPS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 37\r\n\
    connection: close\r\n\r\nThis port speaks https and not http.\n";

/// Why there is no TLS.
enum NoHandshake {
    PlainHttp,
    Failed(io::Error),
}

impl From<io::Error> for NoHandshake {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Counts the handshake when it is dropped. Until then it is one that the client does not finish.
struct Counted(TlsHandshake);

impl Drop for Counted {
    fn drop(&mut self) {
        tls_metrics().handshakes(self.0).increment(1);
    }
}

impl Tls {
    /// The stream with TLS once the handshake is done; `None` if it fails. The caller bounds its time, and counts the
    /// connection.
    pub(in crate::transport) async fn accept(&self, tcp: TcpStream) -> Option<Stream> {
        let mut counted = Counted(TlsHandshake::Unfinished);
        match self.handshake(&tcp).await {
            Ok(session) => {
                counted.0 = TlsHandshake::Ok;
                return Some(Stream::secure(tcp, session));
            }
            Err(NoHandshake::PlainHttp) => {
                counted.0 = TlsHandshake::PlainHttp;
                // The send buffer of a new stream has room for this.
                let _ = tcp.try_write(NOT_HTTPS);
            }
            Err(NoHandshake::Failed(error)) => {
                counted.0 = TlsHandshake::Failed;
                let peer = tcp.peer_addr().ok().map(tracing::field::display);
                tracing::debug!(%error, peer, "transport.tls.handshake");
            }
        }
        drop(counted);
        // The client reads the answer or the alert before the end.
        let _ = Stream::plain(tcp).hang_up(OWN_LINGER).await;
        None
    }

    async fn handshake(&self, tcp: &TcpStream) -> Result<Box<Session>, NoHandshake> {
        let mut first = [HANDSHAKE];
        tcp.peek(&mut first).await?;
        if first != [HANDSHAKE] {
            return Err(NoHandshake::PlainHttp);
        }
        let connection = UnbufferedServerConnection::new(Arc::clone(&self.0));
        let session = Box::new(Session::new(connection.map_err(io::Error::other)?));
        loop {
            let read = session.read_handshake(tcp);
            flush(&session, tcp).await?;
            match read {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
                _ if !session.in_handshake() => return Ok(session),
                _ => tcp.readable().await?,
            }
        }
    }
}

/// Sends the server's part of the handshake, or an alert.
async fn flush(session: &Session, tcp: &TcpStream) -> io::Result<()> {
    loop {
        match session.try_flush(tcp) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.writable().await?,
            flushed => return flushed,
        }
    }
}
