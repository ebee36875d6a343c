//! [`LongPollServer`]: the actor of one polling client. Phoenix: `LongPoll.Server`.
//!
//! It stands where a TCP connection stands for WebSocket: requests bring the client's messages,
//! which it hands to the session's SocketServer, and take away what waits in the outbox. Messages leave
//! the outbox when the answer that holds them is known to be written; those of an answer that is lost go
//! into the next.

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

use super::delivery::{Delivery, Fate};
use crate::client::log_client;
use crate::flow::Flow;
use crate::metrics::metrics;
use crate::outbox::{Interrupt, Outbox};
use crate::pubsub::lock;
use crate::serializer::{DecodeError, Serializer};
use crate::socket::{Activity, Connection, Ending, Incoming, SocketServer};

/// Messages of one request. Phoenix ignores those after the 100th without a word.
const MAX_LINES: usize = 1_000;

/// How long a new session waits for its first poll.
const FIRST_POLL: Duration = Duration::from_secs(5);

/// The sessions of one mount, on all workers, by their token.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<HashMap<String, Addr<LongPollServer>>>>);

impl Sessions {
    /// The session that a token names, while it lives.
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
    /// The number of the latest poll: only that one takes messages.
    latest: Rc<Cell<u64>>,
    /// The answer that was given last, until the next poll asks what has become of it.
    answer: Rc<RefCell<Option<Answer>>>,
    sessions: Sessions,
    token: String,
}

/// Takes what waits, or waits for something. Answered with nothing after the window.
#[derive(Message)]
#[rtype(result = "Batch")]
pub(super) struct Poll;

/// The answer to a poll.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<ByteString>,
    /// Told whether the messages have reached the client; they are kept until then. `None` where there
    /// are none.
    pub(super) delivery: Option<Delivery>,
}

/// An answer with messages.
struct Answer {
    /// Frames at the head of the outbox that are in it.
    frames: usize,
    fate: Arc<Fate>,
}

/// A request's body.
#[derive(Message)]
#[rtype(result = "Published")]
pub(super) enum Publish {
    /// One text message.
    Text(Bytes),
    /// A message a line: text where it begins with `[`, else binary in base64.
    Lines(Bytes),
}

/// How far a request's messages have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// All are in the hands of the session.
    Taken,
    /// The session did not take one within the window, or one could not be read, which ended the
    /// session. Those before it are taken.
    NotTaken,
    /// More lines than may be; none was taken.
    TooMany,
}

impl LongPollServer {
    /// Starts a session on this thread. Its token is what it is found by.
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
        let reader = Reader {
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
        if line.starts_with(b"[") {
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
    type Result = ResponseFuture<Batch>;

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

/// All that waits; nothing when the outbox is closed. What was answered before is there again if it was
/// lost, and it is not known whether it was while that answer is being written.
fn take(outbox: &Outbox, answer: &mut Option<Answer>, cx: &mut TaskContext<'_>) -> Polled<Batch> {
    if let Some(former) = answer {
        if ready!(former.fate.poll(cx)) {
            outbox.confirm(former.frames);
        }
        *answer = None;
    }
    if !ready!(outbox.poll_queued(cx)) {
        return Polled::Ready(Batch::default());
    }
    let frames = outbox.peek();
    let (delivery, fate) = Delivery::new();
    *answer = Some(Answer {
        frames: frames.len(),
        fate,
    });
    // Only text is ever encoded for a client of this transport.
    let texts = frames
        .iter()
        .map(|frame| ByteString::try_from(frame.payload()));
    Polled::Ready(Batch {
        messages: texts.flatten().collect(),
        delivery: Some(delivery),
    })
}

/// How long a session lives without a poll: half as long again as a poll may take, as in Phoenix.
fn silence(window: Duration) -> Duration {
    window + window / 2
}

/// The same for a session that has not been polled at all.
pub(super) fn first_silence(window: Duration) -> Duration {
    silence(window).min(FIRST_POLL)
}

impl Handler<Publish> for LongPollServer {
    type Result = ResponseFuture<Published>;

    fn handle(&mut self, publish: Publish, _: &mut Self::Context) -> Self::Result {
        let decoded: Vec<_> = match publish {
            Publish::Text(body) => vec![self.decode(body)],
            Publish::Lines(body) => {
                let lines: Vec<Bytes> = lines(&body).collect();
                if lines.len() > MAX_LINES {
                    return std::future::ready(Published::TooMany).boxed_local();
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
                            log_client!(info, outbox.client(), %error, "transport.message.undecodable");
                            (Incoming::End(Ending::UNDECODABLE), true)
                        }
                    };
                    if messages.send(Box::new(message)).await.is_err() || bad {
                        return Published::NotTaken;
                    }
                }
                Published::Taken
            };
            timeout(window, hand_over)
                .await
                .unwrap_or(Published::NotTaken)
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

/// What the client sends, as the SocketServer reads it.
struct Reader {
    outbox: Rc<Outbox>,
    flow: Rc<Flow>,
    messages: mpsc::Receiver<Box<Incoming>>,
    ended: bool,
}

impl Stream for Reader {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Polled<Option<Incoming>> {
        if self.ended {
            return Polled::Ready(None);
        }
        if let Polled::Ready(interrupt) = self.outbox.poll_interrupted(cx) {
            self.ended = true;
            return Polled::Ready(Some(Incoming::End(match interrupt {
                Interrupt::Idle => Ending::INACTIVE,
                other => Ending::of(other),
            })));
        }
        ready!(self.outbox.poll_room(cx));
        ready!(self.flow.poll_open(cx));
        self.messages
            .poll_recv(cx)
            .map(|message| message.map(|boxed| *boxed))
    }
}
