//! A long-polling client that speaks vsn 2.0.0.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::wire::http;

/// One polling client.
pub(crate) struct Poller {
    pub(crate) addr: SocketAddr,
    pub(crate) token: String,
}

impl Poller {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        let mut new = Self {
            addr,
            token: String::new(),
        };
        let opened = new.poll().await;
        assert_eq!(
            (&opened["status"], &opened["messages"]),
            (&json!(410), &json!([]))
        );
        new.token = opened["token"].as_str().expect("a token").to_owned();
        new
    }

    pub(crate) fn path(&self) -> String {
        format!("/socket/longpoll?vsn=2.0.0&token={}", self.token)
    }

    pub(crate) async fn poll(&self) -> Value {
        let answer = http(self.addr, "GET", &self.path(), &[], b"")
            .await
            .expect("an answer");
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.headers.get("cache-control").map(String::as_str),
            Some("no-store")
        );
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// The messages of the next poll, parsed.
    pub(crate) async fn messages(&self) -> Vec<Value> {
        let answer = self.poll().await;
        assert_eq!(answer["status"], 200, "{answer}");
        let messages = answer["messages"].as_array().expect("a list").iter();
        let parse = |text: &Value| serde_json::from_str(text.as_str().expect("a string"));
        messages
            .map(|text| parse(text).expect("a message is JSON"))
            .collect()
    }

    pub(crate) async fn post(&self, content_type: &str, body: &[u8]) -> Value {
        let headers = [("Content-Type", Some(content_type))];
        let answer = http(self.addr, "POST", &self.path(), &headers, body)
            .await
            .expect("an answer");
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    pub(crate) async fn send(&self, message: Value) {
        let sent = self
            .post("application/json", message.to_string().as_bytes())
            .await;
        assert_eq!(sent, json!({"status": 200}));
    }

    pub(crate) async fn join(&self, topic: &str) {
        self.send(json!(["1", "1", topic, "phx_join", {}])).await;
        assert_eq!(self.messages().await[0][4]["status"], "ok");
    }
}
