//! Private parts of the hot path, one thin function each, for `benches/instructions/main.rs` alone. No
//! API: it is there with the feature `_bench` only, and changes with what it opens.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::FutureExt;

use crate::frame::{Frame, Opcode};
use crate::message::{Message, Payload, Reply};
use crate::outbox::{Outbox, OutboxLimits};
use crate::pubsub::{
    Draft, PubSub, Subscribed, Subscriber, SubscriberId, Subscription, Topic, Want, Wire,
};
use crate::serializer::Serializer;
use crate::server::config::{History, RoomConfig};
use crate::server::rooms;
use crate::testing::TestSocket;
use crate::transport::direct;

/// A version of the protocol.
#[derive(Clone, Copy)]
pub struct Version(Serializer);

/// A frame of the server.
pub struct ServerFrame(Frame);

/// The queue of one connection.
#[derive(Clone)]
pub struct Queue(Rc<Outbox>);

/// A topic without a log.
pub struct Room {
    pubsub: PubSub,
    topic: Arc<Topic>,
}

/// A member of a room, until it is dropped.
pub struct Member {
    _subscription: Subscription,
}

impl Version {
    /// 1.0.0.
    pub const V1: Self = Self(Serializer::V1);
    /// 2.0.0.
    pub const V2: Self = Self(Serializer::V2);

    /// Decodes a text message of a client.
    pub fn decode_text(self, text: &ByteString) -> Message {
        self.0.decode_text(text).expect("a client's message")
    }

    /// Decodes a binary message of a client.
    pub fn decode_binary(self, data: Bytes) -> Message {
        self.0.decode_binary(data).expect("a client's message")
    }

    /// Encodes the reply to a message.
    pub fn reply(self, to: &Message, reply: &Reply) -> ServerFrame {
        let reply = self.0.reply(&to.join_ref, &to.reference, &to.topic, reply);
        ServerFrame(reply.expect("a reply for this version"))
    }

    /// Encodes a push to the client that has sent `to`.
    pub fn push(self, to: &Message, event: &str, payload: &Payload) -> ServerFrame {
        let push = self.0.push(&to.join_ref, &to.topic, event, payload);
        ServerFrame(push.expect("a payload for this version"))
    }

    /// Encodes a broadcast.
    pub fn broadcast(self, topic: &str, event: &str, payload: &Payload) -> ServerFrame {
        let broadcast = self.0.broadcast(topic, event, payload);
        ServerFrame(broadcast.expect("a payload for this version"))
    }
}

/// How many messages a stream of a client's frames holds.
pub fn decode_frames(stream: &[u8]) -> usize {
    direct::decode_frames(stream)
}

impl ServerFrame {
    /// A text frame.
    pub fn text(payload: &[u8]) -> Self {
        Self(Frame::new(Opcode::Text, payload))
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self(Rc::new(Outbox::new(OutboxLimits::default())))
    }
}

impl Queue {
    /// Queues a frame, which all queues share.
    pub fn push(&self, frame: &ServerFrame) {
        self.0.push(frame.0.clone());
    }

    /// Takes out the frame that is alone, as a writer does; whether there is one.
    pub fn take_lone(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.0.take_lone(&mut cx).is_some()
    }

    /// Writes once, to a stream that takes everything; returns how many bytes it took.
    pub fn write(&self) -> usize {
        let mut taken = 0;
        let written = self.0.write_to(|slices| {
            taken = slices.iter().map(|slice| slice.len()).sum();
            Ok::<_, Infallible>(taken)
        });
        written.map_or_else(|never| match never {}, |()| taken)
    }
}

impl Room {
    /// A room without members.
    pub fn new(topic: &str) -> Self {
        let pubsub = PubSub::new();
        let topic = pubsub.topic(topic);
        Self { pubsub, topic }
    }

    /// Joins, on this thread. The first join of a thread needs an actix runtime.
    pub fn join(&self, queue: &Queue) -> Member {
        let wire = Wire {
            serializer: Serializer::V2,
            meta: false,
        };
        let subscriber = Subscriber {
            id: SubscriberId::next(),
            fastlane: Some((Rc::clone(&queue.0), wire)),
            intercept: &[],
            tap: None,
        };
        let subscribed = self
            .pubsub
            .subscribe(&self.topic, subscriber, Want::Nothing);
        let Some(Subscribed::Live(subscription, _)) = subscribed else {
            panic!("the topic was given up: its last member had left");
        };
        Member {
            _subscription: subscription,
        }
    }

    /// Sends a message to all members.
    pub fn broadcast(&self, draft: &Draft) {
        let published = self.pubsub.publish_to(&self.topic, draft, None);
        let published = published
            .now_or_never()
            .expect("a node alone waits for nobody");
        published.expect("no log can refuse it");
    }
}

/// A room by the text of a `[[rooms]]` section. It keeps no history.
pub fn configured_room(section: &str) -> rooms::Room {
    let config: RoomConfig = toml::from_str(section).expect("a room");
    rooms::Room::new(&config, History::None, 0)
}

/// Gives the server a message of the client.
pub fn hand_over(client: &TestSocket, message: Message) {
    client.hand_over(message);
}

/// The next frame that the client is sent.
pub async fn next_frame(client: &TestSocket) -> Bytes {
    client.next_frame().await.expect("an open connection")
}
