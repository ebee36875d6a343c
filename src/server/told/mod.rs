//! What rooms tell the application's backend: notices about members and saved messages. Nobody waits for the backend.
//!
//! Rooms put notices about members into the [`Teller`], a bounded queue. The [`TellTask`] makes batches of them and of
//! the committed messages, and sends one batch at a time until the backend has taken it. It does not know how a
//! request is made: `server::hook` does. docs/HOOK.md is the reference.

mod notice;
mod occupancy;
#[cfg(feature = "_store")]
mod task;
mod teller;

pub(crate) use self::notice::ToldMember;
#[cfg(feature = "_store")]
pub(crate) use self::task::TellTask;
pub(crate) use self::teller::Teller;
