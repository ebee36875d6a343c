#![doc = include_str!("../docs/LIBRARY.md")]
#![deny(unsafe_code)]
#![cfg_attr(
    not(all(feature = "server", feature = "sqlite", feature = "testing")),
    allow(
        dead_code,
        reason = "what only a feature uses that is off is there all the same"
    )
)]

/// `Debug` for a type whose inside says little: its name, and these fields.
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

// Level 0: who clients are, what travels, settings, numbers.
pub mod admission;
pub mod assigns;
mod client;
mod frame;
pub mod message;
mod metrics;
pub mod rate;
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
#[expect(missing_debug_implementations, reason = "no API")]
pub mod bench;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

// Beside: the database.
#[cfg(feature = "_store")]
pub mod store;

// Level 7: the server put together.
#[cfg(feature = "server")]
pub mod server;

pub use assigns::Assigns;
pub use endpoint::{Endpoint, Mount, serve, serve_with};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
