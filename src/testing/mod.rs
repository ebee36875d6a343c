//! Tests of channels without a network. Phoenix: `Phoenix.ChannelTest`.
//!
//! A [`TestSocket`] stands where a transport stands: the messages of the test go straight to the
//! socket's actor, and what the channels send is looked at where a transport would take it. What
//! is tested is what clients meet: routes, joins, order, replies and ends are the real ones.
//!
//! ```
//! use serde_json::json;
//! use slackir::Endpoint;
//! use slackir::chat::{Room, UserSocket, router};
//! use slackir::pubsub::PubSub;
//! use slackir::testing::TestSocket;
//!
//! # actix_rt::System::new().block_on(async {
//! let endpoint = Endpoint::builder(PubSub::new())
//!     .socket("/socket", UserSocket, router(&[Room::default()]))
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
    Message, Name, PHX_CLOSE, PHX_ERROR, PHX_JOIN, PHX_LEAVE, PHX_REPLY, Payload, RawJson, Ref,
};
use crate::outbox::{Interrupt, Outbox};
use crate::serializer::Serializer;
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

/// A client without a network. It speaks as a vsn 2.0.0 client of JSON.
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
    payload: Value,
}

impl Received {
    fn is_push(&self, event: &str) -> bool {
        self.event == event && !self.join_ref.is_null()
    }

    fn is_broadcast(&self, event: &str) -> bool {
        self.event == event && self.join_ref.is_null()
    }

    fn is_reply(&self, reference: &str) -> bool {
        self.event == PHX_REPLY && self.reference == reference
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
        let accepted = mounted.ask(Serializer::V2Text, &params, &info).await?;
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
        self.send(&reference.clone(), topic, PHX_JOIN, params);
        reference
    }

    /// Sends an event to a topic's channel; returns the ref of a reply to come.
    pub fn push(&mut self, topic: &str, event: &str, payload: Value) -> String {
        let reference = self.take_ref();
        self.send(&reference.clone(), topic, event, payload);
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
        let mut reply = self
            .expect(&wanted, |frame| frame.is_reply(reference))
            .await;
        let status = reply.payload["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (status, reply.payload["response"].take())
    }

    /// The payload of the next push of an event.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_push(&mut self, event: &str) -> Value {
        self.expect(&format!("a push of {event:?}"), |frame| {
            frame.is_push(event)
        })
        .await
        .payload
    }

    /// The payload of the next broadcast of an event.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_broadcast(&mut self, event: &str) -> Value {
        self.expect(&format!("a broadcast of {event:?}"), |frame| {
            frame.is_broadcast(event)
        })
        .await
        .payload
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
        self.expect("phx_close", |frame| {
            frame.event == PHX_CLOSE && frame.topic == topic
        })
        .await;
    }

    /// The channel of a topic crashes.
    ///
    /// # Panics
    /// When it does not.
    pub async fn assert_crashed(&mut self, topic: &str) {
        self.expect("phx_error", |frame| {
            frame.event == PHX_ERROR && frame.topic == topic
        })
        .await;
    }

    /// No reply comes to a message.
    ///
    /// # Panics
    /// When one does.
    pub async fn refute_reply(&mut self, reference: &str) {
        self.refute(|frame| frame.is_reply(reference)).await;
    }

    /// This event is not pushed to this client.
    ///
    /// # Panics
    /// When it is.
    pub async fn refute_push(&mut self, event: &str) {
        self.refute(|frame| frame.is_push(event)).await;
    }

    /// This event is not broadcast to a topic of this client.
    ///
    /// # Panics
    /// When it is.
    pub async fn refute_broadcast(&mut self, event: &str) {
        self.refute(|frame| frame.is_broadcast(event)).await;
    }

    async fn expect(&mut self, wanted: &str, matches: impl Fn(&Received) -> bool) -> Received {
        match self.find(matches, PATIENCE).await {
            Some(frame) => frame,
            None => panic!("{wanted} should have come; what did: {:#?}", self.received),
        }
    }

    async fn refute(&mut self, matches: impl Fn(&Received) -> bool) {
        let found = self.find(matches, SILENCE).await;
        assert_eq!(found, None, "this should not have come");
    }

    /// Takes the first frame that matches, waiting for it if need be.
    async fn find(
        &mut self,
        matches: impl Fn(&Received) -> bool,
        patience: Duration,
    ) -> Option<Received> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(at) = self.received.iter().position(&matches) {
                return self.received.remove(at);
            }
            let frame = timeout_at(deadline, self.next_frame()).await;
            self.received.extend(read(&frame.ok().flatten()?));
        }
    }

    /// The next frame, as its client would get it; `None` when the connection has ended.
    pub(crate) async fn next_frame(&self) -> Option<Bytes> {
        let frame = poll_fn(|cx| self.outbox.poll_frame(cx)).await?;
        Some(frame.payload())
    }

    fn send(&self, reference: &str, topic: &str, event: &str, payload: Value) {
        let join_ref = match self.join_refs.get(topic) {
            Some(join_ref) => quoted(join_ref),
            None => Ref::NULL,
        };
        self.hand_over(Message {
            join_ref,
            reference: quoted(reference),
            topic: Name::from(topic),
            event: Name::from(event),
            payload: Payload::from(payload),
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

fn read(frame: &[u8]) -> Option<Received> {
    let (join_ref, reference, topic, event, payload) = serde_json::from_slice(frame).ok()?;
    Some(Received {
        join_ref,
        reference,
        topic,
        event,
        payload,
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
