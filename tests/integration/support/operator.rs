//! Somebody at the operators' dashboard, and the server that has it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::phoenix::Phoenix;
use super::process::Process;
use super::wire::{HttpAnswer, WireClient, http};

pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const SOCKET: &str = "/dashboard/socket/websocket?vsn=2.0.0";
pub(crate) const TOPIC: &str = "admin:dashboard";
pub(crate) const ROOMS: &str = r#"
    [identity]
    fields = { id = "{connect.id}" }
    [[rooms]]
    topics = "room:*"
    events = ["shout"]
    [rooms.presence]
    key = "{user.id}"
"#;

pub(crate) fn start(args: &[&str]) -> (TempDir, Process) {
    Process::configured(ROOMS, args)
}

pub(crate) fn with_password() -> (TempDir, Process) {
    start(&["--dashboard-password", PASSWORD])
}

pub(crate) async fn get(addr: SocketAddr, target: &str, cookie: Option<&str>) -> HttpAnswer {
    let answer = http(addr, "GET", target, &[("Cookie", cookie)], b"").await;
    answer.expect("an answer")
}

pub(crate) async fn post(
    addr: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> HttpAnswer {
    let form = ("Content-Type", Some("application/x-www-form-urlencoded"));
    let headers = headers.iter().map(|(name, value)| (*name, Some(*value)));
    let headers: Vec<_> = headers.chain([form]).collect();
    let answer = http(addr, "POST", target, &headers, body.as_bytes()).await;
    answer.expect("an answer")
}

pub(crate) async fn login(addr: SocketAddr, password: &str) -> HttpAnswer {
    let body = format!("password={}", password.replace(' ', "+"));
    post(addr, "/dashboard/login", &[], &body).await
}

/// The cookie that an answer sets.
pub(crate) fn cookie(answer: &HttpAnswer) -> String {
    let set = answer.headers.get("set-cookie").expect("a cookie");
    let (cookie, attributes) = set.split_once(';').expect("attributes");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/dashboard", "Max-Age="] {
        assert!(attributes.contains(attribute), "{set}");
    }
    cookie.to_owned()
}

/// One open dashboard.
pub(crate) struct Operator {
    pub(crate) client: Phoenix,
    pub(crate) join_ref: String,
    pub(crate) hello: Value,
    /// Pushes that came before an answer.
    pub(crate) pushes: Vec<(String, Value)>,
}

impl Operator {
    pub(crate) async fn come(addr: SocketAddr) -> Self {
        let answer = login(addr, PASSWORD).await;
        assert_eq!(answer.status, 303);
        Self::with(addr, &cookie(&answer)).await
    }

    pub(crate) async fn with(addr: SocketAddr, cookie: &str) -> Self {
        let opened = WireClient::open(addr, SOCKET, &[("Cookie", Some(cookie))]).await;
        let wire = opened.expect("an answer").expect("the cookie lets in");
        let mut client = Phoenix::over(wire);
        let (join_ref, hello) = client.join(TOPIC).await;
        Self {
            client,
            join_ref,
            hello,
            pushes: Vec::new(),
        }
    }

    /// The answer to a request: its status and its response.
    pub(crate) async fn asked(&mut self, event: &str, payload: Value) -> (String, Value) {
        let sent = self
            .client
            .push(&self.join_ref, TOPIC, event, payload)
            .await;
        loop {
            let mut frame = self.client.next().await;
            if frame[3] == "phx_reply" && frame[1] == sent.as_str() {
                let status = frame[4]["status"].as_str().unwrap_or_default().to_owned();
                return (status, frame[4]["response"].take());
            }
            let event = frame[3].as_str().unwrap_or_default().to_owned();
            self.pushes.push((event, frame[4].take()));
        }
    }

    pub(crate) async fn ask(&mut self, event: &str, payload: Value) -> Value {
        let (status, response) = self.asked(event, payload).await;
        assert_eq!(status, "ok", "{event}: {response}");
        response
    }

    pub(crate) async fn refused(&mut self, event: &str, payload: Value) -> String {
        let (status, response) = self.asked(event, payload).await;
        assert_eq!(status, "error", "{event}: {response}");
        response["reason"].as_str().expect("a sentence").to_owned()
    }

    /// The next push of an event.
    pub(crate) async fn pushed(&mut self, event: &str) -> Value {
        loop {
            if let Some(at) = self.pushes.iter().position(|(known, _)| known == event) {
                return self.pushes.remove(at).1;
            }
            let push = self.client.next_event().await;
            self.pushes.push(push);
        }
    }
}

pub(crate) async fn member(addr: SocketAddr, user: &str, topic: &str) -> (Phoenix, String) {
    let mut client = Phoenix::<WireClient>::dial_with(addr, &format!("&id={user}")).await;
    let reference = client.send_join(topic, json!({})).await;
    loop {
        let frame = client.next().await;
        if frame[3] == "phx_reply" && frame[1] == reference.as_str() {
            assert_eq!(frame[4]["status"], "ok", "{frame}");
            return (client, reference);
        }
    }
}
