//! Tests of channels without a network. Phoenix: `Phoenix.ChannelTest`.
//!
//! A [`TestSocket`] takes the place of a transport: the messages of the test go straight to the socket's actor, and the
//! test reads the frames that a transport would send. Routes, joins, order, replies and ends are those of the server.
//!
//! ```
//! use serde_json::json;
//! use slackir::prelude::*;
//! use slackir::testing::TestSocket;
//!
//! struct Anyone;
//! impl Socket for Anyone {}
//!
//! struct Room;
//! impl Channel for Room {
//!     type Info = ();
//!
//!     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
//!         Ok(Join::ok(Room))
//!     }
//!
//!     async fn handle_in(
//!         &mut self,
//!         event: &str,
//!         payload: Payload,
//!         ctx: &mut Context<Self>,
//!     ) -> HandleInResult {
//!         match event {
//!             "shout" => {
//!                 ctx.broadcast("shout", payload).await?;
//!                 Ok(HandleIn::NoReply)
//!             }
//!             _ => Err(Failure::unhandled(event)),
//!         }
//!     }
//! }
//!
//! # actix_rt::System::new().block_on(async {
//! let router = SocketRouter::new().channel::<Room>("room:*");
//! let endpoint = Endpoint::builder(PubSub::new())
//!     .mount(Mount::new("/socket", Anyone, router))
//!     .build();
//! let mut ann = TestSocket::connect(&endpoint, "/socket", json!({})).await.unwrap();
//! let mut bob = TestSocket::connect(&endpoint, "/socket", json!({})).await.unwrap();
//! ann.subscribe_and_join("room:1", json!({})).await;
//! bob.subscribe_and_join("room:1", json!({})).await;
//!
//! ann.push("room:1", "shout", json!({"name": "ann"}));
//! bob.on("room:1").assert_broadcast("shout", json!({"name": "ann"})).await;
//! bob.refute_push("shout").await;
//! # });
//! ```

mod assertions;
mod contract;
mod received;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::panic::Location;

use bytes::Bytes;
use serde_json::{Value, json};

pub use self::assertions::OnTopic;
pub use self::contract::check_store;
use crate::assigns::Assigns;
use crate::endpoint::Endpoint;
pub use crate::log::MemoryStore;
use crate::message::{IntoPayload, Message, Name, PHX_JOIN, PHX_LEAVE, Payload, RawJson, Ref};
use crate::serializer::ServerMessage;
use crate::socket::{ConnectInfo, ConnectRefused, Params};
use crate::transport::{InProcess, Mounted};

/// The socket did not let the test in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The endpoint drains: it takes no new connections.
    #[error("the endpoint drains and takes no new connections")]
    Draining,
    /// No socket is mounted at the path.
    #[error("no socket is mounted at {0}")]
    NotMounted(String),
    /// `connect` refused the client.
    #[error(transparent)]
    Refused(#[from] ConnectRefused),
}

fn mounted<'e>(endpoint: &'e Endpoint, path: &str) -> Result<&'e Mounted, ConnectError> {
    if endpoint.is_draining() {
        return Err(ConnectError::Draining);
    }
    let mounted = endpoint.mounted(path);
    mounted.ok_or_else(|| ConnectError::NotMounted(path.to_owned()))
}

/// A client without a network. It speaks as a vsn 2.0.0 client, JSON and binary.
///
/// A broadcast that the channel intercepts reaches the client as a push: use `assert_push` for it. HTTP routes are tested
/// beside it, with `actix_web::test` and the same [`Endpoint`].
///
/// Its `assert_` methods wait up to 5 seconds, its `refute_` methods 100 ms, and panic with the frames that came
/// instead. Other frames stay for later assertions. It needs an actix runtime and stays on its thread.
pub struct TestSocket {
    connection: InProcess,
    received: VecDeque<ServerMessage>,
    join_refs: HashMap<String, String>,
    /// Topic and join_ref of each message, by its ref.
    pushed: HashMap<String, (String, String)>,
    next_ref: u32,
}

named_debug!(TestSocket);

