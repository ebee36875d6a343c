#![doc = include_str!("../docs/LIBRARY.md")]
#![deny(unsafe_code)]
#![cfg_attr(
    not(all(
        feature = "acme",
        feature = "load",
        feature = "nats",
        feature = "otel",
        feature = "postgres",
        feature = "redis",
        feature = "sqlite",
        feature = "testing"
    )),
    allow(
        dead_code,
        unused_imports,
        reason = "code that only a disabled feature uses is compiled all the same"
    )
)]

#[cfg(not(unix))]
compile_error!("Slackir runs on Unix only. On Windows, build and run it in WSL.");

/// Implements `Debug` for a type with little to show: its name and the given fields.
macro_rules! named_debug {
    ($type:ty $(, $field:ident)*) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let name = stringify!($type).split('<').next().unwrap_or_default();
                f.debug_struct(name)
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    };
}

/// Writes a setter for each given field of an options type; those of `some` set an `Option` to `Some`. The types are
/// non-exhaustive, so that a new option breaks no program: their values are made by `default()` or a constructor, and
/// changed by setters.
macro_rules! setters {
    ($type:ty { $($field:ident: $value:ty),* $(,)? } $(some { $($option:ident: $some:ty),+ $(,)? })?) => {
        impl $type {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](field@Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $value) -> Self {
                    self.$field = $field.into();
                    self
                }
            )*
            $($(
                #[doc = concat!("Sets [`", stringify!($option), "`](field@Self::", stringify!($option), ").")]
                #[must_use]
                pub fn $option(mut self, $option: $some) -> Self {
                    self.$option = Some($option.into());
                    self
                }
            )+)?
        }
    };
}

// Level 0: client addresses, messages, settings, metrics, tokens.
mod actor;
pub mod admission;
pub mod assigns;
pub mod ban;
mod client;
mod deflate;
mod frame;
mod lock;
pub mod message;
mod metrics;
mod notice;
pub mod pattern;
#[cfg(any(feature = "server", feature = "_cluster"))]
mod prefix;
pub mod rate;
pub mod revocation;
mod slow_mode;
pub mod token;
mod trace;
mod waker;

// Level 1: memory budgets, wire bytes, the queue of one connection, the session of a Phoenix application.
mod budget;
mod outbox;
mod serializer;
pub mod session;

// Level 2: the messages that a topic keeps; topics and fan-out; what nodes of a cluster tell each other.
#[cfg(feature = "_cluster")]
mod cluster;
pub mod log;
pub mod pubsub;

// Level 3: one joined topic of one client.
pub mod channel;
mod flow;

// Level 4: presences; one client, many topics.
pub mod presence;
pub mod socket;

// Levels 5 and 6: HTTP and WebSocket frames; sockets mounted on an actix-web App; the shutdown of a server.
pub mod endpoint;
pub mod prelude;
pub mod shutdown;
pub mod transport;

// Outside the levels: channels without a network; parts of the hot path, for their benchmark.
#[cfg(feature = "_bench")]
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "no API")]
#[path = "../benches/instructions/parts.rs"]
pub mod bench;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

// Outside the levels: the database.
#[cfg(feature = "_store")]
pub mod store;

// Level 7: the server, assembled from the other modules.
#[cfg(feature = "server")]
pub mod server;

pub use assigns::Assigns;
pub use endpoint::{Endpoint, Mount, serve, serve_on, serve_with};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the examples of docs/COMING_FROM.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/COMING_FROM.md")]
struct ComingFrom;
