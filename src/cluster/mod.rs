//! The nodes of a cluster: what they send each other, and over what.
//!
//! | file | content |
//! | --- | --- |
//! | `bus` | the ports: [`Bus`] carries messages, [`Sequencer`] gives them their order, [`Events`] hears both |
//! | `end_on_panic` | a node without its bus must not go on |
//! | `wire` | the messages, and their encoding |
//! | `replica` | a topic's log fed from outside: what to show, what to read again |
//! | `follower` | a strict topic's log, whose order the database gives |
//! | `redis` | the bus on Redis |
//! | `nats` | the bus on NATS, which gives no order |
//! | `phoenix` | the messages of a Phoenix application on the same Redis |
//! | `topics`, `counters`, `backoff`, `outage`, `finding` | what both have in common |
//!
//! Who drives them is `pubsub::cluster`.

mod backoff;
mod bus;
mod counters;
mod end_on_panic;
mod finding;
pub(crate) mod follower;
#[cfg(feature = "nats")]
pub(crate) mod nats;
mod outage;
pub(crate) mod phoenix;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod replica;
#[cfg(all(test, any(feature = "redis", feature = "nats")))]
mod tests;
mod topics;
pub(crate) mod wire;

pub(crate) use self::bus::{
    Answer, Away, Bus, Entrance, Events, NodeId, Position, ProcessId, Sequencer, To,
};
pub(crate) use self::end_on_panic::EndOnPanic;
#[cfg(feature = "server")]
pub(crate) use self::finding::Finding;
