//! [`LongPollServer`]: the actor of one polling client. Phoenix: `LongPoll.Server`.
//!
//! It takes the place of WebSocket's TCP connection: requests bring the client's messages, which it hands to the
//! session's SocketServer, and answers take the messages of the outbox. A message leaves the outbox when its answer is
//! known to be written; the messages of a lost answer go into the next one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll as Polled, ready};
use std::time::Duration;

use actix::fut::ActorFutureExt;
use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use futures_core::Stream;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::delivery::{AnswerFate, Delivery};
use crate::client::log_client;
use crate::flow::Flow;
use crate::lock::lock;
use crate::metrics::{Hot, count, metrics};
use crate::outbox::Outbox;
use crate::serializer::{DecodeError, Serializer, is_v2_text};
use crate::socket::{Activity, Connection, ConnectionEnd, Incoming, Sign, SocketServer};

/// The messages of one request. Phoenix ignores all after the 100th.
const MAX_LINES: usize = 1_000;

/// A new session waits this long for its first poll.
const FIRST_POLL: Duration = Duration::from_secs(5);

/// The sessions of one mount, on all workers, by their token.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<HashMap<String, Addr<LongPollServer>>>>);

impl Sessions {
    /// The live session of a token.
    pub(super) fn find(&self, token: &str) -> Option<Addr<LongPollServer>> {
        lock(&self.0)
            .get(token)
            .filter(|session| session.connected())
            .cloned()
    }
}

/// The actor. See the module.
pub(super) struct LongPollServer {
    serializer: Serializer,
    outbox: Rc<Outbox>,
    activity: Rc<Activity>,
    window: Duration,
    /// To the session's SocketServer; closed when that has ended. Boxed, because tokio's channel keeps
    /// 32 places, which would be 6 kB for each session.
    messages: mpsc::Sender<Box<Incoming>>,
    /// The number of the latest poll, the only one that takes messages.
    latest: Rc<Cell<u64>>,
    /// The last answer with messages, until the next poll asks for its fate.
    answer: Rc<RefCell<Option<LastAnswer>>>,
    sessions: Sessions,
    token: String,
}

/// Takes the queued messages, or waits for one. The batch is empty after the window.
#[derive(Message)]
#[rtype(result = "PollBatch")]
pub(super) struct Poll;

/// The answer to a poll.
#[derive(Default)]
pub(super) struct PollBatch {
    pub(super) messages: Vec<ByteString>,
    /// Reports whether the client has the messages, which are kept until then. `None` if there are none.
    pub(super) delivery: Option<Delivery>,
}

/// An answer with messages.
struct LastAnswer {
    /// The number of its frames, at the head of the outbox.
    frames: usize,
    fate: Arc<AnswerFate>,
}

/// A request's body.
#[derive(Message)]
#[rtype(result = "Posted")]
pub(super) enum Publish {
    /// One text message.
    Text(Bytes),
    /// A message a line, binary ones in base64.
    Lines(Bytes),
}

/// The result of a request with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// The session has all messages.
    Taken,
    /// The session did not take one within the window, or one was undecodable, which ended the
    /// session. The messages before it are taken.
    NotTaken,
    /// The request has too many lines; none was taken.
    TooMany,
}

#[cfg(feature = "_cluster")]
impl Posted {
    /// Its number between nodes.
    pub(super) fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn of_number(number: u8) -> Self {
        match number {
            0 => Self::Taken,
            2 => Self::TooMany,
            _ => Self::NotTaken,
        }
    }
}

impl LongPollServer {
    /// Starts a session on this thread, which [`Sessions::find`] finds by its token.
    pub(super) fn start(
        connection: Connection,
        window: Duration,
        sessions: &Sessions,
        token: String,
    ) {
        let (sender, receiver) = mpsc::channel(1);
        let server = Self {
            serializer: connection.serializer,
            outbox: Rc::clone(&connection.outbox),
            activity: Rc::clone(&connection.activity),
            window,
            messages: sender,
            latest: Rc::default(),
            answer: Rc::default(),
            sessions: sessions.clone(),
            token: token.clone(),
        };
        let reader = PostedMessages {
            outbox: Rc::clone(&connection.outbox),
            flow: Rc::clone(&connection.flow),
            messages: receiver,
            ended: false,
        };
        SocketServer::start(connection, reader);
        metrics().longpoll_sessions.increment(1);
        lock(&sessions.0).insert(token, Actor::start(server));
    }

    fn decode(&self, line: Bytes) -> Result<Incoming, DecodeError> {
        let size = line.len();
        let text = ByteString::try_from(line).map_err(|_| DecodeError::Binary("not UTF-8"))?;
        self.serializer
            .decode_text(&text)
            .map(|message| Incoming::Message(message, size))
    }

    fn decode_line(&self, line: Bytes) -> Result<Incoming, DecodeError> {
        if is_v2_text(&line) {
            return self.decode(line);
        }
        let data = BASE64_STANDARD
            .decode(&line)
            .map_err(|_| DecodeError::Binary("not base64"))?;
        let size = data.len();
        self.serializer
            .decode_binary(data.into())
            .map(|message| Incoming::Message(message, size))
    }
}

impl Actor for LongPollServer {
    type Context = Context<Self>;

