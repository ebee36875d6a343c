//! Publishing: what is published, the one critical section, and why it may be refused.

use std::future::poll_fn;
use std::sync::Arc;

use bytestring::ByteString;

use super::log::{Appended, Change, Fate, MessageId, Receipt, StoreFull};
use super::topic::Topic;
use super::worker::{Inbox, Table};
use super::{Broadcast, Listener, Meta, PubSub, SubscriberId};
use crate::message::{IntoPayload, MAX_NAME_LEN, Payload, RawJson};
use crate::metrics::metrics;

/// The longest client_ref, in bytes.
const MAX_CLIENT_REF: usize = 64;
/// Event of a [`Draft::update`].
const MESSAGE_UPDATED: &str = "message_updated";
/// Event of a [`Draft::delete`].
pub(super) const MESSAGE_DELETED: &str = "message_deleted";

/// A message to publish, with what the topic's log is asked to do with it.
///
/// ```
/// use slackir::pubsub::Draft;
///
/// let draft = Draft::new("shout", serde_json::json!({"message": "hi"}))
///     .client_ref("c81d")
///     .with_receipt();
/// ```
#[derive(Clone, Debug)]
pub struct Draft {
    pub(super) event: ByteString,
    pub(super) payload: Payload,
    pub(super) client_ref: Option<String>,
    pub(super) change: Option<Change>,
    pub(super) receipt: bool,
}

impl Draft {
    /// An ordinary broadcast. It is stored if the rule of the topic's log names its event.
    pub fn new(event: &str, payload: impl IntoPayload) -> Self {
        Self {
            event: event.into(),
            payload: payload.into_payload(),
            client_ref: None,
            change: None,
            receipt: false,
        }
    }

    /// Gives a stored message a new payload: `message_updated` with `{"id": .., "payload": ..}`, a
    /// message of the topic like any other. The caller has made sure that the message is there.
    pub fn update(id: MessageId, payload: &RawJson) -> Self {
        let payload = RawJson::EMPTY_OBJECT
            .with_last("id", format_args!("\"{id}\""))
            .with_last("payload", payload.get());
        Self {
            change: Some(Change::Update { target: id.seq }),
            ..Self::new(MESSAGE_UPDATED, Payload::Json(payload))
        }
    }

    /// Deletes a stored message: `message_deleted` with `{"id": ..}`.
    pub fn delete(id: MessageId) -> Self {
        Self {
            change: Some(Change::Delete { target: id.seq }),
            ..Self::new(MESSAGE_DELETED, serde_json::json!({ "id": id.to_string() }))
        }
    }

    /// The client's own name for the message, at most 64 bytes. It is stored once in its topic: a
    /// second message of that name is a retry of the first, and gets the first one's answer.
    pub fn client_ref(mut self, client_ref: impl Into<String>) -> Self {
        self.client_ref = Some(client_ref.into());
        self
    }

    /// Asks to be told when the message is committed.
    pub fn with_receipt(mut self) -> Self {
        self.receipt = true;
        self
    }

    /// Refuses what some member could not be sent.
    fn check(&self, topic: &Topic) -> Result<(), PublishError> {
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
            Payload::Binary(_) if topic.stores(&self.event) => Err(PublishError::NotStorable),
            Payload::Binary(_) if topic.name().len().max(self.event.len()) > MAX_NAME_LEN => {
                Err(PublishError::NameTooLong)
            }
            Payload::Binary(_) => Ok(()),
        }
    }
}

/// A message that was taken.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// What the topic's log knows it by; `None` when it is not stored.
    pub id: Option<MessageId>,
    /// Whether it is a retry of a message that was published before: it was not sent again.
    pub duplicate: bool,
    /// Tells when it is committed; there if the draft asked for it, or has a client_ref, and it is
    /// stored.
    pub receipt: Option<Receipt>,
}

/// Why a broadcast was refused: it was not stored, and nobody received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The payload must be an object or binary, as every Phoenix client expects.
    #[error("a broadcast carries a JSON object or binary")]
    NotAnObject,
    /// Topic or event do not fit the header of a binary frame.
    #[error("topic and event of a binary broadcast have at most {MAX_NAME_LEN} bytes each")]
    NameTooLong,
    /// The rule of the topic's log says that this event is stored, and bytes have no place there.
    #[error("a stored event carries JSON, not binary")]
    NotStorable,
    /// The client_ref is too long.
    #[error("a client_ref has at most {MAX_CLIENT_REF} bytes")]
    ClientRefTooLong,
    /// The topic keeps messages, and no database stores such a name.
    #[error("a topic that keeps messages must not hold NUL")]
    NulInTopic,
    /// No database stores such a client_ref.
    #[error("a client_ref must not hold NUL")]
    NulInClientRef,
    /// There is nothing to change: the topic keeps no log.
    #[error("the topic keeps no messages")]
    NoLog,
    /// The store cannot take the message.
    #[error(transparent)]
    StoreFull(#[from] StoreFull),
    /// The topic's log could not be read, so that no seq can be given.
    #[error("the topic's log is not loaded")]
    NotLoaded,
}

