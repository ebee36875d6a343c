//! The assertions of a [`TestSocket`]. A panic names the line of the test, which `async` would hide.

use std::fmt::{Display, Write as _};
use std::panic::Location;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::TestSocket;
use crate::serializer::{ServerBody, ServerMessage};

/// An `assert_` waits at most this long for its frame.
const PATIENCE: Duration = Duration::from_secs(5);
/// A `refute_` waits this long for its frame.
const SILENCE: Duration = Duration::from_millis(100);

/// A line of the test.
pub(super) type At = &'static Location<'static>;

/// The two ways of an event to a client.
#[derive(Clone, Copy)]
enum By {
    Push,
    Broadcast,
}

/// An event, in one topic or in any.
#[derive(Clone, Copy)]
struct Sent<'a> {
    by: By,
    topic: Option<&'a str>,
    event: &'a str,
}

impl Sent<'_> {
    fn find<'f>(&self, frame: &'f ServerMessage) -> Option<&'f ServerBody> {
        if self.topic.is_some_and(|topic| frame.topic != topic) {
            return None;
        }
        match self.by {
            By::Push => frame.push(self.event),
            By::Broadcast => frame.broadcast(self.event),
        }
    }
}

impl Sent<'_> {
    /// The same event as a broadcast in place of a push, or the other way round.
    fn the_other_way(&self) -> Self {
        let by = match self.by {
            By::Push => By::Broadcast,
            By::Broadcast => By::Push,
        };
        Self { by, ..*self }
    }
}

impl Display for Sent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match self.by {
            By::Push => "push",
            By::Broadcast => "broadcast",
        };
        write!(f, "a {by} of {:?}", self.event)?;
        match self.topic {
            Some(topic) => write!(f, " in {topic}"),
            None => Ok(()),
        }
    }
}

fn push(event: &str) -> Sent<'_> {
    Sent {
        by: By::Push,
        topic: None,
        event,
    }
}

fn broadcast(event: &str) -> Sent<'_> {
    Sent {
        by: By::Broadcast,
        topic: None,
        event,
    }
}

impl TestSocket {
    /// The same assertions about one topic alone: `ann.on("room:1").assert_broadcast(..)`.
    pub fn on<'a>(&'a mut self, topic: &'a str) -> OnTopic<'a> {
        OnTopic {
            socket: self,
            topic,
        }
    }

    /// Status and response of the reply to a message.
    ///
    /// # Panics
    /// If none comes within 5 seconds, or the message's channel has ended.
    #[track_caller]
    pub fn reply(&mut self, reference: &str) -> impl Future<Output = (String, Value)> {
        self.reply_at(Location::caller(), reference)
    }

    /// As [`TestSocket::reply`], for a line of the test.
    pub(super) async fn reply_at(&mut self, at: At, reference: &str) -> (String, Value) {
        let wanted = format!("a reply to {reference:?}");
        let json = |frame: &ServerMessage| frame.reply(reference)?.json();
        let hopeless = self.channel_of(reference);
        let mut reply = self.expect(at, &wanted, json, &hopeless).await;
        let status = reply["status"].as_str().unwrap_or_default().to_owned();
        (status, reply["response"].take())
    }

    /// Status and bytes of the binary reply to a message.
    ///
    /// # Panics
    /// If none comes within 5 seconds, or the message's channel has ended.
    #[track_caller]
    pub fn binary_reply(&mut self, reference: &str) -> impl Future<Output = (String, Bytes)> {
        let at = Location::caller();
        async move {
            let wanted = format!("a binary reply to {reference:?}");
            let binary = |frame: &ServerMessage| frame.reply(reference)?.binary_reply();
            let hopeless = self.channel_of(reference);
            self.expect(at, &wanted, binary, &hopeless).await
        }
    }

