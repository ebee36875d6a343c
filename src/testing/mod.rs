//! Tests of channels without a network. Phoenix: `Phoenix.ChannelTest`.
//!
//! A [`TestSocket`] stands where a transport stands: the messages of the test go straight to the
//! socket's actor, and what the channels send is looked at where a transport would take it. What
//! is tested is what clients meet: routes, joins, order, replies and ends are the real ones.
//!
//! ```
//! use serde_json::json;
//! use slackir::{Endpoint, Mount};
//! use slackir::chat::{Room, UserSocket, router};
//! use slackir::pubsub::PubSub;
//! use slackir::testing::TestSocket;
//!
//! # actix_rt::System::new().block_on(async {
//! let endpoint = Endpoint::builder(PubSub::new())
//!     .mount(Mount::new("/socket", UserSocket, router(&[Room::default()])))
//!     .build();
//! let mut ann = TestSocket::connect(&endpoint, "/socket", json!({})).await.unwrap();
//! let mut bob = TestSocket::connect(&endpoint, "/socket", json!({})).await.unwrap();
//! ann.subscribe_and_join("random:lobby", json!({})).await;
//! bob.subscribe_and_join("random:lobby", json!({})).await;
//!
//! let ping = ann.push("random:lobby", "ping", json!({"x": 1}));
//! ann.assert_reply(&ping, "ok", json!({"x": 1})).await;
//! ann.push("random:lobby", "shout", json!({"name": "ann"}));
//! bob.assert_broadcast("shout", json!({"name": "ann"})).await;
//! bob.refute_push("shout").await;
//! # });
//! ```

mod store;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

pub use self::store::MemoryStore;
use crate::endpoint::Endpoint;
use crate::message::{
    IntoPayload, Message, Name, PHX_CLOSE, PHX_ERROR, PHX_JOIN, PHX_LEAVE, PHX_REPLY, Payload,
    RawJson, Ref,
};
use crate::outbox::{Interrupt, Outbox};
use crate::serializer::{Serializer, receive_binary};
use crate::socket::{ConnectInfo, ConnectRefused, Ending, Incoming, Params, Sign, SocketServer};

/// How long an `assert_` waits for what it asserts: it ends when that comes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a `refute_` waits for what it refutes.
const SILENCE: Duration = Duration::from_millis(100);

/// The socket did not let the test in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No socket is mounted at the path.
    #[error("no socket is mounted at {0}")]
    NotMounted(String),
    /// `connect` said no.
    #[error(transparent)]
    Refused(#[from] ConnectRefused),
}

/// A client without a network. It speaks as a vsn 2.0.0 client, JSON and binary.
///
/// Its `assert_` methods wait up to 5 seconds, its `refute_` methods 100 ms, and panic with what came instead; what they do not ask
/// for stays to be asserted later. It needs an actix runtime and stays on its thread.
pub struct TestSocket {
    to_server: mpsc::UnboundedSender<Incoming>,
    outbox: Rc<Outbox>,
    received: VecDeque<Received>,
    join_refs: HashMap<String, String>,
    next_ref: u32,
}

/// One frame as the client would see it.
#[derive(Clone, Debug, PartialEq)]
struct Received {
    join_ref: Value,
    reference: Value,
    topic: Value,
    event: String,
    body: Body,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq)]
enum Body {
    Json(Value),
    Binary(Bytes),
    /// A reply, whose status stands in the header.
    BinaryReply(String, Bytes),
}

impl Received {
    fn push(&self, event: &str) -> Option<&Body> {
        (self.event == event && !self.join_ref.is_null()).then_some(&self.body)
    }

    fn broadcast(&self, event: &str) -> Option<&Body> {
        (self.event == event && self.join_ref.is_null()).then_some(&self.body)
    }

    fn reply(&self, reference: &str) -> Option<&Body> {
        (self.event == PHX_REPLY && self.reference == reference).then_some(&self.body)
    }

