//! The conformance example on a port of its own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a test waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A running server; it ends with the value.
pub struct Conformance {
    process: Child,
    port: u16,
}

impl Conformance {
    /// Starts the binary that `CONFORMANCE_BIN` names, or else the one in the project's target folder.
    pub fn start() -> Self {
        let binary = std::env::var("CONFORMANCE_BIN").unwrap_or_else(|_| {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");
            format!("{root}/target/debug/examples/conformance")
        });
        let port = free_port();
        let mut process = Command::new(&binary)
            .args(["--port", &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}"));
        let stdout = process.stdout.take().expect("it is piped");
        let server = Self { process, port };
        let mut line = String::new();
        // One line, once it listens.
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("text from the server");
        assert!(
            line.contains(&format!(":{port}")),
            "{binary} did not start: {line:?}"
        );
        server
    }

    /// Where the socket is mounted, without the path of a transport.
    pub fn socket_url(&self) -> String {
        format!("ws://127.0.0.1:{}/socket", self.port)
    }
}

impl Drop for Conformance {
    fn drop(&mut self) {
        // It keeps nothing, so nothing is lost.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}
