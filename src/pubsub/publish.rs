//! Publishing: the critical section of a topic, and refusals.

use std::future::poll_fn;
use std::sync::Arc;

use super::draft::MAX_CLIENT_REF;
use super::node::{Joint, Sending};
use super::topic::Topic;
use super::worker::{Inbox, Table};
use super::{Broadcast, Draft, Listener, PubSub, Selector, SubscriberId};
use crate::log::{Appended, MessageId, Receipt, StoreFull, Visibility};
use crate::message::{IntoPayload, MAX_NAME_LEN, Payload};
use crate::trace::begin_broadcast;

/// An accepted message.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Published {
    /// The message's id in the topic's log; `None` if it is not stored.
    pub id: Option<MessageId>,
    /// Whether the message is a retry of an earlier one, and was not sent again.
    pub duplicate: bool,
    /// Resolves when the message is committed. Present if the message is stored, and the draft asked for a
    /// receipt or has a client_ref.
    pub receipt: Option<Receipt>,
}

/// Why a broadcast was refused. It was not stored, and nobody received it, unless it is
/// [`Unconfirmed`](Self::Unconfirmed).
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
    /// In a cluster: the nodes' bus or the database went away, and nobody can know whether it has taken the message.
    #[error("unconfirmed")]
    Unconfirmed,
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

/// How far a message has come.
enum Step {
    /// It was sent to the members.
    Taken(Taken),
    /// In a cluster: it is on its way to its place.
    Sent(Sending),
}

impl PubSub {
    /// Sends a message to every member of a topic, from outside its channels: from an HTTP handler, a
    /// background task or another channel. Waits until the topic's log is loaded, and after that while a
    /// worker's inbox is over its bound. Phoenix: `Endpoint.broadcast/3`.
    ///
    /// # Errors
    /// If the message is invalid or the store refuses it; then nobody received it, unless the error is
    /// [`PublishError::Unconfirmed`].
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
                self.send_elsewhere(topic, draft);
                return Ok(Published::default());
            };
            topic.load().await.map_err(|_| PublishError::NotLoaded)?;
            self.settle_target(&topic, draft).await?;
            match self.try_publish(&topic, draft, from) {
                // The topic was evicted since the look-up: look it up again.
                Err(Refusal::Evicted) => {}
                Err(Refusal::Error(error)) => return Err(error),
                Ok(step) => {
                    let (published, congested) = self.taken(&topic, step).await?;
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

    /// In a cluster: waits until a stored message that the draft changes is in the database, and until this node knows
    /// the client_refs of all messages.
    async fn settle_target(&self, topic: &Topic, draft: &Draft) -> Result<(), PublishError> {
        match topic.joint() {
            Some(joint) if draft.change.is_some() || draft.client_ref.is_some() => {
                Box::pin(joint.node().settle_target(topic, draft)).await
            }
            _ => Ok(()),
        }
    }

    /// Waits until a message has its place. It then is in the outboxes of this thread's members.
    async fn taken(&self, topic: &Topic, step: Step) -> Result<Taken, PublishError> {
        let sending = match step {
            Step::Taken(taken) => return Ok(taken),
            Step::Sent(sending) => sending,
        };
        // Boxed, so that the future of a publish stays small: a server alone never waits here.
        let published = Box::pin(sending.placed()).await?;
        if let Some(table) = Table::existing(self.id()) {
            table.drain();
        }
        let congested = topic.lock().full_inbox();
        Ok((published, congested))
    }

    /// In a cluster: sends a message that is not stored to the members of other nodes.
    fn send_elsewhere(&self, topic: &str, draft: &Draft) {
        let Some(node) = self.node() else { return };
        let draft = draft.made();
        node.send_live(topic, &draft, &draft.payload);
    }

    /// Sends the present members an event that no rule stores; in a cluster those of this node.
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
        self.publish_live_everywhere(topic, &Draft::close(to));
    }

    /// Sends a draft that is not stored to the members of all nodes.
    pub(super) fn publish_live_everywhere(&self, topic: &str, draft: &Draft) {
        self.publish_live(topic, draft);
        self.send_elsewhere(topic, draft);
    }

    /// Sends a draft that is not stored to this server's members. Returns an inbox that is over its bound, if there is
    /// one.
    pub(super) fn publish_live(&self, topic: &str, draft: &Draft) -> Option<Arc<Inbox>> {
        while let Some(topic) = self.known(topic) {
            let checked = draft.check(&topic).map_err(Refusal::Error);
            match checked.and_then(|()| self.publish_here(&topic, draft, None)) {
                Err(Refusal::Evicted) => {}
                Err(Refusal::Error(error)) => {
                    let (topic, event) = (topic.name(), draft.event());
                    tracing::error!(
                        topic, event, %error,
                        "pubsub.live.refused: nobody got it; mend what is broadcast"
                    );
                    return None;
                }
                Ok((_, congested)) => return congested,
            }
        }
        None
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
            self.settle_target(&topic, draft).await?;
            match self.try_publish(&topic, draft, from) {
                Ok(step) => return self.taken(&topic, step).await,
                Err(Refusal::Error(error)) => return Err(error),
                // The channel was the last member and has left. Others may have joined since.
                Err(Refusal::Evicted) => match self.audience(topic.name()) {
                    Some(again) => topic = again,
                    None => return Ok(Taken::default()),
                },
            }
        }
    }

    fn try_publish(
        &self,
        topic: &Arc<Topic>,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Step, Refusal> {
        draft.check(topic)?;
        match topic.joint() {
            None => self.publish_here(topic, draft, from).map(Step::Taken),
            Some(joint) => self.publish_jointly(joint, topic, draft, from),
        }
    }

    /// Publishes to the members of all nodes. A message that is stored gets its place first. Any other is sent to the
    /// members here at once, and to those of other nodes at most once.
    #[cold]
    fn publish_jointly(
        &self,
        joint: &Joint,
        topic: &Arc<Topic>,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Step, Refusal> {
        if !draft.is_stored(topic) {
            let draft = draft.made();
            let taken = self.publish_here(topic, &draft, from)?;
            joint.node().send_live(topic.name(), &draft, &draft.payload);
            return Ok(Step::Taken(taken));
        }
        let state = topic.lock();
        if state.evicted {
            return Err(Refusal::Evicted);
        }
        let log = state.log.as_ref().ok_or(PublishError::NotLoaded)?;
        let first = log.first_with(draft.client_ref.as_deref());
        drop(state);
        if let Some(first) = first {
            return Ok(Step::Taken((joint.node().retry_of(topic, first), None)));
        }
        Ok(Step::Sent(joint.node().publish(topic, draft, from)?))
    }

    /// The critical section.
    fn publish_here(
        &self,
        topic: &Arc<Topic>,
        draft: &Draft,
        from: Option<SubscriberId>,
    ) -> Result<Taken, Refusal> {
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
        if visibility != Visibility::Already {
            state.count_broadcast(&draft.event);
        }
        let congested = match visibility {
            Visibility::Already => None,
            Visibility::OnCommit => state.wait(broadcast()),
            Visibility::Now => state.deliver(&broadcast(), table.as_deref()),
        };
        drop(state);
        topic.metrics().broadcasts.increment(1);
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
