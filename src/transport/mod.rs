//! HTTP in, frames out. Phoenix: `Phoenix.Socket.Transport`, `Phoenix.Transports.WebSocket`.
//!
//! Only this module knows HTTP, what a client's WebSocket frames look like, and close codes. A
//! driver has one seam to the rest: a stream of `Incoming` for the SocketServer, and the
//! connection's outbox.
//!
//! WebSocket has two drivers. A mounted endpoint ([`Endpoint::routes`](crate::Endpoint::routes)) is
//! served by actix-ws in any actix-web `HttpServer`, TLS and all; under [`direct::serve`] the same
//! `App` is served by sockets that the server owns, at a fraction of the memory.

mod arrived;
mod cookie;
mod decoder;
mod delivery;
pub mod direct;
mod edge;
mod forwarded;
mod frame_scanner;
mod handshake;
mod head;
mod longpoll;
mod longpoll_server;
mod origin;
mod query;
mod reader;
mod subprotocol;
mod tcp;
mod unfinished;
mod upgrade;
mod websocket;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::handshake::Accepted;
pub use self::handshake::{ConnectInfoKey, ErrorHandler, HandshakeOptions, Serializers};
pub(crate) use self::handshake::{Mounted, RequestHook};
pub use self::longpoll::LongPollOptions;
pub(crate) use self::longpoll::{LongPoll, serve as serve_longpoll};
pub use self::origin::{
    CheckOrigin, HostName, InvalidHost, InvalidOrigin, OriginCheck, OriginPattern,
};
pub use self::tcp::{CLOSE_LINGER, on_connect, on_connect_counted, tune};
pub(crate) use self::upgrade::upgrade;
use crate::frame::{Frame, Opcode};
use crate::outbox::{CloseReason, Outbox};

/// The last frame to a WebSocket client whose outbox is closed.
fn close_frame(outbox: &Outbox) -> Frame {
    let code = close_code(outbox.closed().unwrap_or(CloseReason::Goodbye));
    Frame::new(Opcode::Close, &code.to_be_bytes())
}

/// The close code for each way a connection ends from this side, as Phoenix on Bandit sends them.
///
/// 1000 is only ever the answer to the client's own goodbye: phoenix.js does not come back after
/// it.
fn close_code(reason: CloseReason) -> u16 {
    match reason {
        CloseReason::Goodbye => 1000,
        CloseReason::Disconnected | CloseReason::Lost => 1001,
        CloseReason::ProtocolViolation | CloseReason::Idle => 1002,
        CloseReason::NotUtf8 => 1007,
        CloseReason::EmptyFragment => 1008,
        CloseReason::TooBig => 1009,
        CloseReason::Undecodable | CloseReason::Crashed => 1011,
        CloseReason::Draining => 1012,
        CloseReason::SlowConsumer | CloseReason::NoRoom | CloseReason::Displaced => 1013,
    }
}
