//! The hook: the application's backend decides about connections, joins and events over HTTP.
//!
//! [`Hook`] makes one signed call and reads its answer strictly: an answer that is not understood completely is
//! refused whole. It does not know what an answer does to a room: `server::rooms` carries it out. docs/HOOK.md is the
//! reference.

mod answer;
mod client;
mod deny;
mod failure;
mod request;
mod signature;

pub(crate) use self::answer::{HookAction, HookAnswer, Receivers, Verdict};
pub(crate) use self::client::Hook;
pub use self::client::HookError;
pub(crate) use self::deny::DenyKey;
pub(crate) use self::failure::CallFailure;
#[cfg(feature = "_store")]
pub(crate) use self::request::WrittenBatch;
pub(crate) use self::request::{Call, CallKind, PassedHeaders, WrittenCall, millis};
