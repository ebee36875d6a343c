//! The fastlane: a broadcast is encoded at most once per serializer, and every receiver shares the
//! bytes. Phoenix: `Phoenix.Channel.Server.dispatch/3`.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytestring::ByteString;
use chrono::{DateTime, SecondsFormat, Utc};

use super::Selector;
use super::topic::Topic;
use crate::deflate::{self, Window};
use crate::frame::Frame;
use crate::log::{LogEntry, MessageId, Meta};
use crate::message::{Payload, RawJson};
use crate::metrics::time_some;
use crate::outbox::{Outbox, Pushed};
use crate::serializer::Serializer;

/// Identifies a subscriber in the process, so that `broadcast_from` can leave it out.
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
    /// `None`: an ordinary message to all members.
    direction: Option<Direction>,
    /// The message's id and time, if it is stored.
    stored: Option<Meta>,
    /// When it was made; of some broadcasts, for the metrics.
    made: Option<Instant>,
    /// One encoding for each wire, made by the first worker that needs it. The inner `None` means that the
    /// wire cannot carry the message.
    frames: Frames,
    /// The compressed frames, made once a client takes one. The inner `None` means that compression does not make
    /// the frame shorter.
    deflated: OnceLock<Box<Frames>>,
}

/// A frame for each wire.
type Frames = [OnceLock<Option<Frame>>; Wire::COUNT];

named_debug!(Broadcast, event, payload);

/// The members that a broadcast means, and its effect.
#[derive(Clone, Debug)]
pub(super) enum Direction {
    /// These members get it.
    To(Arc<Selector>),
    /// The channels of these members end; `None`: of all.
    Close(Option<Arc<Selector>>),
    /// The channels of all members end with an error, so that their clients join again.
    #[cfg(feature = "_cluster")]
    Fail,
}

/// The form in which a client gets broadcasts: its serializer, with or without `_meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) serializer: Serializer,
    /// Whether payloads carry the ids of stored messages.
    pub(crate) meta: bool,
}

impl Wire {
    const COUNT: usize = Serializer::COUNT * 2;

    fn index(self) -> usize {
        self.serializer.index() * 2 + usize::from(self.meta)
    }
}

/// The member of a payload that holds the message's id, for clients that asked for it.
const META: &str = "_meta";

/// Adds the message's id and time to a payload: as the last member, so that no sender can forge it.
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
            direction: None,
            stored,
            made: time_some(),
            frames: Default::default(),
            deflated: OnceLock::new(),
        }
    }

    pub(super) fn directed(mut self, direction: Option<&Direction>) -> Self {
        self.direction = direction.cloned();
        self
    }

    /// The broadcast of a stored message, to be sent again.
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

    /// Adds the message's id and time to a payload that replaces the broadcast's own.
    pub(crate) fn with_meta(&self, payload: &RawJson) -> RawJson {
        with_meta(payload, self.stored)
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        self.topic.name()
    }

    /// Its event.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Its payload.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Its id in the topic's log; `None` if it is not stored.
    pub fn id(&self) -> Option<MessageId> {
        self.stored.map(|stored| stored.id)
    }

    pub(super) fn shared_topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// When it was made, if it is timed.
    pub(super) fn made(&self) -> Option<Instant> {
        self.made
    }

    /// The bytes that the broadcast counts in an inbox.
    pub(crate) fn cost(&self) -> usize {
        const OVERHEAD: usize = 256;
        self.payload.len() + OVERHEAD
    }

    /// The frame for the clients of one wire. `None` if the wire cannot carry the message (binary on V1):
    /// such a member gets nothing.
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

impl Broadcast {
    /// The frame for a client of this wire, which takes compressed frames if it has a window.
    #[inline]
    fn frame_for(&self, wire: Wire, window: Option<Window>) -> Option<&Frame> {
        match window {
            None => self.frame(wire),
            Some(window) => self.frame_in(wire, window),
        }
    }

    /// The compressed frame for a wire, if this window takes it. All its receivers share it, as they share the plain one.
    // Apart, so that the delivery of a plain frame stays as short as it is.
    #[cold]
    #[inline(never)]
    fn frame_in(&self, wire: Wire, window: Window) -> Option<&Frame> {
        let frame = self.frame(wire)?;
        if !deflate::is_worthwhile(frame, window) {
            return Some(frame);
        }
        let deflated = &self.deflated.get_or_init(Box::default)[wire.index()];
        let deflated = deflated.get_or_init(|| deflate::deflated(frame));
        Some(deflated.as_ref().unwrap_or(frame))
    }
}

/// Receives broadcasts without the fastlane: for an intercepting channel, or for a socket that listens on
/// its id. Called on the subscriber's worker thread while the topic table is borrowed, so it may only pass
/// the message on.
pub(crate) trait Tap {
    fn receive(&self, broadcast: &Arc<Broadcast>);

