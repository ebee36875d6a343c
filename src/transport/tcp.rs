//! Accepted TCP sockets: their options, the read buffer, and how they end.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::time::timeout;

use super::refusal::full_status;
use crate::admission::{Admission, Admitted, ClientAddress};

/// The kernel's send buffer for each client. By default Linux would queue up to 4 MB for a client that does
/// not read, before the server notices anything.
const SEND_BUFFER: usize = 128 * 1024;

/// How long sent bytes may stay unacknowledged. This ends connections whose client has stopped reading,
/// because no close frame can reach such a client.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// For `HttpServer::client_disconnect_timeout`: how long the server waits, after its close frame, for the
/// client to close the connection first. Meanwhile it reads and drops what the client still sends, because
/// a reset would destroy the close frame on its way. After this time the server closes the connection.
///
/// Do not use a smaller value: actix-http measures it with a clock that is up to half a second late, and
/// never ends a connection whose time is over before it begins.
pub const CLOSE_LINGER: Duration = Duration::from_secs(1);

/// [`CLOSE_LINGER`] for a stream that the server owns, whose clock is exact.
pub(super) const OWN_LINGER: Duration = Duration::from_millis(250);

/// Bytes of one read.
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    /// The read buffer that all connections of the thread share; one uses it at a time.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

/// For `HttpServer::on_connect`: bounds the memory and the time that a client that does not read can take.
/// Without it such a client keeps its connection for ever.
pub fn on_connect(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        bound(&SockRef::from(stream));
    }
}

/// Sets the options of [`on_connect`] on a listener; on Linux its connections inherit them. For TLS, where
/// [`on_connect`] finds no TCP stream.
///
/// ```no_run
/// use std::net::TcpListener;
///
/// # fn run() -> std::io::Result<()> {
/// let listener = TcpListener::bind(("0.0.0.0", 4443))?;
/// slackir::transport::tune(&listener);
/// // HttpServer::new(app).listen_rustls_0_23(listener, tls)?
/// # Ok(())
/// # }
/// ```
pub fn tune(listener: &TcpListener) {
    bound(&SockRef::from(listener));
}

/// Like [`on_connect`], and counts the connection as a stream of `admission`, which should be the
/// endpoint's. A connection for which there is no room is closed before a byte of it is read.
pub fn on_connect_counted(
    admission: Admission,
) -> impl Fn(&dyn Any, &mut Extensions) + Send + Sync + 'static {
    move |connection, extensions| {
        on_connect(connection, extensions);
        let Some(stream) = connection.downcast_ref::<TcpStream>() else {
            return;
        };
        let peer = stream.peer_addr().ok();
        if let Some(admitted) = peer.and_then(|peer| admit(stream, peer, &admission)) {
            extensions.insert(admitted);
        }
    }
}

/// Counts an accepted stream. `None` if there is no room: then the refusal has been sent, and the caller
/// must drop the stream.
pub(super) fn admit(
    stream: &TcpStream,
    peer: SocketAddr,
    admission: &Admission,
) -> Option<Admitted> {
    let options = admission.options();
    let client = ClientAddress::of_peer(peer, &options.trusted_proxies);
    let full = match admission.stream(client) {
        Ok(admitted) => return Some(admitted),
        Err(full) => full,
    };
    let status = full_status(full);
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    // The send buffer of a new stream has room for this. If the write fails, the client only sees the
    // connection close.
    let _ = stream.try_write(answer.as_bytes());
    let _ = SockRef::from(stream).shutdown(Shutdown::Both);
    None
}

/// Sets the options of a stream that the server owns, on the stream or on its listener.
pub(super) fn set_own_options<'a>(socket: impl Into<SockRef<'a>>) {
    let socket = socket.into();
    if let Err(error) = socket.set_tcp_nodelay(true) {
        tracing::debug!(%error, "transport.tcp.nodelay");
    }
    bound(&socket);
}

fn bound(socket: &SockRef<'_>) {
    if let Err(error) = socket.set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "transport.tcp.send_buffer");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_user_timeout(Some(USER_TIMEOUT)) {
        tracing::debug!(%error, "transport.tcp.user_timeout");
    }
}

/// Lends the thread's read buffer.
pub(super) fn with_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| read(buffer))
}

/// Ends the server's side of the stream, by `farewell` and a FIN, then reads and drops until the client ends its side
/// or `linger` is over. Closing a stream with unread bytes would reset it, and the client could lose the last
/// bytes sent to it. Returns `false` if the client reset the stream before it had read everything.
pub(super) async fn hang_up(
    stream: &TcpStream,
    farewell: impl Future<Output = io::Result<()>>,
    linger: Duration,
) -> bool {
    let gone = async {
        farewell.await?;
        SockRef::from(stream).shutdown(Shutdown::Write)?;
        loop {
            stream.readable().await?;
            match with_buffer(|buffer| stream.try_read(buffer)) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    };
    // The caller drops the stream in any case.
    !matches!(timeout(linger, gone).await, Ok(Err(error)) if is_reset(&error))
}

/// Whether the error means that the client closed the stream without reading all that was sent.
pub(super) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Whether the client has ended its side or is gone. Reads nothing from the stream.
pub(super) fn has_ended(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match recv(stream, &mut [0; 1], flags) {
        Ok((_, read)) => read == 0,
        Err(error) => error != Errno::WOULDBLOCK && error != Errno::INTR,
    }
}

/// Waits until the client ends its side. Never returns if the client sends more bytes first, because then
/// only a read can detect the end.
pub(super) async fn ended(stream: &TcpStream) {
    match stream.peek(&mut [0; 1]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// Makes the kernel discard unsent bytes when the stream is dropped; else it would keep them as long as the
/// client does not read. The client sees close code 1006 and reconnects.
pub(super) fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "transport.tcp.reset");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn connections_inherit_what_the_listener_has() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        tune(&listener);
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        // The kernel doubles the size, for its own overhead.
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
    }
}
