//! HTTP in, frames out. Phoenix: `Phoenix.Socket.Transport`, `Phoenix.Transports.WebSocket`.
//!
//! Only this module knows HTTP, the WebSocket frames of clients, and close codes. It has one driver for
//! each kind of stream. A driver gives the SocketServer a stream of `Incoming`, and sends the frames of the
//! connection's outbox.
//!
//! WebSocket has two drivers. Any actix-web `HttpServer`, with or without TLS, serves a mounted endpoint
//! ([`Endpoint::routes`](crate::Endpoint::routes)) through actix-ws. Under [`direct::serve`] the server
//! owns the sockets of the same `App`, and each connection takes a fraction of the memory.

mod arrived;
mod content_coding;
mod cookie;
mod decoder;
mod delivery;
pub mod direct;
mod edge;
mod ending;
mod extensions;
mod forwarded;
mod frame_scanner;
mod handshake;
mod head;
#[cfg(any(feature = "server", feature = "testing"))]
mod in_process;
mod longpoll;
#[cfg(feature = "_cluster")]
mod longpoll_elsewhere;
mod longpoll_server;
#[cfg(not(feature = "_cluster"))]
mod no_neighbours;
#[cfg(not(feature = "tls"))]
mod no_tls;
mod origin;
mod query;
mod reader;
mod refusal;
mod stream;
mod subprotocol;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod unfinished;
mod upgrade;
mod websocket;

#[cfg(feature = "server")]
pub(crate) use self::forwarded::client_address;
pub use self::handshake::{ConnectInfoKey, ErrorHandler, HandshakeOptions, Serializers};
pub(crate) use self::handshake::{Mounted, RequestHook};
#[cfg(any(feature = "server", feature = "testing"))]
pub(crate) use self::in_process::InProcess;
pub use self::longpoll::LongPollOptions;
pub(crate) use self::longpoll::{LongPoll, serve as serve_longpoll};
#[cfg(not(feature = "_cluster"))]
use self::no_neighbours as longpoll_elsewhere;
#[cfg(not(feature = "tls"))]
use self::no_tls as tls;
pub use self::origin::{
    CheckOrigin, HostName, InvalidHost, InvalidOrigin, OriginCheck, OriginPattern, SharedOrigin,
};
#[cfg(feature = "server")]
pub(crate) use self::query::parse as parse_query;
pub use self::tcp::{CLOSE_LINGER, on_connect, on_connect_counted, tune};
pub(crate) use self::upgrade::upgrade;
