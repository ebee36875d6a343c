//! The names that most programs with channels need: `use slackir::prelude::*;`.

pub use crate::assigns::Assigns;
pub use crate::channel::{
    Channel, Context, Failure, HandleIn, HandleInResult, Handled, HistoryMode, Join, JoinResult,
    LogRequest, Refused, SocketRef, StopReason, Timer,
};
pub use crate::endpoint::{Endpoint, Mount};
pub use crate::log::{LogRule, MessageStore};
pub use crate::message::{Binary, InvalidPayload, Payload, Reply};
pub use crate::presence::Presence;
pub use crate::pubsub::{Broadcast, Draft, PubSub};
pub use crate::socket::{ConnectInfo, ConnectRefused, Params, Socket, SocketOptions, SocketRouter};
