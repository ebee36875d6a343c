//! What the tests stand on: servers to start, clients to talk to them, recorded scenarios to play.

pub(crate) mod api;
pub(crate) mod backend;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
pub(crate) mod bus;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
pub(crate) mod cluster;
#[cfg(feature = "otel")]
pub(crate) mod collector;
pub(crate) mod database;
pub(crate) mod jwt;
pub(crate) mod longpoll;
pub(crate) mod masked;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
pub(crate) mod node;
pub(crate) mod openapi;
pub(crate) mod operator;
pub(crate) mod peer;
pub(crate) mod phoenix;
mod playable;
pub(crate) mod poller;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod reload;
pub(crate) mod rooms;
pub(crate) mod scenario;
pub(crate) mod server;
pub(crate) mod swarm;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod wire;

#[path = "../../../examples/conformance/app.rs"]
pub(crate) mod conformance_app;
