//! A long-polling client: POSTs for what it says, and a task that polls all the time for what it hears.

use std::{io, net::SocketAddr, time::Duration};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::transport::{Answer, WINDOW, Wire};
use super::wire::{Frame, Headers, RawFrame, Received, http};

/// A session whose client is gone ends at the latest this long after the end of its last poll.
const PATIENCE: Duration = WINDOW.saturating_mul(6);

/// One session. Dropping it ends the polling.
#[derive(Debug)]
pub(crate) struct PollClient {
    addr: SocketAddr,
    /// With the token.
    target: String,
    /// Lines are messages on vsn 2 only: they are told apart by the `[` of its arrays.
    takes_lines: bool,
    received: Received,
    poller: JoinSet<()>,
}

impl PollClient {
    async fn post(&self, content_type: &str, body: &[u8]) -> io::Result<()> {
        let headers = [("Content-Type", Some(content_type))];
        let answer = http(self.addr, "POST", &self.target, &headers, body).await?;
        match status(&answer.body) {
            Some((200, _)) => Ok(()),
            _ => Err(io::Error::other(format!("not taken: {answer:?}"))),
        }
    }

    async fn post_lines(&self, lines: &str) -> io::Result<()> {
        self.post("application/x-ndjson", lines.as_bytes()).await
    }
}

impl Wire for PollClient {
    const PATH: &'static str = "longpoll";

    async fn dial(
        addr: SocketAddr,
        target: &str,
        headers: Headers<'_>,
    ) -> io::Result<(Option<Self>, Answer)> {
        let answer = http(addr, "GET", target, headers, b"").await?;
        let opened = status(&answer.body);
        let answer = |status| Answer {
            status,
            subprotocol: None,
        };
        let (token, status) = match &opened {
            Some((410, body)) => (body["token"].as_str(), 101),
            Some((status, _)) => (None, *status),
            None => return Err(io::Error::other("no answer of the protocol")),
        };
        let Some(token) = token else {
            return Ok((None, answer(status)));
        };
        let separator = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{separator}token={token}");
        let (deliver, received) = Received::new();
        let mut poller = JoinSet::new();
        poller.spawn(poll(addr, target.clone(), deliver));
        let client = Self {
            addr,
            takes_lines: target.contains("vsn=2."),
            target,
            received,
            poller,
        };
        Ok((Some(client), answer(status)))
    }

    async fn send_frame(&self, frame: &RawFrame) -> io::Result<()> {
        match frame.opcode {
            1 => self.post("application/json", &frame.payload).await,
            2 => {
                self.post_lines(&BASE64_STANDARD.encode(&frame.payload))
                    .await
            }
            other => panic!("no opcode {other} over long-poll"),
        }
    }

    /// In one request, where a request may hold several.
    async fn send_texts(&self, texts: &[String]) -> io::Result<()> {
        if self.takes_lines {
            return self.post_lines(&texts.join("\n")).await;
        }
        for text in texts {
            self.send_text(text).await?;
        }
        Ok(())
    }

    fn received(&mut self) -> &mut Received {
        &mut self.received
    }

    async fn abort(mut self) {
        self.poller.shutdown().await;
        // A request without messages tells whether the session lives, and does not keep it alive.
        let gone = async {
            while self.post_lines("").await.is_ok() {
                sleep(WINDOW / 20).await;
            }
        };
        let gone = timeout(PATIENCE, gone).await;
        gone.expect("a session that is not polled should end");
    }

    /// A session ends without one.
    fn close_code(_: u16) -> Option<u16> {
        None
    }

    fn playable(steps: &[Value]) -> Option<Vec<Value>> {
        super::playable::over_longpoll(steps)
    }
}

/// The protocol's status in an answer, and the whole of it.
fn status(body: &[u8]) -> Option<(u16, Value)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let status = body["status"].as_u64()?;
    Some((u16::try_from(status).ok()?, body))
}

/// Polls until the session has ended.
async fn poll(addr: SocketAddr, target: String, deliver: mpsc::UnboundedSender<Frame>) {
    // The test may have dropped its end: nobody is left to tell.
    let tell = |frame| drop(deliver.send(frame));
    while let Ok(answer) = http(addr, "GET", &target, &[], b"").await
        && let Some((200 | 204, mut body)) = status(&answer.body)
    {
        let Value::Array(messages) = body["messages"].take() else {
            tell(Frame::Violation(format!("no messages in {answer:?}")));
            return;
        };
        for message in messages {
            tell(match message {
                Value::String(text) => Frame::text(text),
                other => Frame::Violation(format!("{other} is no message")),
            });
        }
    }
    tell(Frame::Eof);
}
