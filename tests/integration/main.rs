//! Everything that needs a server: one binary, one module for each area of behaviour.

mod chat;
mod cli;
mod conformance;
mod crashes;
mod faults;
mod limits;
mod order;
mod store;
mod support;