    /// The payload of the next push of an event.
    ///
    /// # Panics
    /// If none comes within 5 seconds.
    #[track_caller]
    pub fn next_push(&mut self, event: &str) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move { self.next(at, push(event), ServerBody::json).await }
    }

    /// The bytes of the next binary push of an event.
    ///
    /// # Panics
    /// If none comes within 5 seconds.
    #[track_caller]
    pub fn next_binary_push(&mut self, event: &str) -> impl Future<Output = Bytes> {
        let at = Location::caller();
        async move { self.next(at, push(event), ServerBody::binary).await }
    }

    /// The payload of the next broadcast of an event.
    ///
    /// # Panics
    /// If none comes within 5 seconds.
    #[track_caller]
    pub fn next_broadcast(&mut self, event: &str) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move { self.next(at, broadcast(event), ServerBody::json).await }
    }

    /// The bytes of the next binary broadcast of an event.
    ///
    /// # Panics
    /// If none comes within 5 seconds.
    #[track_caller]
    pub fn next_binary_broadcast(&mut self, event: &str) -> impl Future<Output = Bytes> {
        let at = Location::caller();
        async move { self.next(at, broadcast(event), ServerBody::binary).await }
    }

    /// The reply to a message has this status and this response.
    ///
    /// # Panics
    /// If it has not, or none comes.
    #[track_caller]
    pub fn assert_reply(
        &mut self,
        reference: &str,
        status: &str,
        response: Value,
    ) -> impl Future<Output = ()> {
        let at = Location::caller();
        let reply = self.reply(reference);
        async move {
            let (found, answer) = reply.await;
            assert!(
                found == status && answer == response,
                "{at}: the reply to {reference:?} is {found} {answer}, not {status} {response}"
            );
        }
    }

    /// This event is pushed to this client with this payload.
    ///
    /// # Panics
    /// If it is not, or with another payload.
    #[track_caller]
    pub fn assert_push(&mut self, event: &str, payload: Value) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move { self.assert(at, push(event), payload).await }
    }

    /// This event is broadcast to a topic of this client with this payload.
    ///
    /// # Panics
    /// If it is not, or with another payload.
    #[track_caller]
    pub fn assert_broadcast(&mut self, event: &str, payload: Value) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move { self.assert(at, broadcast(event), payload).await }
    }

    /// The channel of a topic ends in order.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn assert_closed(&mut self, topic: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let wanted = format!("the end of {topic}");
            self.expect(at, &wanted, |frame| frame.closes(topic), &None)
                .await;
        }
    }

    /// The channel of a topic crashes.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn assert_crashed(&mut self, topic: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let wanted = format!("a crash of {topic}");
            self.expect(at, &wanted, |frame| frame.crashes(topic), &None)
                .await;
        }
    }

    /// The server ends the connection, as a broadcast of `disconnect` to its socket's id does. The frames before
    /// the end can still be asserted.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn assert_disconnected(&mut self) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match timeout_at(deadline, self.next_frame()).await {
                    Ok(Some(frame)) => self.received.extend(ServerMessage::read(&frame)),
                    Ok(None) => return,
                    Err(_) => panic!("{at}: the connection is still open"),
                }
            }
        }
    }

    /// No reply comes to a message.
    ///
    /// # Panics
    /// If one does within 100 ms.
    #[track_caller]
    pub fn refute_reply(&mut self, reference: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            self.refute(at, |frame| frame.reply(reference).is_some())
                .await;
        }
    }

    /// This event is not pushed to this client.
    ///
    /// # Panics
    /// If it is within 100 ms.
    #[track_caller]
    pub fn refute_push(&mut self, event: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            self.refute(at, |frame| push(event).find(frame).is_some())
                .await;
        }
    }

    /// This event is not broadcast to a topic of this client.
    ///
    /// # Panics
    /// If it is within 100 ms.
    #[track_caller]
    pub fn refute_broadcast(&mut self, event: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let sent = broadcast(event);
            self.refute(at, |frame| sent.find(frame).is_some()).await;
        }
    }

    async fn next<T>(&mut self, at: At, sent: Sent<'_>, form: fn(&ServerBody) -> Option<T>) -> T {
        let read = |frame: &ServerMessage| form(sent.find(frame)?);
        let found = self.find(read, |_| false, PATIENCE).await;
        let Some(found) = found else {
            let other = sent.the_other_way();
            if self
                .received
                .iter()
                .any(|frame| other.find(frame).is_some())
            {
                panic!("{at}: {sent} should have come; it came as {other}")
            }
            panic!("{at}: {sent} should have come; what did:{}", self.listed())
        };
        found
    }

    /// The frames that no assertion has taken, a line each.
    fn listed(&self) -> String {
        let mut lines = String::new();
        for frame in &self.received {
            // A write to a String does not fail.
            let _ = write!(lines, "\n  {frame}");
        }
        lines
    }

    async fn assert(&mut self, at: At, sent: Sent<'_>, payload: Value) {
        let found = self.next(at, sent, ServerBody::json).await;
        assert!(
            found == payload,
            "{at}: {sent} came with {found}, not with {payload}"
        );
    }

    /// The channel that a message went to: its topic and its join_ref.
    fn channel_of(&self, reference: &str) -> Option<(String, String)> {
        self.pushed.get(reference).cloned()
    }

    /// Waits for a frame, unless its channel has ended.
    async fn expect<T>(
        &mut self,
        at: At,
        wanted: &impl Display,
        read: impl Fn(&ServerMessage) -> Option<T>,
        channel: &Option<(String, String)>,
    ) -> T {
        let has_ended = |frame: &ServerMessage| {
            channel.as_ref().is_some_and(|(topic, join_ref)| {
                let ends = frame.closes(topic).or(frame.crashes(topic)).is_some();
                ends && frame.join_ref == **join_ref
            })
        };
        match self.find(read, has_ended, PATIENCE).await {
            Some(found) => found,
            None => panic!(
                "{at}: {wanted} should have come; what did:{}",
                self.listed()
            ),
        }
    }

    async fn refute(&mut self, at: At, is_it: impl Fn(&ServerMessage) -> bool) {
        let read = |frame: &ServerMessage| is_it(frame).then(|| frame.to_string());
        if let Some(frame) = self.find(read, |_| false, SILENCE).await {
            panic!("{at}: this should not have come: {frame}");
        }
    }

    /// Takes the first frame that `read` accepts. Waits for it until a frame `ends_hope`.
    async fn find<T>(
        &mut self,
        read: impl Fn(&ServerMessage) -> Option<T>,
        ends_hope: impl Fn(&ServerMessage) -> bool,
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
            if self.received.iter().any(&ends_hope) {
                return None;
            }
            let frame = timeout_at(deadline, self.next_frame()).await;
            self.received
                .extend(ServerMessage::read(&frame.ok().flatten()?));
        }
    }
}

