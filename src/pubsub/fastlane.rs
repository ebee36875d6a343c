//! The fastlane: a broadcast is encoded at most once per serializer, and every receiver shares the
//! bytes. Phoenix: `Phoenix.Channel.Server.dispatch/3`.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytestring::ByteString;
use chrono::{DateTime, SecondsFormat, Utc};

use super::topic::Topic;
use super::{LogEntry, MessageId};
use crate::frame::Frame;
use crate::message::{Payload, RawJson};
use crate::outbox::Outbox;
use crate::serializer::Serializer;

/// Names one subscription in the process, so that `broadcast_from` can leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SubscriberId(u64);

impl SubscriberId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A message to all members of a topic. Phoenix: `Phoenix.Socket.Broadcast`.
pub struct Broadcast {
    topic: Arc<Topic>,
    event: ByteString,
    payload: Payload,
    from: Option<SubscriberId>,
    /// What the topic's log knows of it; `None` when it is not stored.
    stored: Option<Meta>,
    /// One encoding per wire, made by the first worker that needs it; `None` inside when the
    /// message has no form on that wire.
    frames: [OnceLock<Option<Frame>>; Wire::COUNT],
}

named_debug!(Broadcast, event, payload);

/// How one client is sent broadcasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) serializer: Serializer,
    /// Whether the client wants to know the ids of stored messages.
    pub(crate) meta: bool,
}

impl Wire {
    const COUNT: usize = Serializer::COUNT * 2;

    fn index(self) -> usize {
        self.serializer.index() * 2 + usize::from(self.meta)
    }
}

/// The key under which a client finds which message it has, if it asked for that.
const META: &str = "_meta";

/// What a client is told of a stored message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) id: MessageId,
    /// When it was published.
    pub(crate) at: SystemTime,
}

/// A payload that says which message it is. Added last, so that no sender can forge it.
pub(crate) fn with_meta(payload: &RawJson, stored: Option<Meta>) -> RawJson {
    match stored {
        Some(Meta { id, at }) => {
            let at = DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true);
            payload.with_last(META, format_args!("{{\"id\":\"{id}\",\"at\":\"{at}\"}}"))
        }
        None => payload.with_last(META, "{\"id\":null}"),
    }
}

impl Broadcast {
    pub(super) fn new(
        topic: &Arc<Topic>,
        event: &ByteString,
        payload: &Payload,
        from: Option<SubscriberId>,
        stored: Option<Meta>,
    ) -> Self {
        Self {
            topic: Arc::clone(topic),
            event: event.clone(),
            payload: payload.clone(),
            from,
            stored,
            frames: Default::default(),
        }
    }

    /// A stored message, as it was sent.
    pub(crate) fn of_entry(topic: &Arc<Topic>, entry: &LogEntry) -> Self {
        let payload = Payload::Json(entry.payload().clone());
        Self::new(
            topic,
            &entry.event().into(),
            &payload,
            None,
            Some(entry.meta()),
        )
    }

    /// What somebody sends in place of its payload, saying which message it is.
    pub(crate) fn with_meta(&self, payload: &RawJson) -> RawJson {
        with_meta(payload, self.stored)
    }

    /// To which topic it was sent.
    pub fn topic(&self) -> &str {
        self.topic.name()
    }

    /// What happened.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// With what.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// What the topic's log knows it by; `None` for a message that is not stored.
    pub fn id(&self) -> Option<MessageId> {
        self.stored.map(|stored| stored.id)
    }

    pub(super) fn shared_topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// What it takes in an inbox, in bytes: the payload and what stands around it.
    pub(crate) fn cost(&self) -> usize {
        const OVERHEAD: usize = 256;
        self.payload.len() + OVERHEAD
    }

    /// The bytes for the clients of one wire. A member whose wire has no form for the message (V1
    /// and binary) is passed over, so that it does not fail for the others.
    fn frame(&self, wire: Wire) -> Option<&Frame> {
        self.frames[wire.index()]
            .get_or_init(|| {
                let with_meta = match &self.payload {
                    Payload::Json(json) if wire.meta => {
                        Some(Payload::Json(with_meta(json, self.stored)))
                    }
                    _ => None,
                };
                let payload = with_meta.as_ref().unwrap_or(&self.payload);
                wire.serializer
                    .broadcast(self.topic.name(), &self.event, payload)
                    .inspect_err(|error| {
                        tracing::debug!(topic = self.topic(), %error, "pubsub.broadcast.skipped");
                    })
                    .ok()
            })
            .as_ref()
    }
}

/// Receives the broadcasts that do not take the fastlane: an intercepting channel, a socket that
/// listens on its id. Called on the subscriber's worker thread while the topic table is borrowed,
/// so it may only hand the message on.
pub(crate) trait Tap {
    fn receive(&self, broadcast: &Arc<Broadcast>);
}

/// One member of a topic on this worker thread.
pub(crate) struct Subscriber {
    pub(crate) id: SubscriberId,
    /// Where frames go: the client's outbox. `None` for a subscriber that is no client.
    pub(crate) fastlane: Option<(Rc<Outbox>, Wire)>,
    /// Events that go to `tap` although there is a fastlane.
    pub(crate) intercept: &'static [&'static str],
    /// Takes what is intercepted, or everything where there is no fastlane.
    pub(crate) tap: Option<Rc<dyn Tap>>,
}

impl Subscriber {
    pub(super) fn deliver(&self, broadcast: &Arc<Broadcast>) {
        if broadcast.from == Some(self.id) {
            return;
        }
        match (&self.fastlane, &self.tap) {
            (Some((outbox, wire)), tap) => {
                if let Some(tap) = tap
                    && self.intercept.contains(&broadcast.event())
                {
                    if outbox.closed().is_none() {
                        tap.receive(broadcast);
                    }
                } else {
                    outbox.push_with(|| broadcast.frame(*wire).cloned());
                }
            }
            (None, Some(tap)) => tap.receive(broadcast),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use serde_json::json;

    use super::*;
    use crate::outbox::OutboxLimits;

    /// What one more member of this wire is sent.
    fn delivered(broadcast: &Arc<Broadcast>, wire: Wire) -> Frame {
        let outbox = Rc::new(Outbox::new(OutboxLimits::default()));
        let member = Subscriber {
            id: SubscriberId::next(),
            fastlane: Some((Rc::clone(&outbox), wire)),
            intercept: &[],
            tap: None,
        };
        member.deliver(broadcast);
        match outbox.poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(frame)) => frame,
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    /// Requirement 124.
    #[test]
    fn all_members_of_a_serializer_share_one_encoding() {
        let topic = Arc::new(Topic::new("t".into(), None, Arc::default()));
        let payload = json!({"n": 1}).into();
        let broadcast = Arc::new(Broadcast::new(&topic, &"e".into(), &payload, None, None));
        let serializers = [Serializer::V1, Serializer::V2, Serializer::V2Text];
        let [plain, meta] =
            [false, true].map(|meta| serializers.map(|serializer| Wire { serializer, meta }));
        let all = [plain, meta].concat();
        let frames = || all.iter().map(|&wire| delivered(&broadcast, wire));
        let (ann, bob): (Vec<Frame>, Vec<Frame>) = (frames().collect(), frames().collect());
        for (ann, bob) in ann.iter().zip(&bob) {
            assert_eq!(ann.wire().as_ptr(), bob.wire().as_ptr());
        }
        assert_ne!(ann[0].wire(), ann[1].wire());
        assert_ne!(ann[0].wire(), ann[3].wire());
    }
}