/// What `try_publish` answers when it does not publish.
enum Refusal {
    Evicted,
    Error(PublishError),
}

impl<E: Into<PublishError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What was published, and the inbox of a worker that cannot keep up.
type Taken = (Published, Option<Arc<Inbox>>);

impl PubSub {
    /// Sends a message to every member of a topic, from outside its channels: an HTTP handler, a
    /// background task, another channel. Waits only for the topic's log to be loaded.
    /// Phoenix: `Endpoint.broadcast/3`.
    ///
    /// # Errors
    /// When the message is not one, or the store refuses it; then nobody received it.
    pub async fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), PublishError> {
        let draft = Draft::new(event, payload);
        self.publish_as(None, topic, &draft).await.map(drop)
    }

    /// As [`PubSub::broadcast`], to everybody but `listener`. Phoenix: `broadcast_from/4`.
    ///
    /// # Errors
    /// As [`PubSub::broadcast`].
    pub async fn broadcast_from(
        &self,
        listener: &Listener,
        topic: &str,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), PublishError> {
        let draft = Draft::new(event, payload);
        self.publish_as(Some(listener.id()), topic, &draft)
            .await
            .map(drop)
    }

    /// As [`PubSub::broadcast`], for those who want to know what becomes of the message.
    ///
    /// # Errors
    /// As [`PubSub::broadcast`].
    pub async fn publish(&self, topic: &str, draft: &Draft) -> Result<Published, PublishError> {
        self.publish_as(None, topic, draft).await
    }

    async fn publish_as(
        &self,
        from: Option<SubscriberId>,
        topic: &str,
        draft: &Draft,
    ) -> Result<Published, PublishError> {
        if self.is_unstorable(topic) {
            return Err(PublishError::NulInTopic);
        }
        loop {
            let Some(topic) = self.audience(topic) else {
                return Ok(Published::default());
            };
            topic.load().await.map_err(|_| PublishError::NotLoaded)?;
            match self.try_publish(&topic, draft, from) {
                // The topic was given up between look-up and publish: look again.
                Err(Refusal::Evicted) => {}
                Err(Refusal::Error(error)) => return Err(error),
                Ok((published, congested)) => {
                    // The message is on its way; whoever sends more waits for the slow worker.
                    if let Some(inbox) = congested {
                        poll_fn(|cx| inbox.poll_drained(cx)).await;
                    }
                    return Ok(published);
                }
            }
        }
    }

    /// Sends an event that no rule stores to those who are there now.
    pub(crate) fn broadcast_live(&self, topic: &str, event: &str, payload: &Payload) {
        let draft = Draft::new(event, payload.clone());
        while let Some(topic) = self.audience(topic) {
            match self.try_publish(&topic, &draft, None) {
                Err(Refusal::Evicted) => {}
                Err(Refusal::Error(error)) => {
                    tracing::error!(topic = topic.name(), event, %error, "pubsub.live.refused");
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    /// Publishes on behalf of a member of the topic; `from` is left out. Returns also the inbox of
    /// a worker that cannot keep up, if there is one.
    pub(crate) fn publish_to(
        &self,
        topic: &Arc<Topic>,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Taken, PublishError> {
        let mut topic = Arc::clone(topic);
        loop {
            match self.try_publish(&topic, draft, from) {
                Ok(taken) => return Ok(taken),
                Err(Refusal::Error(error)) => return Err(error),
                // The channel has left, and with it the last member: others may have come since.
                Err(Refusal::Evicted) => match self.audience(topic.name()) {
                    Some(again) => topic = again,
                    None => return Ok(Taken::default()),
                },
            }
        }
    }

    /// The critical section.
    fn try_publish(
        &self,
        topic: &Arc<Topic>,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Taken, Refusal> {
        draft.check(topic)?;
        let table = Table::existing(self.id());
        let mut state = topic.lock();
        if state.evicted {
            return Err(Refusal::Evicted);
        }
        let appended = state.append(topic, draft)?;
        let fate = appended.as_ref().map_or(Fate::Shown, |entry| entry.fate);
        let stored = appended.as_ref().map(|entry| Meta {
            id: entry.id,
            at: entry.at,
        });
        let broadcast = || {
            Arc::new(Broadcast::new(
                topic,
                &draft.event,
                &draft.payload,
                from,
                stored,
            ))
        };
        let congested = match fate {
            Fate::Duplicate => None,
            Fate::Waits => state.wait(broadcast()),
            Fate::Shown => state.deliver(&broadcast(), table.as_deref()),
        };
        drop(state);
        metrics().broadcasts.increment(1);
        if let Some(table) = table {
            table.drain();
        }
        Ok((
            appended.map_or_else(Published::default, Published::from),
            congested,
        ))
    }
}

impl From<Appended> for Published {
    fn from(appended: Appended) -> Self {
        Self {
            id: Some(appended.id),
            duplicate: appended.fate == Fate::Duplicate,
            receipt: appended.receipt,
        }
    }
}
