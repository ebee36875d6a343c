//! A client for tests in which connections and servers die: everything that can fail says so
//! instead of ending the test. On tokio-tungstenite, vsn 2.0.0.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The longest that a server which lives may be silent.
const DEADLINE: Duration = Duration::from_secs(20);

/// One connection. Dropping it cuts it, without a close frame.
pub(crate) struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_ref: u32,
}

/// One frame: refs, event and payload. All topics of a peer are one.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) reference: Value,
    pub(crate) event: String,
    pub(crate) payload: Value,
}

impl Peer {
    /// `None` when nobody listens.
    pub(crate) async fn connect(addr: SocketAddr) -> Option<Self> {
        let url = format!("ws://{addr}/socket/websocket?vsn=2.0.0");
        let (socket, _) = timeout(DEADLINE, connect_async(url)).await.ok()?.ok()?;
        Some(Self {
            socket,
            next_ref: 0,
        })
    }

    /// Asks to join; the ref of the reply to come, which is the join_ref too.
    pub(crate) async fn join(&mut self, topic: &str, params: Value) -> Option<String> {
        let reference = self.take_ref();
        let join = json!([reference, reference, topic, "phx_join", params]);
        self.send(&join).await.then_some(reference)
    }

    /// Sends an event without a join_ref; its ref.
    pub(crate) async fn push(
        &mut self,
        topic: &str,
        event: &str,
        payload: Value,
    ) -> Option<String> {
        let reference = self.take_ref();
        let push = json!([null, reference, topic, event, payload]);
        self.send(&push).await.then_some(reference)
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            let message = timeout(DEADLINE, self.socket.next())
                .await
                .expect("a server that lives says something");
            if let Message::Text(text) = message?.ok()? {
                let (_, reference, _, event, payload): (Value, _, Value, _, _) =
                    serde_json::from_str(&text).expect("a frame of five elements");
                return Some(Heard {
                    reference,
                    event,
                    payload,
                });
            }
        }
    }

    /// The reply to a message; what comes before it is passed over. `None` when the connection ends
    /// first.
    pub(crate) async fn reply(&mut self, reference: &str) -> Option<Value> {
        loop {
            let heard = self.next().await?;
            if heard.event == "phx_reply" && heard.reference == reference {
                return Some(heard.payload);
            }
        }
    }

    async fn send(&mut self, frame: &Value) -> bool {
        let text = Message::text(frame.to_string());
        self.socket.send(text).await.is_ok()
    }

    fn take_ref(&mut self) -> String {
        self.next_ref += 1;
        self.next_ref.to_string()
    }
}
