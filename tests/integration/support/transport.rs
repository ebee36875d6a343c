//! What the two transports have in common, so that a test of the channel rules is written once and runs
//! over both.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::Value;
use slackir::endpoint::TransportOptions;
use slackir::transport::LongPollOptions;

use super::wire::{Frame, Headers, RawFrame, Received, WireClient};

/// The window of polls in tests: short enough to wait for the end of a session, long enough for a client
/// on a loaded machine to come back in time.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

/// A socket that is served over both.
pub(crate) fn both_transports() -> TransportOptions {
    TransportOptions::default()
        .longpoll("longpoll")
        .longpoll_options(LongPollOptions::default().window(WINDOW))
}

/// Makes of each test, an async function that is generic over [`Wire`], one for each transport and
/// WebSocket driver: `name::websocket`, `name::direct` and `name::longpoll`.
macro_rules! over_both_transports {
    ($($test:ident)*) => {$(
        mod $test {
            use crate::support::server::Driver;
            use crate::support::wire::WireClient;

            #[actix_web::test]
            async fn websocket() {
                Driver::ActixWs.run(super::$test::<WireClient>()).await;
            }

            #[actix_web::test]
            async fn direct() {
                Driver::Direct.run(super::$test::<WireClient>()).await;
            }

            #[actix_web::test]
            async fn longpoll() {
                super::$test::<crate::support::longpoll::PollClient>().await;
            }
        }
    )*};
}
pub(crate) use over_both_transports;

/// How a server answers a client that connects.
pub(crate) struct Answer {
    /// 101 when the client is let in, whatever says so on the transport.
    pub(crate) status: u16,
    pub(crate) subprotocol: Option<String>,
}

/// One connection of a client. What arrives over it is a stream of frames on both transports.
pub(crate) trait Wire: Sized {
    /// The path below a socket.
    const PATH: &'static str;

    /// Connects to `target`, path and query; no client when the server refuses.
    async fn dial(
        addr: SocketAddr,
        target: &str,
        headers: Headers<'_>,
    ) -> io::Result<(Option<Self>, Answer)>;

    /// Sends one frame. Over long-poll there are only whole messages, text or binary.
    async fn send_frame(&self, frame: &RawFrame) -> io::Result<()>;

    /// Sends several text messages at once.
    async fn send_texts(&self, texts: &[String]) -> io::Result<()>;

    fn received(&mut self) -> &mut Received;

    /// Vanishes without a goodbye; done once the server can know. Dropping a client does not wait.
    async fn abort(self);

    /// The code that a client sees when the server closes with `code`.
    fn close_code(code: u16) -> Option<u16>;

    /// What of a recorded scenario can be played; `None` when too little is left to be worth it.
    fn playable(steps: &[Value]) -> Option<Vec<Value>>;

    async fn send_text(&self, text: &str) -> io::Result<()> {
        self.send_frame(&RawFrame::new(1, text)).await
    }

    async fn send_binary(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_frame(&RawFrame::new(2, bytes)).await
    }

    async fn recv(&mut self, count: usize, limit: Duration) -> Vec<Frame> {
        self.received().recv(count, limit).await
    }
}

impl Wire for WireClient {
    const PATH: &'static str = "websocket";

    async fn dial(
        addr: SocketAddr,
        target: &str,
        headers: Headers<'_>,
    ) -> io::Result<(Option<Self>, Answer)> {
        let (client, answer) = match Self::open(addr, target, headers).await? {
            Ok(client) => {
                let answer = client.answer.clone();
                (Some(client), answer)
            }
            Err(answer) => (None, answer),
        };
        let answer = Answer {
            status: answer.status,
            subprotocol: answer.headers.get("sec-websocket-protocol").cloned(),
        };
        Ok((client, answer))
    }

    async fn send_frame(&self, frame: &RawFrame) -> io::Result<()> {
        self.send_raw_frame(frame).await
    }

    /// In one packet.
    async fn send_texts(&self, texts: &[String]) -> io::Result<()> {
        let frames = texts.iter().map(|text| RawFrame::new(1, text.as_str()));
        let packet: Vec<u8> = frames.flat_map(|frame| frame.encode()).collect();
        self.send_bytes(&packet).await
    }

    fn received(&mut self) -> &mut Received {
        &mut self.received
    }

    async fn abort(self) {
        Self::abort(self).await;
    }

    fn close_code(code: u16) -> Option<u16> {
        Some(code)
    }

    fn playable(steps: &[Value]) -> Option<Vec<Value>> {
        Some(steps.to_vec())
    }
}
