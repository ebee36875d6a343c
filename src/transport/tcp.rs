//! Accepted TCP sockets: their options, what they are read into, and how they end.

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

use super::handshake::full_status;
use crate::admission::{Admission, Admitted, ClientAddress};

/// What the kernel keeps for a client that does not read. Linux would take up to 4 MB a socket
/// before a server notices anything.
const SEND_BUFFER: usize = 128 * 1024;

/// How long sent bytes may stay unacknowledged. It ends connections whose client has stopped
/// reading: a close frame never gets through to them.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// For `HttpServer::client_disconnect_timeout`: how long a connection that has said goodbye waits
/// for its client to go first. Until then what the client still sends is read and dropped, so that
/// the close frame is not lost to a reset; afterwards the server hangs up. Take no less: actix-http counts
/// it from a clock that is up to half a second late, and a connection whose time is over before it begins
/// stays for ever.
pub const CLOSE_LINGER: Duration = Duration::from_secs(1);

/// The same for a stream that the server owns, whose clock is right.
pub(super) const OWN_LINGER: Duration = Duration::from_millis(250);

/// What is read at once.
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    /// What all connections of the thread read into, one at a time.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

/// For `HttpServer::on_connect`: bounds what a client that does not read can hold. Without it a
/// stalled client keeps its connection for ever.
pub fn on_connect(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        bound(&SockRef::from(stream));
    }
}

/// The same for a listener, whose connections inherit it on Linux: for TLS, where
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

/// As [`on_connect`], and counts the connection as a stream of `admission`, which the endpoint should share.
/// One that has no room is closed before a byte of it is read.
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

/// Counts an accepted stream. `None` where there was no room: then it has been answered, and is to be
/// dropped.
pub(super) fn admit(
    stream: &TcpStream,
    peer: SocketAddr,
    admission: &Admission,
) -> Option<Admitted> {
    let client = ClientAddress::of_peer(peer, &admission.options().trusted_proxies);
    let full = match admission.stream(client) {
        Ok(admitted) => return Some(admitted),
        Err(full) => full,
    };
    let status = full_status(full);
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    // A new stream takes so much at once; if it does not, the client sees that it is closed.
    let _ = stream.try_write(answer.as_bytes());
    let _ = SockRef::from(stream).shutdown(Shutdown::Both);
    None
}

/// The options of a stream that the server owns, set on it or on its listener.
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

/// Lends the thread's buffer to read into.
pub(super) fn with_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| read(buffer))
}

/// Ends the server's side, and reads and drops what the client still sends until that has gone, too,
/// or `linger` is over: a stream that is closed with something unread is reset, and the client would
/// lose what it was sent last. `false` where the client has reset it instead of reading to the end.
pub(super) async fn hang_up(stream: &TcpStream, linger: Duration) -> bool {
    let gone = async {
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
    // In each case the stream is dropped next.
    !matches!(timeout(linger, gone).await, Ok(Err(error)) if is_reset(&error))
}

/// Whether a stream has ended with something that the client has not read.
pub(super) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Whether the client has ended its side, or is gone. Asks the kernel, and reads nothing.
pub(super) fn has_ended(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match recv(stream, &mut [0; 1], flags) {
        Ok((_, read)) => read == 0,
        Err(error) => error != Errno::WOULDBLOCK && error != Errno::INTR,
    }
}

/// Waits until the client has ended its side. For ever when it sends something instead: whether it has
/// gone behind that shows when it is read.
pub(super) async fn ended(stream: &TcpStream) {
    match stream.peek(&mut [0; 1]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// Has the kernel throw away what the client has not taken when the stream is dropped: it would
/// keep it otherwise, for as long as the client likes. The client sees 1006 and comes back.
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
        // The kernel doubles it, for what it needs itself.
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
    }
}
