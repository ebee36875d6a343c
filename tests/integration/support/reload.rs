//! A server whose settings are read again.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{ChildStderr, Stdio};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::jwt::signed_with;
use super::phoenix::Phoenix;
use super::process::Process;
use super::transport::Wire;
use super::wire::{WireClient, http};

pub(crate) const SECRETS: [&str; 2] = [
    "the first secret of thirty-two bytes or more",
    "the second secret of thirty-two bytes or more",
];

/// The section that every server has.
pub(crate) const IDENTITY: &str =
    "[identity]\njwt = { algorithms = [\"HS256\"], secret_file = \"jwt\", require_exp = false }\n";

/// The server, its folder with the settings, and its log.
pub(crate) struct Running {
    dir: TempDir,
    server: Process,
    log: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// A server with these settings, and with the identity unless it is among them.
    pub(crate) fn start(settings: &str) -> Self {
        let dir = tempdir().expect("a temporary folder");
        write(&dir, settings, SECRETS[0]);
        let args = ["--config", "slackir.toml", "--log-format", "json"];
        let mut server = Process::start_logging_to(Stdio::piped(), &dir, &args);
        let log = BufReader::new(server.take_stderr()).lines();
        Self { dir, server, log }
    }

    /// The fields of the next line of the log whose event begins so.
    pub(crate) fn logged(&mut self, event: &str) -> Value {
        let lines = self.log.by_ref().map_while(Result::ok);
        let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let line = lines.find(|line| {
            let message = line["fields"]["message"].as_str();
            message.is_some_and(|message| message.starts_with(event))
        });
        line.expect("the server logs it")["fields"].take()
    }

    /// Writes other settings, sends SIGHUP, and waits for the line of the log.
    pub(crate) fn reload(&mut self, settings: &str, secret: &str, event: &str) -> Value {
        write(&self.dir, settings, secret);
        self.server.signal("-HUP");
        let fields = self.logged("serve.reload");
        let message = fields["message"].as_str().unwrap_or_default();
        assert_eq!(message.split(':').next(), Some(event), "{fields}");
        fields
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// The status of a request to the API with this token.
    pub(crate) async fn api(&self, token: &str) -> u16 {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", Some(&*authorization))];
        let target = "/api/topics/random:lobby/messages";
        let answer = http(self.addr(), "GET", target, &headers, b"").await;
        answer.expect("an answer").status
    }

    /// The status of a handshake with a token of this secret, by a page of this host.
    pub(crate) async fn handshake(&self, secret: &str, host: &str) -> (Option<WireClient>, u16) {
        let token = signed_with(secret, &json!({"sub": "ada"}));
        let target = format!("/socket/websocket?vsn=2.0.0&token={token}");
        let origin = format!("http://{host}");
        let dialled = WireClient::dial(self.addr(), &target, &[("Origin", Some(&*origin))]).await;
        let (client, answer) = dialled.expect("an answer");
        (client, answer.status)
    }

    /// A client with a token of the first secret.
    pub(crate) async fn client(&self) -> Phoenix {
        let token = signed_with(SECRETS[0], &json!({"sub": "ada"}));
        Phoenix::dial_with(self.addr(), &format!("&token={token}")).await
    }

    pub(crate) fn end(self) {
        self.server.signal("-TERM");
        assert_eq!(self.server.wait(), Some(0));
    }
}

fn write(dir: &TempDir, settings: &str, secret: &str) {
    let identity = if settings.contains("[identity]") {
        ""
    } else {
        IDENTITY
    };
    let config = format!("{settings}\n{identity}");
    std::fs::write(dir.path().join("slackir.toml"), config).expect("writable");
    std::fs::write(dir.path().join("jwt"), secret).expect("writable");
}
