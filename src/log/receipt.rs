//! [`Receipt`]: tells the publisher of a message how the store has settled it.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::id::MessageId;
#[cfg(feature = "_cluster")]
use super::id::{Epoch, Seq};
use crate::message::{Reply, reason};

/// The longest wait of [`Receipt::confirmed`].
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// How the store has settled a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The message is stored.
    Committed,
    /// The message is a retry and is not stored. This message has the same client_ref.
    DuplicateOf(MessageId),
    /// The database rejects the message, now and at every retry.
    Rejected,
}

/// A message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The message's id; for a retry, the id of the first message.
    pub id: MessageId,
    /// Whether the message was already stored under the same client_ref.
    pub duplicate: bool,
}

/// The message will not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStored {
    /// The database rejects the message, now and at every retry.
    #[error("the database rejected the message")]
    Rejected,
    /// The store is gone or too slow. The message may have been stored.
    #[error("the message was not confirmed")]
    Unconfirmed,
}

/// Resolves when a published message is committed.
#[derive(Clone, Debug)]
pub struct Receipt {
    id: MessageId,
    duplicate: bool,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Receipt {
    /// A receipt for the message `id`. `sender` sends the outcome.
    pub(super) fn pending(id: MessageId, sender: &watch::Sender<Option<Outcome>>) -> Self {
        Self {
            id,
            duplicate: false,
            outcome: sender.subscribe(),
        }
    }

    /// A receipt for a message that is already stored.
    pub(crate) fn stored(id: MessageId) -> Self {
        // The receiver keeps the value after the sender is dropped.
        let (_, outcome) = watch::channel(Some(Outcome::Committed));
        Self {
            id,
            duplicate: false,
            outcome,
        }
    }

    /// A receipt for a message that never gets an id, because the database rejects it.
    #[cfg(feature = "_cluster")]
    pub(crate) fn rejected() -> Self {
        let (_, outcome) = watch::channel(Some(Outcome::Rejected));
        Self {
            id: MessageId::new(Epoch::default(), Seq::ZERO),
            duplicate: false,
            outcome,
        }
    }

    /// A receipt whose outcome comes later, through the sender.
    #[cfg(feature = "_cluster")]
    pub(crate) fn later(id: MessageId) -> (watch::Sender<Option<Outcome>>, Self) {
        let sender = watch::Sender::new(None);
        let receipt = Self::pending(id, &sender);
        (sender, receipt)
    }

    /// Waits until the message is settled. `None` if the store has ended without that.
    #[cfg(feature = "_cluster")]
    pub(crate) async fn outcome(mut self) -> Option<Outcome> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| *outcome)
    }

    /// The same receipt, for a retry.
    pub(crate) fn of_duplicate(self) -> Self {
        Self {
            duplicate: true,
            ..self
        }
    }

    /// The id of the message.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Waits until the message is committed. Set a time limit: the wait lasts as long as the database is
    /// unreachable.
    ///
    /// # Errors
    /// If the database rejected the message, or if the store has ended without settling it.
    pub async fn committed(mut self) -> Result<Stored, NotStored> {
        let outcome = self
            .outcome
            .wait_for(Option::is_some)
            .await
            .map_err(|_| NotStored::Unconfirmed)?;
        let (id, duplicate) = match *outcome {
            Some(Outcome::Committed) => (self.id, self.duplicate),
            Some(Outcome::DuplicateOf(first)) => (first, true),
            Some(Outcome::Rejected) => return Err(NotStored::Rejected),
            None => return Err(NotStored::Unconfirmed),
        };
        Ok(Stored { id, duplicate })
    }

    /// Like [`Receipt::committed`], for at most 10 seconds.
    ///
    /// # Errors
    /// As [`Receipt::committed`]; also after 10 seconds. The message may still be stored later.
    pub async fn confirmed(self) -> Result<Stored, NotStored> {
        tokio::time::timeout(CONFIRM_TIMEOUT, self.committed())
            .await
            .unwrap_or(Err(NotStored::Unconfirmed))
    }

    /// Waits as [`Receipt::confirmed`] does, and makes the reply to the client: ok with the message's `id`,
    /// and with `"duplicate": true` for a retry; error `rejected`; or error `unconfirmed`, after which the
    /// message may still be stored.
    pub async fn reply(self) -> Reply {
        match self.confirmed().await {
            Ok(Stored {
                id,
                duplicate: false,
            }) => Reply::ok(json!({ "id": id.to_string() })),
            Ok(Stored {
                id,
                duplicate: true,
            }) => Reply::ok(json!({ "id": id.to_string(), "duplicate": true })),
            Err(NotStored::Rejected) => Reply::error_because(reason::REJECTED),
            Err(NotStored::Unconfirmed) => Reply::error_because(reason::UNCONFIRMED),
        }
    }
}