    fn ends(&self, topic: &str, event: &str) -> Option<()> {
        (self.event == event && self.topic == topic).then_some(())
    }
}

impl Body {
    fn json(&self) -> Option<Value> {
        match self {
            Self::Json(json) => Some(json.clone()),
            _ => None,
        }
    }

    fn binary(&self) -> Option<Bytes> {
        match self {
            Self::Binary(data) => Some(data.clone()),
            _ => None,
        }
    }
}

impl TestSocket {
    /// Connects to the socket mounted at `path`, with these connection parameters.
    ///
    /// # Errors
    /// When nothing is mounted there, or the socket refuses.
    pub async fn connect(
        endpoint: &Endpoint,
        path: &str,
        params: Value,
    ) -> Result<Self, ConnectError> {
        Self::connect_with(endpoint, path, params, ConnectInfo::default()).await
    }

    /// As [`TestSocket::connect`], with what `connect` shall see of the request.
    ///
    /// # Errors
    /// As [`TestSocket::connect`].
    pub async fn connect_with(
        endpoint: &Endpoint,
        path: &str,
        params: Value,
        info: ConnectInfo,
    ) -> Result<Self, ConnectError> {
        let mounted = endpoint
            .mounted(path)
            .ok_or_else(|| ConnectError::NotMounted(path.to_owned()))?;
        let params = match params {
            Value::Object(params) => Params::new(params),
            _ => Params::default(),
        };
        let accepted = mounted.accept(Serializer::V2, &params, &info).await?;
        let connection = mounted.open(accepted, Sign::Bytes, mounted.mount.options.timeout);
        let outbox = Rc::clone(&connection.outbox);
        let (to_server, messages) = mpsc::unbounded_channel();
        let reader = Reader {
            messages,
            outbox: Rc::clone(&outbox),
            ended: false,
        };
        SocketServer::start(connection, reader);
        Ok(Self {
            to_server,
            outbox,
            received: VecDeque::new(),
            join_refs: HashMap::new(),
            next_ref: 0,
        })
    }

    /// Joins a topic, which must be accepted; returns the reply.
    ///
    /// # Panics
    /// When the join is refused or not answered.
    pub async fn subscribe_and_join(&mut self, topic: &str, params: Value) -> Value {
        let reference = self.join(topic, params);
        let (status, response) = self.reply(&reference).await;
        assert_eq!(status, "ok", "the join of {topic} was refused: {response}");
        response
    }

    /// Asks to join a topic; returns the ref of the reply to come.
    pub fn join(&mut self, topic: &str, params: Value) -> String {
        let reference = self.take_ref();
        self.join_refs.insert(topic.to_owned(), reference.clone());
        self.send(&reference, topic, PHX_JOIN, params);
        reference
    }

    /// Sends an event to a topic's channel; returns the ref of a reply to come.
    pub fn push(&mut self, topic: &str, event: &str, payload: Value) -> String {
        let reference = self.take_ref();
        self.send(&reference, topic, event, payload);
        reference
    }

    /// As [`TestSocket::push`], with bytes for a payload.
    pub fn push_binary(&mut self, topic: &str, event: &str, data: impl Into<Bytes>) -> String {
        let reference = self.take_ref();
        self.send(&reference, topic, event, Payload::Binary(data.into()));
        reference
    }

    /// Leaves a topic; returns the ref of the reply to come.
    pub fn leave(&mut self, topic: &str) -> String {
        self.push(topic, PHX_LEAVE, json!({}))
    }

    /// Closes the connection, as a client does that goes.
    pub fn close(self) {
        // A socket that has ended already needs no goodbye.
        let _ = self.to_server.send(Incoming::End(Ending::GOODBYE));
    }

    /// Status and response of the reply to a message.
    ///
    /// # Panics
    /// When none comes.
    pub async fn reply(&mut self, reference: &str) -> (String, Value) {
        let wanted = format!("a reply to {reference:?}");
        let json = |frame: &Received| frame.reply(reference)?.json();
        let mut reply = self.expect(&wanted, json).await;
        let status = reply["status"].as_str().unwrap_or_default().to_owned();
        (status, reply["response"].take())
    }

