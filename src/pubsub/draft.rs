//! [`Draft`]: a message to publish, and what becomes of it.

use std::sync::Arc;

use bytestring::ByteString;

use super::fastlane::Direction;
use super::topic::Topic;
use super::{PublishError, Selector};
use crate::log::{Change, MessageId, WithId};
use crate::message::{IntoPayload, MAX_NAME_LEN, PHX_CLOSE, Payload, RawJson};

/// The longest client_ref, in bytes.
pub(super) const MAX_CLIENT_REF: usize = 64;
/// The event of a [`Draft::update`].
const MESSAGE_UPDATED: &str = "message_updated";
/// The event of a [`Draft::delete`].
pub(super) const MESSAGE_DELETED: &str = "message_deleted";

/// Whether an event of this name changes a stored message.
#[cfg(feature = "_cluster")]
pub(super) fn is_change(event: &str) -> bool {
    [MESSAGE_UPDATED, MESSAGE_DELETED].contains(&event)
}

/// A message to publish, with instructions for the topic's log.
///
/// ```
/// use slackir::pubsub::Draft;
///
/// let draft = Draft::new("shout", serde_json::json!({"message": "hi"}))
///     .client_ref("c81d")
///     .with_receipt();
/// ```
#[derive(Clone)]
pub struct Draft {
    pub(super) event: ByteString,
    pub(super) payload: Payload,
    pub(super) client_ref: Option<String>,
    pub(super) change: Option<Change>,
    pub(super) receipt: bool,
    /// Makes the payload of the message's id.
    pub(super) with_id: Option<Arc<WithId>>,
    is_live: bool,
    /// `None`: to all members.
    pub(super) direction: Option<Direction>,
}

named_debug!(
    Draft, event, payload, client_ref, change, receipt, is_live, direction
);

impl Draft {
    /// An ordinary broadcast. It is stored if the topic's log rule names its event.
    pub fn new(event: &str, payload: impl IntoPayload) -> Self {
        Self {
            event: event.into(),
            payload: payload.into_payload(),
            client_ref: None,
            change: None,
            receipt: false,
            with_id: None,
            is_live: false,
            direction: None,
        }
    }

    /// A broadcast whose payload holds its own id: `payload` makes a JSON object of it. It is called inside the
    /// topic's critical section, so it must be quick and must not publish. A message that is not stored gets
    /// a random id.
    ///
    /// ```
    /// use serde_json::json;
    /// use slackir::message::RawJson;
    /// use slackir::pubsub::Draft;
    ///
    /// let draft = Draft::with_id("shout", |id| RawJson::from(json!({"id": id, "message": "hi"})));
    /// ```
    pub fn with_id(event: &str, payload: impl Fn(&str) -> RawJson + Send + Sync + 'static) -> Self {
        Self {
            with_id: Some(Arc::new(payload)),
            ..Self::new(event, Payload::EMPTY)
        }
    }

    /// An update of a stored message: the broadcast `message_updated` with `{"id": .., "payload": ..}`,
    /// which is a message of the topic itself. The caller must make sure that the message exists.
    pub fn update(id: MessageId, payload: &RawJson) -> Self {
        let payload = RawJson::EMPTY_OBJECT
            .with_last("id", format_args!("\"{id}\""))
            .with_last("payload", payload.get());
        Self {
            change: Some(Change::Update { target: id.seq }),
            ..Self::new(MESSAGE_UPDATED, Payload::Json(payload))
        }
    }

    /// The deletion of a stored message: the broadcast `message_deleted` with `{"id": ..}`.
    pub fn delete(id: MessageId) -> Self {
        Self {
            change: Some(Change::Delete { target: id.seq }),
            ..Self::new(MESSAGE_DELETED, serde_json::json!({ "id": id.to_string() }))
        }
    }

    /// Sets the client's own name for the message, of at most 64 bytes. A topic stores each name once: a
    /// second message with the same name is a retry, and gets the receipt of the first.
    pub fn client_ref(mut self, client_ref: impl Into<String>) -> Self {
        self.client_ref = Some(client_ref.into());
        self
    }

    /// Asks for a receipt.
    pub fn with_receipt(mut self) -> Self {
        self.receipt = true;
        self
    }

    /// Is not stored, whatever the rule of the topic's log says: a typing notice, a cursor.
    pub fn live(mut self) -> Self {
        self.is_live = true;
        self
    }

    /// Goes to the selected members alone, and is not stored: a history belongs to all members.
    pub fn to(mut self, selector: Selector) -> Self {
        self.direction = Some(Direction::To(Arc::new(selector)));
        self.live()
    }

    /// Ends the channels of members.
    pub(super) fn close(to: Option<Selector>) -> Self {
        Self {
            direction: Some(Direction::Close(to.map(Arc::new))),
            ..Self::new(PHX_CLOSE, Payload::EMPTY).live()
        }
    }

    /// The event.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The payload.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Whether the topic's log takes it.
    pub(super) fn is_stored(&self, topic: &Topic) -> bool {
        self.change.is_some() || !self.is_live && topic.stores(&self.event)
    }

    /// The same message, with the payload that goes to all nodes if it is not stored.
    pub(super) fn made(&self) -> Self {
        Self {
            payload: self.live_payload(),
            with_id: None,
            ..self.clone()
        }
    }

    /// The payload of a message that is not stored.
    pub(super) fn live_payload(&self) -> Payload {
        match &self.with_id {
            None => self.payload.clone(),
            Some(make) => {
                // Without the system's randomness ids repeat, and nothing is stored under them.
                let random = getrandom::u64().unwrap_or_default();
                Payload::Json(make(&format!("{random:x}")))
            }
        }
    }

    /// Refuses a message that is invalid, or that some member could not receive.
    pub(super) fn check(&self, topic: &Topic) -> Result<(), PublishError> {
        if let Some(client_ref) = &self.client_ref {
            if client_ref.len() > MAX_CLIENT_REF {
                return Err(PublishError::ClientRefTooLong);
            }
            if client_ref.contains('\0') {
                return Err(PublishError::NulInClientRef);
            }
        }
        if self.change.is_some() && !topic.has_log() {
            return Err(PublishError::NoLog);
        }
        match &self.payload {
            Payload::Json(json) if json.is_object() => Ok(()),
            Payload::Json(_) => Err(PublishError::NotAnObject),
            Payload::Binary(_) if self.is_stored(topic) => Err(PublishError::NotStorable),
            Payload::Binary(_) if topic.name().len().max(self.event.len()) > MAX_NAME_LEN => {
                Err(PublishError::NameTooLong)
            }
            Payload::Binary(_) => Ok(()),
        }
    }
}
