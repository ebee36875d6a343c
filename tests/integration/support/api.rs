//! A program that uses the HTTP API of a server. Every answer is held against the server's own
//! OpenAPI document.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::database::Database;
use super::openapi::Document;
use super::process::Process;
use super::wire::{DEADLINE, Headers, HttpAnswer, http_within};

pub(crate) const TOKEN: &str = "a-token-of-the-tests";
/// Longer than the server waits for the database.
const PATIENCE: Duration = Duration::from_secs(20);

/// One program with a token.
pub(crate) struct Program {
    addr: SocketAddr,
    pub(crate) document: Document,
    authorization: Option<String>,
}

/// Starts a server with the API.
pub(crate) fn serve(database: &Database, args: &[&str]) -> Process {
    database.serve(&[&["--api-token", TOKEN], args].concat())
}

impl Program {
    pub(crate) async fn of(server: &Process) -> Self {
        let addr = server.addr;
        let path = "/api/openapi.json";
        let answer = http_within(DEADLINE, addr, "GET", path, &[], b"").await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "everybody may read the document");
        let document = Document::new(&answer.body);
        document.judge("GET", path, &answer);
        Self {
            addr,
            document,
            authorization: Some(format!("Bearer {TOKEN}")),
        }
    }

    /// The same program with another header, or none.
    pub(crate) fn authorized(mut self, authorization: Option<&str>) -> Self {
        self.authorization = authorization.map(str::to_owned);
        self
    }

    /// One request, whatever the body.
    pub(crate) async fn send(&self, method: &str, target: &str, body: &[u8]) -> HttpAnswer {
        self.send_with(&[], method, target, body).await
    }

    /// The same, with more headers.
    pub(crate) async fn send_with(
        &self,
        more: Headers<'_>,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> HttpAnswer {
        let headers = [
            ("Authorization", self.authorization.as_deref()),
            ("Content-Type", Some("application/json")),
        ];
        let headers = [&headers, more].concat();
        let answer = http_within(PATIENCE, self.addr, method, target, &headers, body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        self.document.judge(method, target, &answer);
        answer
    }

    /// One request; its status and its JSON body, null where there is none.
    pub(crate) async fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let answer = self.send(method, target, body.as_bytes()).await;
        (answer.status, answer.json())
    }

    /// What is there.
    pub(crate) async fn get(&self, target: &str) -> Value {
        let (status, body) = self.ask("GET", target, &Value::Null).await;
        assert_eq!(status, 200, "GET {target}: {body}");
        body
    }
}

impl HttpAnswer {
    /// The body; null where there is none.
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}