    /// Status and bytes of the binary reply to a message.
    ///
    /// # Panics
    /// When none comes.
    pub async fn binary_reply(&mut self, reference: &str) -> (String, Bytes) {
        let wanted = format!("a binary reply to {reference:?}");
        let binary = |frame: &Received| match frame.reply(reference)? {
            Body::BinaryReply(status, data) => Some((status.clone(), data.clone())),
            _ => None,
        };
        self.expect(&wanted, binary).await
    }

    /// The payload of the next push of an event.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_push(&mut self, event: &str) -> Value {
        let wanted = format!("a push of {event:?}");
        let json = |frame: &Received| frame.push(event)?.json();
        self.expect(&wanted, json).await
    }

    /// The bytes of the next binary push of an event.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_binary_push(&mut self, event: &str) -> Bytes {
        let wanted = format!("a binary push of {event:?}");
        let binary = |frame: &Received| frame.push(event)?.binary();
        self.expect(&wanted, binary).await
    }

    /// The payload of the next broadcast of an event.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_broadcast(&mut self, event: &str) -> Value {
        let wanted = format!("a broadcast of {event:?}");
        let json = |frame: &Received| frame.broadcast(event)?.json();
        self.expect(&wanted, json).await
    }

    /// The bytes of the next binary broadcast of an event.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_binary_broadcast(&mut self, event: &str) -> Bytes {
        let wanted = format!("a binary broadcast of {event:?}");
        let binary = |frame: &Received| frame.broadcast(event)?.binary();
        self.expect(&wanted, binary).await
    }

    /// The reply to a message has this status and this response.
    ///
    /// # Panics
    /// When it has not, or none comes.
    pub async fn assert_reply(&mut self, reference: &str, status: &str, response: Value) {
        assert_eq!(self.reply(reference).await, (status.to_owned(), response));
    }

    /// This event is pushed to this client with this payload.
    ///
    /// # Panics
    /// When it is not, or with another payload.
    pub async fn assert_push(&mut self, event: &str, payload: Value) {
        assert_eq!(
            self.next_push(event).await,
            payload,
            "the push of {event:?}"
        );
    }

    /// This event is broadcast to a topic of this client with this payload.
    ///
    /// # Panics
    /// When it is not, or with another payload.
    pub async fn assert_broadcast(&mut self, event: &str, payload: Value) {
        assert_eq!(
            self.next_broadcast(event).await,
            payload,
            "the broadcast of {event:?}"
        );
    }

    /// The channel of a topic ends in order.
    ///
    /// # Panics
    /// When it does not.
    pub async fn assert_closed(&mut self, topic: &str) {
        self.expect("phx_close", |frame| frame.ends(topic, PHX_CLOSE))
            .await;
    }

    /// The channel of a topic crashes.
    ///
    /// # Panics
    /// When it does not.
    pub async fn assert_crashed(&mut self, topic: &str) {
        self.expect("phx_error", |frame| frame.ends(topic, PHX_ERROR))
            .await;
    }

    /// No reply comes to a message.
    ///
    /// # Panics
    /// When one does.
    pub async fn refute_reply(&mut self, reference: &str) {
        self.refute(|frame| frame.reply(reference).cloned()).await;
    }

    /// This event is not pushed to this client.
    ///
    /// # Panics
    /// When it is.
    pub async fn refute_push(&mut self, event: &str) {
        self.refute(|frame| frame.push(event).cloned()).await;
    }

    /// This event is not broadcast to a topic of this client.
    ///
    /// # Panics
    /// When it is.
    pub async fn refute_broadcast(&mut self, event: &str) {
        self.refute(|frame| frame.broadcast(event).cloned()).await;
    }

    async fn expect<T>(&mut self, wanted: &str, read: impl Fn(&Received) -> Option<T>) -> T {
        match self.find(read, PATIENCE).await {
            Some(found) => found,
            None => panic!("{wanted} should have come; what did: {:#?}", self.received),
        }
    }

    async fn refute(&mut self, read: impl Fn(&Received) -> Option<Body>) {
        let found = self.find(read, SILENCE).await;
        assert_eq!(found, None, "this should not have come");
    }

    /// Takes the first frame that is read, waiting for it if need be.
    async fn find<T>(
        &mut self,
        read: impl Fn(&Received) -> Option<T>,
        patience: Duration,
    ) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.received.iter().map(&read).enumerate();
            let found = found.filter_map(|(at, found)| Some((at, found?))).next();
            if let Some((at, found)) = found {
                self.received.remove(at);
                return Some(found);
            }
            let frame = timeout_at(deadline, self.next_frame()).await;
            self.received.extend(received(&frame.ok().flatten()?));
        }
    }

    /// The next frame, as its client would get it; `None` when the connection has ended.
    pub(crate) async fn next_frame(&self) -> Option<Bytes> {
        let frame = poll_fn(|cx| self.outbox.poll_frame(cx)).await?;
        Some(frame.payload())
    }

    fn send(&self, reference: &str, topic: &str, event: &str, payload: impl IntoPayload) {
        let join_ref = match self.join_refs.get(topic) {
            Some(join_ref) => quoted(join_ref),
            None => Ref::NULL,
        };
        self.hand_over(Message {
            join_ref,
            reference: quoted(reference),
            topic: Name::from(topic),
            event: Name::from(event),
            payload: payload.into_payload(),
        });
    }

    /// Gives the server a message of the client.
    pub(crate) fn hand_over(&self, message: Message) {
        let size = message.payload.len();
        // A socket that has ended answers nothing, and the assertion says so.
        let _ = self.to_server.send(Incoming::Message(message, size));
    }

    fn take_ref(&mut self) -> String {
        self.next_ref += 1;
        self.next_ref.to_string()
    }
}