impl TestSocket {
    /// Connects to the socket mounted at `path`, with these connection parameters.
    ///
    /// # Errors
    /// If nothing is mounted there, or the socket refuses.
    pub async fn connect(
        endpoint: &Endpoint,
        path: &str,
        params: Value,
    ) -> Result<Self, ConnectError> {
        Self::connect_with(endpoint, path, params, ConnectInfo::default()).await
    }

    /// As [`TestSocket::connect`], with the request's facts for `connect`.
    ///
    /// # Errors
    /// As [`TestSocket::connect`].
    pub async fn connect_with(
        endpoint: &Endpoint,
        path: &str,
        params: Value,
        info: ConnectInfo,
    ) -> Result<Self, ConnectError> {
        let mounted = mounted(endpoint, path)?;
        let params = match params {
            Value::Object(params) => Params::new(params),
            _ => Params::default(),
        };
        let connection = InProcess::connect(mounted, &params, &info).await?;
        Ok(Self::over(connection))
    }

    /// A connected client with these assigns. The socket's `connect` is not called. Phoenix: `socket/3`.
    ///
    /// # Errors
    /// If nothing is mounted at the path.
    pub fn with_assigns(
        endpoint: &Endpoint,
        path: &str,
        assigns: Assigns,
    ) -> Result<Self, ConnectError> {
        let mounted = mounted(endpoint, path)?;
        Ok(Self::over(InProcess::with_assigns(mounted, assigns)))
    }

    fn over(connection: InProcess) -> Self {
        Self {
            connection,
            received: VecDeque::new(),
            join_refs: HashMap::new(),
            pushed: HashMap::new(),
            next_ref: 0,
        }
    }

    /// Joins a topic, which must be accepted; returns the reply.
    ///
    /// # Panics
    /// If the join is refused or not answered.
    #[track_caller]
    pub fn subscribe_and_join(
        &mut self,
        topic: &str,
        params: Value,
    ) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move {
            let reference = self.join(topic, params);
            let (status, response) = self.reply_at(at, &reference).await;
            assert!(
                status == "ok",
                "{at}: the join of {topic} was refused: {response}"
            );
            response
        }
    }

    /// Asks to join a topic; returns the ref of the coming reply.
    pub fn join(&mut self, topic: &str, params: Value) -> String {
        let reference = self.take_ref();
        self.join_refs.insert(topic.to_owned(), reference.clone());
        self.send(&reference, topic, PHX_JOIN, params);
        reference
    }

    /// Sends an event to a topic's channel; returns the ref of a coming reply.
    pub fn push(&mut self, topic: &str, event: &str, payload: Value) -> String {
        let reference = self.take_ref();
        self.send(&reference, topic, event, payload);
        reference
    }

    /// As [`TestSocket::push`], with a binary payload.
    pub fn push_binary(&mut self, topic: &str, event: &str, data: impl Into<Bytes>) -> String {
        let reference = self.take_ref();
        self.send(&reference, topic, event, Payload::Binary(data.into()));
        reference
    }

    /// Leaves a topic; returns the ref of the coming reply.
    pub fn leave(&mut self, topic: &str) -> String {
        self.push(topic, PHX_LEAVE, json!({}))
    }

    /// Closes the connection, with a goodbye: the channels end with `StopReason::LocalClosed`. A `TestSocket` that is
    /// dropped has lost its connection.
    pub fn close(self) {
        self.connection.say_goodbye();
    }

    /// The next frame; `None` once the connection has ended.
    pub(crate) async fn next_frame(&self) -> Option<Bytes> {
        poll_fn(|cx| self.connection.poll_frame(cx)).await
    }

    fn send(&mut self, reference: &str, topic: &str, event: &str, payload: impl IntoPayload) {
        let join_ref = match self.join_refs.get(topic) {
            Some(join_ref) => {
                let channel = (topic.to_owned(), join_ref.clone());
                self.pushed.insert(reference.to_owned(), channel);
                quoted(join_ref)
            }
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
        // A socket that has ended answers nothing, and the assertion fails.
        self.connection.send(message);
    }

    fn take_ref(&mut self) -> String {
        self.next_ref += 1;
        self.next_ref.to_string()
    }
}

fn quoted(reference: &str) -> Ref {
    Ref::trusted(RawJson::from(Value::from(reference)).get().into())
}
