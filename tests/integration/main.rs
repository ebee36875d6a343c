//! Everything that needs a server: one binary, one module for each area of behaviour.

mod api;
mod api_refusals;
mod channel_api;
mod chat;
mod cli;
mod config_file;
mod conformance;
mod connect;
mod crashes;
mod endings;
mod erase;
mod export;
mod faults;
mod frames;
mod hanging_up;
mod kills;
mod limits;
mod longpoll;
mod longpoll_answers;
mod order;
mod plug_session;
#[cfg(feature = "postgres")]
mod postgres;
mod presence;
mod replies;
mod restart;
mod resume;
mod resume_exact;
mod retention;
mod siblings;
mod socket_rules;
mod spool;
mod store;
mod support;
mod testing;
mod writer;
