//! How the WebSocket transport ends a connection: one row for each [`CloseReason`], the same for both drivers.
//!
//! A long-polling client learns no reason: when its session ends, a poll that waits is answered without messages
//! (204) and its next request with 410, upon which it connects again. So `longpoll` has no row here.

use crate::frame::{Frame, Opcode};
use crate::outbox::{CloseReason, Outbox};
use crate::socket::ConnectionEnd;

/// The last frame to a client whose outbox is closed.
pub(super) fn close_frame(outbox: &Outbox) -> Frame {
    let reason = outbox.closed().unwrap_or(CloseReason::Goodbye);
    let text = match reason {
        CloseReason::TokenExpired => "token expired",
        CloseReason::TokenRevoked => "token revoked",
        CloseReason::Banned => "banned",
        _ => "",
    };
    let code = close_code(reason).to_be_bytes();
    Frame::new(Opcode::Close, &[&code, text.as_bytes()].concat())
}

/// Whether the client would not read a close frame: a driver that owns the stream resets it instead.
pub(super) fn is_deaf(reason: CloseReason) -> bool {
    reason == CloseReason::SlowConsumer
}

/// The close codes of Phoenix on Bandit. 1000 only ever answers the client's own goodbye: phoenix.js does not
/// come back after it.
fn close_code(reason: CloseReason) -> u16 {
    match reason {
        CloseReason::Goodbye => 1000,
        CloseReason::Disconnected | CloseReason::Lost => 1001,
        CloseReason::ProtocolViolation | CloseReason::Idle => 1002,
        CloseReason::NotUtf8 | CloseReason::Corrupt => 1007,
        CloseReason::EmptyFragment
        | CloseReason::TokenExpired
        | CloseReason::TokenRevoked
        | CloseReason::Banned => 1008,
        CloseReason::TooBig => 1009,
        CloseReason::Undecodable | CloseReason::Crashed => 1011,
        CloseReason::Draining => 1012,
        CloseReason::SlowConsumer | CloseReason::NoRoom | CloseReason::Displaced => 1013,
    }
}

/// The end by a client's close frame. A code that no client may send is a violation.
pub(super) fn asked_by(code: Option<u16>) -> ConnectionEnd {
    match code {
        None | Some(1000..=1003 | 1007..=1011 | 3000..=4999) => ConnectionEnd::Goodbye,
        Some(_) => ConnectionEnd::Violation,
    }
}
