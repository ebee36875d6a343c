//! Options of accepted TCP sockets.

use std::any::Any;
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use socket2::SockRef;

/// What the kernel keeps for a client that does not read. Linux would take up to 4 MB a socket
/// before a server notices anything.
const SEND_BUFFER: usize = 128 * 1024;

/// How long sent bytes may stay unacknowledged. It ends connections whose client has stopped
/// reading: a close frame never gets through to them.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// For `HttpServer::client_disconnect_timeout`: how long a connection that has said goodbye waits
/// for its client to go first. Until then what the client still sends is read and dropped, so that
/// the close frame is not lost to a reset; afterwards the server hangs up.
pub const CLOSE_LINGER: Duration = Duration::from_millis(250);

/// For `HttpServer::on_connect`: bounds what a client that does not read can hold. Without it a
/// stalled client keeps its connection for ever.
pub fn on_connect(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        set_options(stream);
    }
}

/// The same for a stream that the server owns.
pub(super) fn set_options(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "transport.tcp.send_buffer");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_user_timeout(Some(USER_TIMEOUT)) {
        tracing::debug!(%error, "transport.tcp.user_timeout");
    }
}