    /// Whether the subscriber's labels are selected. A subscriber that is no member has none.
    fn is_selected(&self, _: &Selector) -> bool {
        false
    }

    /// Ends the subscriber's channel.
    fn close(&self) {}

    /// Ends the subscriber's channel with an error: it has missed messages.
    #[cfg(feature = "_cluster")]
    fn fail(&self) {}
}

/// One member of a topic on this worker thread.
pub(crate) struct Subscriber {
    pub(crate) id: SubscriberId,
    /// The client's outbox, which gets encoded frames. `None` if the subscriber is not a client.
    pub(crate) fastlane: Option<(Rc<Outbox>, Wire)>,
    /// Events that go to `tap` instead of the fastlane.
    pub(crate) intercept: &'static [&'static str],
    /// Receives intercepted broadcasts, or all broadcasts if there is no fastlane. Holds a member's labels.
    pub(crate) tap: Option<Rc<dyn Tap>>,
}

impl Subscriber {
    /// Returns what became of it; `None` if it is not for this subscriber, or the subscriber is no client.
    pub(super) fn deliver(&self, broadcast: &Arc<Broadcast>) -> Option<Pushed> {
        if broadcast.from == Some(self.id) {
            return None;
        }
        if let Some(direction) = &broadcast.direction
            && !self.goes_on(direction)
        {
            return None;
        }
        match (&self.fastlane, &self.tap) {
            (Some((outbox, wire)), tap) => {
                if !self.intercept.is_empty()
                    && self.intercept.contains(&broadcast.event())
                    && let Some(tap) = tap
                {
                    if outbox.closed().is_some() {
                        return Some(Pushed::Closed);
                    }
                    tap.receive(broadcast);
                    Some(Pushed::Queued)
                } else {
                    Some(outbox.push_with(|| broadcast.frame_for(*wire, outbox.window()).cloned()))
                }
            }
            (None, Some(tap)) => {
                tap.receive(broadcast);
                None
            }
            (None, None) => None,
        }
    }

    /// Whether a directed broadcast goes on to this subscriber. Ends its channel if the broadcast does that.
    #[cold]
    fn goes_on(&self, direction: &Direction) -> bool {
        let Some(tap) = &self.tap else {
            return false;
        };
        match direction {
            Direction::To(selector) => tap.is_selected(selector),
            Direction::Close(selector) => {
                let selector = selector.as_ref();
                if selector.is_none_or(|selector| tap.is_selected(selector)) {
                    tap.close();
                }
                false
            }
            #[cfg(feature = "_cluster")]
            Direction::Fail => {
                tap.fail();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use serde_json::json;

    use super::*;
    use crate::outbox::OutboxLimits;

    /// Delivers to a new member of this wire, and returns its frame.
    fn delivered(broadcast: &Arc<Broadcast>, wire: Wire) -> Frame {
        delivered_in(broadcast, wire, None)
    }

    /// The same, for a client that takes compressed frames if it has a window.
    fn delivered_in(broadcast: &Arc<Broadcast>, wire: Wire, window: Option<Window>) -> Frame {
        let outbox = Outbox::new(OutboxLimits::default()).with_window(window);
        let outbox = Rc::new(outbox);
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
        let topic = Arc::new(Topic::new("t".into(), None, Arc::default(), None));
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

    #[test]
    fn the_members_of_a_serializer_that_take_compressed_frames_share_one() {
        let topic = Arc::new(Topic::new("t".into(), None, Arc::default(), None));
        let wire = Wire {
            serializer: Serializer::V2,
            meta: false,
        };
        let payload = json!({"body": "all the same ".repeat(80)}).into();
        let broadcast = Arc::new(Broadcast::new(&topic, &"e".into(), &payload, None, None));
        let plain = delivered(&broadcast, wire);
        assert!(broadcast.deflated.get().is_none(), "nobody takes it");
        let [ann, bob] = [(); 2].map(|()| delivered_in(&broadcast, wire, Some(Window::MAX)));
        assert_eq!(ann.wire().as_ptr(), bob.wire().as_ptr());
        assert!(ann.len() < plain.len() / 2);
        let inflated = deflate::inflate(&ann.payload(), 10_000);
        assert_eq!(inflated.as_deref(), Ok(&plain.payload()[..]));
        let small = delivered_in(&broadcast, wire, Window::parse("10"));
        assert_eq!(small.wire(), plain.wire(), "its window is too small");

        let short = json!({"body": "short"}).into();
        let broadcast = Arc::new(Broadcast::new(&topic, &"e".into(), &short, None, None));
        let sent = delivered_in(&broadcast, wire, Some(Window::MAX));
        assert_eq!(
            sent.wire().as_ptr(),
            delivered(&broadcast, wire).wire().as_ptr()
        );
        assert!(broadcast.deflated.get().is_none(), "it is too short");
    }
}
