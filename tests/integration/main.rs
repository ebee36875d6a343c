//! Everything that needs a server: one binary, one module for each area of behaviour.

mod channel_api;
mod chat;
mod cli;
mod conformance;
mod connect;
mod crashes;
mod endings;
mod faults;
mod frames;
mod hanging_up;
mod limits;
mod longpoll;
mod longpoll_answers;
mod order;
mod plug_session;
mod presence;
mod replies;
mod socket_rules;
mod spool;
mod store;
mod support;
mod testing;
