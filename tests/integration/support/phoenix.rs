//! A client that speaks vsn 2.0.0 over either transport, so that a test reads like a conversation.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::transport::Wire;
use super::wire::{DEADLINE, Frame, WireClient};

/// One connection. Refs count up from 1; a join's ref is its join_ref.
pub(crate) struct Phoenix<W = WireClient> {
    pub(crate) wire: W,
    next_ref: u32,
}

impl Phoenix {
    /// Connects over WebSocket.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::dial(addr).await
    }

    /// Over a connection that is open.
    pub(crate) fn over(wire: WireClient) -> Self {
        Self { wire, next_ref: 0 }
    }

    /// The code with which the server closes; frames before it are passed over.
    pub(crate) async fn closed(&mut self) -> u16 {
        self.closed_within(2 * DEADLINE).await
    }

    /// The same, in so much time.
    pub(crate) async fn closed_within(&mut self, limit: Duration) -> u16 {
        let code = self.end_within(limit).await;
        code.expect("a WebSocket should be closed with a code")
    }
}

impl<W: Wire> Phoenix<W> {
    pub(crate) async fn dial(addr: SocketAddr) -> Self {
        Self::dial_with(addr, "").await
    }

    /// Connects with further parameters, such as `&user_id=1`.
    pub(crate) async fn dial_with(addr: SocketAddr, params: &str) -> Self {
        let target = format!("/socket/{}?vsn=2.0.0{params}", W::PATH);
        match W::dial(addr, &target, &[]).await {
            Ok((Some(wire), _)) => Self { wire, next_ref: 0 },
            other => panic!("{target} should be accepted, got {:?}", other.err()),
        }
    }

    /// Sends `phx_join`; returns the join_ref.
    pub(crate) async fn send_join(&mut self, topic: &str, params: Value) -> String {
        let join_ref = self.take_ref();
        self.send(json!([join_ref, join_ref, topic, "phx_join", params]))
            .await;
        join_ref
    }

    /// Joins a topic, which must be accepted; returns the join_ref and the reply.
    pub(crate) async fn join(&mut self, topic: &str) -> (String, Value) {
        let join_ref = self.send_join(topic, json!({})).await;
        let reply = self.reply_to(&join_ref).await;
        assert_eq!(reply["status"], "ok", "join of {topic}");
        (join_ref, reply["response"].clone())
    }

    /// Sends an event; returns its ref.
    pub(crate) async fn push(
        &mut self,
        join_ref: &str,
        topic: &str,
        event: &str,
        payload: Value,
    ) -> String {
        let reference = self.take_ref();
        self.send(json!([join_ref, reference, topic, event, payload]))
            .await;
        reference
    }

    /// The payload of the next frame, which must be the reply to `reference`.
    pub(crate) async fn reply_to(&mut self, reference: &str) -> Value {
        let mut frame = self.next().await;
        assert_eq!(
            (&frame[1], &frame[3]),
            (&json!(reference), &json!("phx_reply")),
            "{frame}"
        );
        frame[4].take()
    }

    /// A heartbeat and its reply: whatever the connection was sent before has been handled by its
    /// socket, and nothing else came in between.
    pub(crate) async fn heartbeat(&mut self) {
        let reference = self.take_ref();
        self.send(json!([null, reference, "phoenix", "heartbeat", {}]))
            .await;
        assert_eq!(self.reply_to(&reference).await["status"], "ok");
    }

    pub(crate) async fn send(&self, message: Value) {
        self.send_all(&[message]).await;
    }

    /// Sends several messages at once.
    pub(crate) async fn send_all(&self, messages: &[Value]) {
        let texts: Vec<_> = messages.iter().map(Value::to_string).collect();
        let sent = self.wire.send_texts(&texts).await;
        sent.expect("the connection takes text");
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Value {
        self.wire.received().next_text().await
    }

    /// The next frame's event and payload.
    pub(crate) async fn next_event(&mut self) -> (String, Value) {
        let mut frame = self.next().await;
        (
            frame[3].as_str().unwrap_or_default().to_owned(),
            frame[4].take(),
        )
    }

    /// Waits until the server has ended the connection: with this code, where the transport has codes.
    /// Frames before it are passed over.
    pub(crate) async fn ended_with(&mut self, code: u16) {
        assert_eq!(self.end().await, W::close_code(code));
    }

    async fn end(&mut self) -> Option<u16> {
        self.end_within(2 * DEADLINE).await
    }

    async fn end_within(&mut self, limit: Duration) -> Option<u16> {
        loop {
            match self.wire.recv(1, limit).await.pop() {
                Some(Frame::Close(code)) => return code,
                Some(Frame::Eof) => return None,
                Some(Frame::Text(_) | Frame::Binary(_) | Frame::RawText(_)) => {}
                other => panic!("expected the end, got {other:?}"),
            }
        }
    }

    fn take_ref(&mut self) -> String {
        self.next_ref += 1;
        self.next_ref.to_string()
    }
}