/// The TCP connection is lost.
impl Drop for TestSocket {
    fn drop(&mut self) {
        self.outbox.interrupt(Interrupt::WriterGone);
    }
}

fn quoted(reference: &str) -> Ref {
    Ref::trusted(RawJson::from(Value::from(reference)).get().into())
}

/// A frame as its client reads it. JSON begins with a bracket, binary with its kind.
fn received(frame: &Bytes) -> Option<Received> {
    if frame.first() == Some(&b'[') {
        let (join_ref, reference, topic, event, payload) = serde_json::from_slice(frame).ok()?;
        return Some(Received {
            join_ref,
            reference,
            topic,
            event,
            body: Body::Json(payload),
        });
    }
    let binary = receive_binary(frame)?;
    let (reference, event, body) = match binary.reply {
        None => (Value::Null, &*binary.event, Body::Binary(binary.data)),
        Some((reference, status)) => {
            let body = Body::BinaryReply(status.to_string(), binary.data);
            (Value::from(&*reference), PHX_REPLY, body)
        }
    };
    Some(Received {
        join_ref: binary.join_ref.as_deref().map_or(Value::Null, Value::from),
        reference,
        topic: Value::from(&*binary.topic),
        event: event.to_owned(),
        body,
    })
}

/// The test's messages, as the SocketServer reads them.
struct Reader {
    messages: mpsc::UnboundedReceiver<Incoming>,
    outbox: Rc<Outbox>,
    ended: bool,
}

impl Stream for Reader {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = match self.messages.poll_recv(cx) {
            Poll::Ready(message) => message,
            Poll::Pending => {
                let interrupt = ready!(self.outbox.poll_interrupted(cx));
                Some(Incoming::End(Ending::of(interrupt)))
            }
        };
        self.ended = matches!(message, None | Some(Incoming::End(_)));
        Poll::Ready(message)
    }
}
