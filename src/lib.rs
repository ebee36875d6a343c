#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

// Level 0: who clients are, what travels, settings, numbers.
pub mod admission;
pub mod assigns;
mod client;
pub mod config;
pub mod console;
mod frame;
pub mod message;
pub mod metrics;
pub mod rate;
pub mod telemetry;
pub mod token;
mod waker;

// Level 1: totals of the process, wire bytes, the queue of one connection, the session of a Phoenix application.
mod budget;
mod outbox;
mod serializer;
pub mod session;

// Level 2: topics and fan-out.
pub mod pubsub;

// Level 3: one joined topic of one client.
pub mod channel;
mod flow;

// Level 4: who is here; one client, many topics.
pub mod presence;
pub mod socket;

// Levels 5 and 6: HTTP in, frames out; sockets mounted on an actix-web App; the end of a server.
pub mod endpoint;
pub mod prelude;
pub mod shutdown;
pub mod transport;

// Beside: channels without a network; the hot path's parts, for their bench.
#[cfg(feature = "_bench")]
#[doc(hidden)]
pub mod bench;
pub mod testing;

// Beside: the database.
#[cfg(feature = "_store")]
pub mod store;

// Levels 7 and 8: the application, and the server put together.
pub mod admin;
#[cfg(feature = "_store")]
pub mod api;
pub mod chat;
#[cfg(feature = "_store")]
pub mod data_command;
mod methods;
#[cfg(feature = "_store")]
pub mod serve;
pub mod token_command;

pub use assigns::Assigns;
pub use endpoint::{Endpoint, Mount};