    /// The session ends with its SocketServer.
    fn started(&mut self, ctx: &mut Self::Context) {
        let messages = self.messages.clone();
        let ended = async move { messages.closed().await }.into_actor(self);
        ctx.spawn(ended.map(|(), _, ctx: &mut Self::Context| ctx.stop()));
    }
}

impl Drop for LongPollServer {
    fn drop(&mut self) {
        metrics().longpoll_sessions.decrement(1);
        lock(&self.sessions.0).remove(&self.token);
    }
}

impl Handler<Poll> for LongPollServer {
    type Result = ResponseFuture<PollBatch>;

    fn handle(&mut self, _: Poll, _: &mut Self::Context) -> Self::Result {
        self.activity.touch();
        self.activity.set_timeout(silence(self.window));
        let mine = self.latest.get() + 1;
        self.latest.set(mine);
        let latest = Rc::clone(&self.latest);
        let answer = Rc::clone(&self.answer);
        let outbox = Rc::clone(&self.outbox);
        let activity = Rc::clone(&self.activity);
        let window = self.window;
        async move {
            let waiting = std::future::poll_fn(|cx| {
                if latest.get() == mine {
                    take(&outbox, &mut answer.borrow_mut(), cx)
                } else {
                    Polled::Pending
                }
            });
            let batch = timeout(window, waiting).await.unwrap_or_default();
            activity.touch();
            batch
        }
        .boxed_local()
    }
}

/// All queued messages; none once the outbox is closed. Waits while the former answer is being written: if that is
/// lost, its messages are among them.
fn take(
    outbox: &Outbox,
    answer: &mut Option<LastAnswer>,
    cx: &mut TaskContext<'_>,
) -> Polled<PollBatch> {
    if let Some(former) = answer {
        if ready!(former.fate.poll(cx)) {
            outbox.confirm(former.frames);
        }
        *answer = None;
    }
    if !ready!(outbox.poll_queued(cx)) {
        return Polled::Ready(PollBatch::default());
    }
    let frames = outbox.peek();
    let (delivery, fate) = Delivery::new();
    *answer = Some(LastAnswer {
        frames: frames.len(),
        fate,
    });
    // Only text is ever encoded for a client of this transport.
    let texts = frames
        .iter()
        .map(|frame| ByteString::try_from(frame.payload()));
    Polled::Ready(PollBatch {
        messages: texts.flatten().collect(),
        delivery: Some(delivery),
    })
}

/// A session lives this long without a poll: one and a half windows, as in Phoenix.
fn silence(window: Duration) -> Duration {
    window + window / 2
}

/// The same for a session that has not been polled at all.
pub(super) fn first_silence(window: Duration) -> Duration {
    silence(window).min(FIRST_POLL)
}

impl Handler<Publish> for LongPollServer {
    type Result = ResponseFuture<Posted>;

    fn handle(&mut self, publish: Publish, _: &mut Self::Context) -> Self::Result {
        let decoded: Vec<_> = match publish {
            Publish::Text(body) => vec![self.decode(body)],
            Publish::Lines(body) => {
                let lines: Vec<Bytes> = lines(&body).collect();
                if lines.len() > MAX_LINES {
                    return std::future::ready(Posted::TooMany).boxed_local();
                }
                lines
                    .into_iter()
                    .map(|line| self.decode_line(line))
                    .collect()
            }
        };
        let messages = self.messages.clone();
        let outbox = Rc::clone(&self.outbox);
        let window = self.window;
        async move {
            let hand_over = async {
                for decoded in decoded {
                    let (message, bad) = match decoded {
                        Ok(message) => (message, false),
                        Err(error) => {
                            count(Hot::Undecodable, 1);
                            log_client!(info, outbox.client(), %error, "transport.message.undecodable");
                            (Incoming::End(ConnectionEnd::Undecodable), true)
                        }
                    };
                    if messages.send(Box::new(message)).await.is_err() || bad {
                        return Posted::NotTaken;
                    }
                }
                Posted::Taken
            };
            timeout(window, hand_over)
                .await
                .unwrap_or(Posted::NotTaken)
        }
        .boxed_local()
    }
}

/// The lines of a body, without empty ones.
fn lines(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let lines = body.split(|byte| *byte == b'\n');
    let trimmed = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    trimmed
        .filter(|line| !line.is_empty())
        .map(|line| body.slice_ref(line))
}

/// The client's messages, as the SocketServer reads them.
struct PostedMessages {
    outbox: Rc<Outbox>,
    flow: Rc<Flow>,
    messages: mpsc::Receiver<Box<Incoming>>,
    ended: bool,
}

impl Stream for PostedMessages {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Polled<Option<Incoming>> {
        if self.ended {
            return Polled::Ready(None);
        }
        if let Polled::Ready(interrupt) = self.outbox.poll_interrupted(cx) {
            self.ended = true;
            return Polled::Ready(Some(Incoming::End(ConnectionEnd::of(
                interrupt,
                Sign::Polls,
            ))));
        }
        ready!(self.outbox.poll_room(cx));
        ready!(self.flow.poll_open(cx));
        self.messages
            .poll_recv(cx)
            .map(|message| message.map(|boxed| *boxed))
    }
}