/// The frames of one topic that a [`TestSocket`] receives. See [`TestSocket::on`].
pub struct OnTopic<'a> {
    socket: &'a mut TestSocket,
    topic: &'a str,
}

named_debug!(OnTopic<'_>, topic);

impl<'a> OnTopic<'a> {
    fn only(&self, sent: Sent<'a>) -> Sent<'a> {
        Sent {
            topic: Some(self.topic),
            ..sent
        }
    }

    /// The payload of the next push of an event in this topic.
    ///
    /// # Panics
    /// If none comes within 5 seconds.
    #[track_caller]
    pub fn next_push(self, event: &'a str) -> impl Future<Output = Value> {
        let at = Location::caller();
        let sent = self.only(push(event));
        self.socket.next(at, sent, ServerBody::json)
    }

    /// The payload of the next broadcast of an event in this topic.
    ///
    /// # Panics
    /// If none comes within 5 seconds.
    #[track_caller]
    pub fn next_broadcast(self, event: &'a str) -> impl Future<Output = Value> {
        let at = Location::caller();
        let sent = self.only(broadcast(event));
        self.socket.next(at, sent, ServerBody::json)
    }

    /// This event is pushed to this topic's channel with this payload.
    ///
    /// # Panics
    /// If it is not, or with another payload.
    #[track_caller]
    pub fn assert_push(self, event: &'a str, payload: Value) -> impl Future<Output = ()> {
        let at = Location::caller();
        let sent = self.only(push(event));
        self.socket.assert(at, sent, payload)
    }

    /// This event is broadcast to this topic with this payload.
    ///
    /// # Panics
    /// If it is not, or with another payload.
    #[track_caller]
    pub fn assert_broadcast(self, event: &'a str, payload: Value) -> impl Future<Output = ()> {
        let at = Location::caller();
        let sent = self.only(broadcast(event));
        self.socket.assert(at, sent, payload)
    }

    /// This event is not pushed to this topic's channel.
    ///
    /// # Panics
    /// If it is within 100 ms.
    #[track_caller]
    pub fn refute_push(self, event: &'a str) -> impl Future<Output = ()> {
        let at = Location::caller();
        let sent = self.only(push(event));
        self.socket
            .refute(at, move |frame| sent.find(frame).is_some())
    }

    /// This event is not broadcast to this topic.
    ///
    /// # Panics
    /// If it is within 100 ms.
    #[track_caller]
    pub fn refute_broadcast(self, event: &'a str) -> impl Future<Output = ()> {
        let at = Location::caller();
        let sent = self.only(broadcast(event));
        self.socket
            .refute(at, move |frame| sent.find(frame).is_some())
    }
}
