//! [`HandleIn`] and [`StopReason`]: how a callback answers its client or ends its channel.

use std::borrow::Cow;

use crate::message::{IntoPayload, Reply};

/// The answer of `handle_in` if nothing has failed.
///
/// ```
/// use slackir::channel::{HandleIn, StopReason};
/// use slackir::message::Reply;
///
/// let bye = HandleIn::StopReply(StopReason::Normal, Reply::ok(serde_json::json!({})));
/// # let _ = bye;
/// ```
#[derive(Clone, Debug)]
pub enum HandleIn {
    /// Nothing is sent to the client.
    NoReply,
    /// The client receives this reply.
    Reply(Reply),
    /// The channel ends.
    Stop(StopReason),
    /// The client receives this reply, then the channel ends.
    StopReply(StopReason, Reply),
}

impl HandleIn {
    /// The client receives ok with this response; [`Payload::EMPTY`](crate::message::Payload::EMPTY) if there is none.
    ///
    /// # Panics
    /// If the response has no JSON form.
    ///
    /// ```
    /// # use slackir::channel::HandleIn;
    /// let answer = HandleIn::ok(serde_json::json!({"sum": 3}));
    /// # let _ = answer;
    /// ```
    pub fn ok(response: impl IntoPayload) -> Self {
        Reply::ok(response).into()
    }

    /// The client receives error with this response.
    ///
    /// # Panics
    /// If the response has no JSON form.
    ///
    /// ```
    /// # use slackir::channel::HandleIn;
    /// let answer = HandleIn::error(serde_json::json!({"reason": "too long"}));
    /// # let _ = answer;
    /// ```
    pub fn error(response: impl IntoPayload) -> Self {
        Reply::error(response).into()
    }
}

impl From<Reply> for HandleIn {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Why a channel ends. Phoenix's exit reasons, as [`Channel::terminate`](super::Channel::terminate) sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// `:normal`: the channel is done. The client receives `phx_close`.
    Normal,
    /// `:shutdown`: asked to end. The client receives `phx_close`.
    Shutdown,
    /// `{:shutdown, :left}`: the client left.
    Left,
    /// `{:shutdown, :local_closed}`: the client closed its connection.
    LocalClosed,
    /// `{:shutdown, :peer_closed}`: the connection was lost.
    PeerClosed,
    /// `{:shutdown, :read_timeout}`: the connection was idle for too long.
    ReadTimeout,
    /// `{:shutdown, :disconnected}`: a `disconnect` broadcast on the socket's id.
    Disconnected,
    /// `:inactive`: the client did not come for its messages in time.
    Expired,
    /// `:draining`: the server is going down.
    Draining,
    /// The connection broke the protocol, or its client did not read; the text names the fault.
    Aborted(&'static str),
    /// Any other reason of the application. The client receives `phx_error`.
    Error(Cow<'static, str>),
    /// A callback panicked with this message. The client receives `phx_error`.
    Panicked(Cow<'static, str>),
}

impl StopReason {
    /// An error of the application's own.
    ///
    /// ```
    /// # use slackir::channel::StopReason;
    /// assert!(StopReason::error("the game is over").is_crash());
    /// ```
    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(reason.into())
    }

    /// The crash of a channel without a clause for this event.
    pub(super) fn unhandled(event: &str) -> Self {
        Self::error(format!("no handler for event {event:?}"))
    }

    /// Whether the client's connection has ended, and nobody has asked for the end of the channel: the client may come
    /// back.
    pub(crate) fn is_lost_connection(&self) -> bool {
        match self {
            Self::LocalClosed
            | Self::PeerClosed
            | Self::ReadTimeout
            | Self::Expired
            | Self::Aborted(_) => true,
            Self::Normal
            | Self::Shutdown
            | Self::Left
            | Self::Disconnected
            | Self::Draining
            | Self::Error(_)
            | Self::Panicked(_) => false,
        }
    }

    /// Whether the client receives `phx_error`.
    ///
    /// ```
    /// # use slackir::channel::StopReason;
    /// assert!(!StopReason::Left.is_crash());
    /// ```
    pub fn is_crash(&self) -> bool {
        matches!(self, Self::Error(_) | Self::Panicked(_))
    }
}
