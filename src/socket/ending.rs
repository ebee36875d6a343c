//! [`ConnectionEnd`]: the reasons for the end of a connection, with the reason for its client and the one for its
//! channels, in one table for all transports. The close codes are in `transport::ending`.

use super::Sign;
use crate::channel::StopReason;
use crate::metrics::End;
use crate::outbox::{CloseReason, Interrupt};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// The client closed its connection.
    Goodbye,
    /// The connection was lost.
    Lost,
    /// The client sent no byte for too long.
    Idle,
    /// The client did not poll in time.
    Expired,
    /// The client did not end a message in time.
    Unfinished,
    /// The client does not read.
    SlowConsumer,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A compressed message that cannot be inflated.
    Corrupt,
    /// A frame or a fragmented message over its limit.
    TooBig,
    /// The unfinished messages of all clients are over their bound.
    NoRoom,
    /// The client broke the rules of its transport.
    Violation,
    /// A message that the serializer cannot decode.
    Undecodable,
    /// A continuation frame without content.
    EmptyFragment,
    /// A `disconnect` broadcast on the socket's id.
    Disconnected,
    /// The time of the connection's `Expiry` has come.
    TokenExpired,
    /// The connection's `Permit` does not hold.
    TokenRevoked,
    /// The client's user or address is banned.
    Banned,
    /// The server is full, and the client has joined nothing.
    Displaced,
    /// The server is going down.
    Draining,
    /// The connection's actor panicked.
    Crashed,
}

/// The place of the end, if the client is ahead of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timing {
    /// Behind the messages that the client sent before.
    Behind,
    /// At once: nobody is left to read the answers.
    AtOnce,
}

impl ConnectionEnd {
    /// The end of a connection whose reader was interrupted.
    pub(crate) fn of(interrupt: Interrupt, sign: Sign) -> Self {
        match (interrupt, sign) {
            (Interrupt::SlowConsumer, _) => Self::SlowConsumer,
            (Interrupt::Idle, Sign::Bytes) => Self::Idle,
            (Interrupt::Idle, Sign::Polls) => Self::Expired,
            (Interrupt::Unfinished, _) => Self::Unfinished,
            (Interrupt::WriterGone, _) => Self::Lost,
        }
    }

    /// The reason for the client and the log.
    pub(super) fn close(self) -> CloseReason {
        self.row().0
    }

    /// The reason for the channels.
    pub(super) fn stop(self) -> StopReason {
        self.row().1
    }

    /// The label in the metric.
    pub(super) fn label(self) -> End {
        match self {
            Self::Goodbye => End::Client,
            Self::Lost => End::Lost,
            Self::Idle | Self::Expired | Self::Unfinished => End::Idle,
            Self::SlowConsumer => End::SlowConsumer,
            Self::NotUtf8
            | Self::Corrupt
            | Self::Violation
            | Self::Undecodable
            | Self::EmptyFragment => End::Protocol,
            Self::TooBig => End::TooLarge,
            Self::NoRoom | Self::Displaced => End::Limited,
            Self::Disconnected => End::Kicked,
            Self::TokenExpired => End::Expired,
            Self::TokenRevoked | Self::Banned => End::Revoked,
            Self::Draining => End::Drain,
            Self::Crashed => End::Error,
        }
    }

    /// Whether the end waits for the messages that the client sent before it.
    pub(super) fn waits(self) -> bool {
        self.row().2 == Timing::Behind
    }

    /// The table.
    fn row(self) -> (CloseReason, StopReason, Timing) {
        use StopReason::Aborted;
        use Timing::{AtOnce, Behind};
        match self {
            Self::Goodbye => (CloseReason::Goodbye, StopReason::LocalClosed, Behind),
            Self::Lost => (CloseReason::Lost, StopReason::PeerClosed, AtOnce),
            Self::Idle => (CloseReason::Idle, StopReason::ReadTimeout, AtOnce),
            Self::Expired => (CloseReason::Idle, StopReason::Expired, AtOnce),
            Self::Unfinished => (
                CloseReason::Idle,
                Aborted("message not ended in time"),
                AtOnce,
            ),
            Self::SlowConsumer => (CloseReason::SlowConsumer, Aborted("slow consumer"), AtOnce),
            Self::NotUtf8 => (CloseReason::NotUtf8, Aborted("text is not UTF-8"), Behind),
            Self::Corrupt => (CloseReason::Corrupt, Aborted("corrupt compression"), Behind),
            Self::TooBig => (CloseReason::TooBig, Aborted("frame too big"), Behind),
            Self::NoRoom => (
                CloseReason::NoRoom,
                Aborted("no room for the message"),
                Behind,
            ),
            Self::Violation => (
                CloseReason::ProtocolViolation,
                Aborted("protocol violation"),
                Behind,
            ),
            Self::Undecodable => (
                CloseReason::Undecodable,
                Aborted("undecodable message"),
                Behind,
            ),
            Self::EmptyFragment => (
                CloseReason::EmptyFragment,
                Aborted("empty fragment"),
                Behind,
            ),
            Self::Disconnected => (CloseReason::Disconnected, StopReason::Disconnected, AtOnce),
            Self::TokenExpired => (CloseReason::TokenExpired, Aborted("token expired"), AtOnce),
            Self::TokenRevoked => (CloseReason::TokenRevoked, Aborted("token revoked"), AtOnce),
            Self::Banned => (CloseReason::Banned, Aborted("banned"), AtOnce),
            Self::Displaced => (CloseReason::Displaced, StopReason::Disconnected, AtOnce),
            Self::Draining => (CloseReason::Draining, StopReason::Draining, AtOnce),
            Self::Crashed => (CloseReason::Crashed, Aborted("socket crashed"), AtOnce),
        }
    }
}
