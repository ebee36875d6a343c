//! The actors of which a connection has one and each of its channels another: actix's own, in a context that takes a
//! fifth of the memory of [`actix::Context`], and run by one task for each thread instead of a task for each actor.
//!
//! `context` is the actor's side, `mailbox` is made when the actor's address is asked for, `scheduler` runs the actors of
//! a thread, and `marks` tells it which of them have work.

mod context;
mod mailbox;
mod marks;
mod scheduler;

pub(crate) use self::context::Context;
pub(crate) use self::mailbox::LazyMailbox;
pub(crate) use self::marks::Marks;
pub(crate) use self::scheduler::put_off;
