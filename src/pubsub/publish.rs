//! Publishing: drafts, the critical section of a topic, and refusals.

use std::future::poll_fn;
use std::sync::Arc;

use bytestring::ByteString;

use super::fastlane::Direction;
use super::topic::Topic;
use super::worker::{Inbox, Table};
use super::{Broadcast, Listener, PubSub, Selector, SubscriberId};
use crate::log::{Appended, Change, MessageId, Receipt, StoreFull, Visibility, WithId};
use crate::message::{IntoPayload, MAX_NAME_LEN, PHX_CLOSE, Payload, RawJson};
use crate::metrics::metrics;
use crate::trace::begin_broadcast;

/// The longest client_ref, in bytes.
const MAX_CLIENT_REF: usize = 64;
/// The event of a [`Draft::update`].
const MESSAGE_UPDATED: &str = "message_updated";
/// The event of a [`Draft::delete`].
pub(super) const MESSAGE_DELETED: &str = "message_deleted";

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
    direction: Option<Direction>,
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
    fn close(to: Option<Selector>) -> Self {
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

    /// The payload of a message that is not stored.
    fn live_payload(&self) -> Payload {
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
            Payload::Binary(_) if self.is_stored(topic) => Err(PublishError::NotStorable),
            Payload::Binary(_) if topic.name().len().max(self.event.len()) > MAX_NAME_LEN => {
                Err(PublishError::NameTooLong)
            }
            Payload::Binary(_) => Ok(()),
        }
    }
}

/// An accepted message.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The message's id in the topic's log; `None` if it is not stored.
    pub id: Option<MessageId>,
    /// Whether the message is a retry of an earlier one, and was not sent again.
    pub duplicate: bool,
    /// Resolves when the message is committed. Present if the message is stored, and the draft asked for a
    /// receipt or has a client_ref.
    pub receipt: Option<Receipt>,
}

/// Why a broadcast was refused. It was not stored, and nobody received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The payload is neither an object nor binary. Phoenix clients expect one of the two.
    #[error("a broadcast carries a JSON object or binary")]
    NotAnObject,
    /// The topic or the event is too long for the header of a binary frame.
    #[error("topic and event of a binary broadcast have at most {MAX_NAME_LEN} bytes each")]
    NameTooLong,
    /// The topic's log stores this event, and a log stores only JSON.
    #[error("a stored event carries JSON, not binary")]
    NotStorable,
    /// The client_ref is too long.
    #[error("a client_ref has at most {MAX_CLIENT_REF} bytes")]
    ClientRefTooLong,
    /// The topic keeps messages, and its name has a NUL character, which PostgreSQL cannot store.
    #[error("a topic that keeps messages must not hold NUL")]
    NulInTopic,
    /// The client_ref has a NUL character, which PostgreSQL cannot store.
    #[error("a client_ref must not hold NUL")]
    NulInClientRef,
    /// The draft changes a stored message, and the topic has no log.
    #[error("the topic keeps no messages")]
    NoLog,
    /// The store has no room.
    #[error(transparent)]
    StoreFull(#[from] StoreFull),
    /// The topic's log could not be read, so no seq can be given.
    #[error("the topic's log is not loaded")]
    NotLoaded,
}

/// Why `try_publish` did not publish.
enum Refusal {
    Evicted,
    Error(PublishError),
}

impl<E: Into<PublishError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// The result, and the inbox of a worker that is over its bound.
type Taken = (Published, Option<Arc<Inbox>>);

