//! Everything that needs a server: one binary, one module for each area of behaviour.

mod channel_api;
mod chat;
mod cli;
mod conformance;
mod connect;
mod crashes;
mod faults;
mod limits;
mod longpoll;
mod order;
#[cfg(feature = "postgres")]
mod postgres;
mod presence;
mod resume;
mod socket_rules;
mod store;
mod support;
mod testing;
