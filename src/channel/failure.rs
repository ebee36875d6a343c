//! [`Failure`]: a callback refuses the client's request with an error reply, or ends the channel.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::json;

use super::{SendError, StopReason};
use crate::message::{IntoPayload, InvalidPayload, Payload, reason};
use crate::pubsub::PublishError;
use crate::rate;

/// The client's request is refused: it receives error with this reply, and the channel goes on. A
/// refused join makes no channel.
///
/// ```
/// use slackir::channel::Refused;
///
/// let refused = Refused::because("unauthorized");
/// assert_eq!(refused.to_string(), r#"refused: {"reason":"unauthorized"}"#);
/// let refused = Refused::new(serde_json::json!({"reason": "too many", "most": 3}));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub(super) Payload);

impl Refused {
    /// Refused with any reply.
    ///
    /// # Panics
    /// If the reply has no JSON form.
    pub fn new(reply: impl IntoPayload) -> Self {
        Self(reply.into_payload())
    }

    /// The reply.
    pub(crate) fn response(&self) -> &Payload {
        &self.0
    }

    /// Refused with `{"reason": "rate limited", "retry_after_ms": wait}`, in whole milliseconds, and with the name of
    /// the limit if it has one.
    pub(crate) fn rate_limited(limit: Option<&str>, wait: Duration) -> Self {
        let mut reply = json!({
            "reason": reason::RATE_LIMITED,
            "retry_after_ms": rate::retry_after_ms(wait),
        });
        if let Some(limit) = limit {
            reply["limit"] = limit.into();
        }
        Self::new(reply)
    }

    /// Refused with `{"reason": "muted", "retry_after_ms": left}`.
    pub(crate) fn muted(left: Duration) -> Self {
        Self::new(json!({
            "reason": reason::MUTED,
            "retry_after_ms": rate::retry_after_ms(left),
        }))
    }

    /// Refused with `{"reason": reason}`.
    pub fn because(reason: &str) -> Self {
        Self::new(json!({ "reason": reason }))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Payload::Json(json) => write!(f, "refused: {}", json.get()),
            Payload::Binary(data) => write!(f, "refused with {} bytes", data.len()),
        }
    }
}

impl Error for Refused {}

/// `{"reason": "invalid payload", "field": .., "detail": ..}`; without `field` if the fault is the whole payload's.
impl From<InvalidPayload> for Refused {
    fn from(invalid: InvalidPayload) -> Self {
        let mut reply = json!({ "reason": reason::INVALID_PAYLOAD, "detail": invalid.detail() });
        if let Some(field) = invalid.field() {
            reply["field"] = field.into();
        }
        Self::new(reply)
    }
}

/// `{"reason": "storage unavailable", "retry_after_ms": ..}` if the database cannot take the message, else
/// the error's text as the reason.
impl From<PublishError> for Refused {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::StoreFull(full) => Self::new(json!({
                "reason": reason::STORAGE_UNAVAILABLE,
                "retry_after_ms": full.retry_after_ms,
            })),
            other => Self::because(&other.to_string()),
        }
    }
}

/// `join` or `handle_in` fails. `?` makes a `Failure` of any type that implements `std::error::Error`
/// (`Box<dyn Error>` and `anyhow::Error` do not):
///
/// | error | result |
/// | --- | --- |
/// | [`Refused`] | the client receives the error reply |
/// | [`InvalidPayload`], of [`Payload::parse`] | the same, with the field that is wrong |
/// | [`PublishError`], and a [`SendError`] that holds one | the same: nobody has received the message, unless the reason is `unconfirmed` |
/// | a [`StopReason`] | the channel ends for this reason |
/// | any other | the channel crashes, as in Phoenix; the client receives `phx_error`, the log the error |
///
/// ```
/// use slackir::channel::{Failure, Refused};
///
/// fn age(text: &str) -> Result<u32, Failure> {
///     let age: u32 = text.parse()?; // no reply for that: the channel would crash
///     if age < 18 {
///         return Err(Refused::because("too young").into());
///     }
///     Ok(age)
/// }
/// assert!(matches!(age("7"), Err(Failure::Refused(_))));
/// assert!(matches!(age("x"), Err(Failure::Stop(reason)) if reason.is_crash()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The client receives error with this reply.
    Refused(Refused),
    /// The channel ends. In `join` that is a crash, whatever the reason.
    Stop(StopReason),
    /// The channel has no clause for this event and crashes, as in Phoenix. The log has it as the client's mistake.
    Unhandled(String),
}

impl Failure {
    /// No clause for this event: the channel crashes, as in Phoenix.
    ///
    /// ```
    /// use slackir::channel::Failure;
    ///
    /// let failure = Failure::unhandled("sing");
    /// assert_eq!(failure, Failure::Unhandled("sing".to_owned()));
    /// ```
    pub fn unhandled(event: &str) -> Self {
        Self::Unhandled(event.to_owned())
    }
}

impl From<StopReason> for Failure {
    fn from(reason: StopReason) -> Self {
        Self::Stop(reason)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        match refusal(&error) {
            Some(refused) => Self::Refused(refused),
            None => Self::Stop(error.into()),
        }
    }
}

/// A crash with the error and its sources as the reason.
impl<E: Error + 'static> From<E> for StopReason {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        Self::error(text)
    }
}

/// The reply to an error that the client may know.
fn refusal(error: &dyn Any) -> Option<Refused> {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return Some(refused.clone());
    }
    if let Some(invalid) = error.downcast_ref::<InvalidPayload>() {
        return Some(invalid.clone().into());
    }
    let publish = error.downcast_ref::<PublishError>();
    let sent = error.downcast_ref::<SendError>();
    let publish = publish.or_else(|| match sent? {
        SendError::Publish(error) => Some(error),
        _ => None,
    });
    publish.map(|&error| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StoreFull;

    #[derive(Debug, thiserror::Error)]
    #[error("the cart is gone")]
    struct Gone(#[source] fmt::Error);

    #[test]
    fn errors_that_nobody_turned_into_a_reply_crash_with_their_sources() {
        let failure = Failure::from(Gone(fmt::Error));
        let text = "the cart is gone: an error occurred when formatting an argument";
        assert_eq!(failure, Failure::Stop(StopReason::error(text)));
    }

    #[test]
    fn the_stores_refusal_is_the_clients_answer_also_inside_a_send_error() {
        let full = PublishError::StoreFull(StoreFull {
            retry_after_ms: 250,
        });
        let want = json!({"reason": "storage unavailable", "retry_after_ms": 250});
        let want = Failure::Refused(Refused::new(want));
        assert_eq!(Failure::from(full), want);
        assert_eq!(Failure::from(SendError::Publish(full)), want);
        assert!(matches!(SendError::NotJoined.into(), Failure::Stop(_)));
    }
}