impl PubSub {
    /// Sends a message to every member of a topic, from outside its channels: from an HTTP handler, a
    /// background task or another channel. Waits until the topic's log is loaded, and after that while a
    /// worker's inbox is over its bound. Phoenix: `Endpoint.broadcast/3`.
    ///
    /// # Errors
    /// If the message is invalid or the store refuses it; then nobody received it.
    pub async fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), PublishError> {
        let draft = Draft::new(event, payload);
        self.publish_as(None, topic, &draft).await.map(drop)
    }

    /// Like [`PubSub::broadcast`], to everybody except `listener`. Phoenix: `broadcast_from/4`.
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

    /// Like [`PubSub::broadcast`]. Returns the message's id and receipt.
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
                // The topic was evicted since the look-up: look it up again.
                Err(Refusal::Evicted) => {}
                Err(Refusal::Error(error)) => return Err(error),
                Ok((published, congested)) => {
                    // The message is already sent. The publisher waits for the slow worker before it can
                    // send more.
                    if let Some(inbox) = congested {
                        poll_fn(|cx| inbox.poll_drained(cx)).await;
                    }
                    return Ok(published);
                }
            }
        }
    }

    /// Sends the present members an event that no rule stores.
    pub(crate) fn broadcast_live(&self, topic: &str, event: &str, payload: &Payload) {
        self.publish_live(topic, &Draft::new(event, payload.clone()));
    }

    /// Ends the channels of a topic, or those of the selected members, after the broadcasts before it: `terminate`
    /// sees `:shutdown`, and the client gets `phx_close`, after which phoenix.js does not join again. The connections
    /// stay. Phoenix: a message to each channel that answers it with `{:stop, :shutdown, socket}`.
    ///
    /// ```
    /// use slackir::pubsub::{PubSub, Selector};
    ///
    /// # actix_rt::System::new().block_on(async {
    /// let pubsub = PubSub::new();
    /// pubsub.close("room:1", Some(Selector::label("user.id", "7")));
    /// # });
    /// ```
    pub fn close(&self, topic: &str, to: Option<Selector>) {
        self.publish_live(topic, &Draft::close(to));
    }

    /// Publishes a draft that is not stored.
    fn publish_live(&self, topic: &str, draft: &Draft) {
        while let Some(topic) = self.known(topic) {
            match self.try_publish(&topic, draft, None) {
                Err(Refusal::Evicted) => {}
                Err(Refusal::Error(error)) => {
                    let (topic, event) = (topic.name(), draft.event());
                    tracing::error!(
                        topic, event, %error,
                        "pubsub.live.refused: nobody got it; mend what is broadcast"
                    );
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    /// Publishes for a member of the topic. The subscriber `from` is left out. Also returns an inbox that
    /// is over its bound, if there is one.
    pub(crate) async fn publish_to(
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
                // The channel was the last member and has left. Others may have joined since.
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
        let mut span = begin_broadcast(topic.name(), &draft.event);
        let _entered = span.enter();
        let table = Table::existing(self.id());
        let mut state = topic.lock();
        if state.evicted {
            span.forget();
            return Err(Refusal::Evicted);
        }
        let appended = state
            .append(topic, draft)
            .inspect_err(|error| span.fail(error))?;
        if let Some(appended) = &appended {
            span.set("slackir.id", &appended.meta.id);
        }
        let visibility = appended
            .as_ref()
            .map_or(Visibility::Now, |appended| appended.visibility);
        let stored = appended.as_ref().map(|appended| appended.meta);
        let made = appended.as_ref().map(|appended| match &appended.payload {
            Some(made) => Payload::Json(made.clone()),
            None => draft.payload.clone(),
        });
        let broadcast = || {
            let payload = made.unwrap_or_else(|| draft.live_payload());
            let broadcast = Broadcast::new(topic, &draft.event, &payload, from, stored);
            Arc::new(broadcast.directed(draft.direction.as_ref()))
        };
        state.broadcasts += u64::from(visibility != Visibility::Already);
        let congested = match visibility {
            Visibility::Already => None,
            Visibility::OnCommit => state.wait(broadcast()),
            Visibility::Now => state.deliver(&broadcast(), table.as_deref()),
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
            id: Some(appended.meta.id),
            duplicate: appended.visibility == Visibility::Already,
            receipt: appended.receipt,
        }
    }
}
