//! A NATS server of the test's own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cluster::tests::support::{free_port, until};

/// A server on a free port. It ends when this is dropped.
pub(in crate::cluster) struct Server {
    child: Child,
    /// The port, on the loopback interface.
    pub(in crate::cluster) port: u16,
    /// The port at which it tells of its connections.
    monitor: u16,
    args: Vec<String>,
}

impl Server {
    /// Starts a server with these arguments besides its ports.
    pub(super) fn start(args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        loop {
            let (port, monitor) = (free_port(), free_port());
            // Another process can have taken a port in between.
            if let Some(child) = spawn(port, monitor, &args) {
                return Self {
                    child,
                    port,
                    monitor,
                    args,
                };
            }
        }
    }

    /// Starts a server with this configuration, which is kept in `dir`.
    pub(super) fn configured(dir: &tempfile::TempDir, config: &str) -> Self {
        let path = dir.path().join("nats.conf");
        std::fs::write(&path, config).expect("a folder of the test's own");
        Self::start(&["-c", path.to_str().expect("a path of text")])
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends the server as a crash would.
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("the server is a child");
        self.child.wait().expect("the server is a child");
    }

    /// Starts it again on the same port.
    pub(super) fn start_again(&mut self) {
        until("the port is free again", || {
            spawn(self.port, self.monitor, &self.args)
                .map(|child| self.child = child)
                .is_some()
        });
    }

    /// Its connections, with their subjects.
    pub(super) fn connections(&self) -> Vec<Value> {
        let answer = ask(self.monitor, "/connz?subs=1&limit=100000");
        let answer = answer.expect("the server answers");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        let mut answer: Value = serde_json::from_str(body).expect("JSON");
        match answer["connections"].take() {
            Value::Array(connections) => connections,
            _ => Vec::new(),
        }
    }
}

/// Asks the server of itself.
fn ask(monitor: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, monitor))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Starts a server and waits until it answers; `None` if it ends instead.
fn spawn(port: u16, monitor: u16, args: &[String]) -> Option<Child> {
    let mut child = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .args(["-m", &monitor.to_string()])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is installed");
    let mut answers = false;
    until("the server answers", || {
        answers = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            && ask(monitor, "/healthz").is_ok();
        answers || child.try_wait().expect("a child").is_some()
    });
    (answers && child.try_wait().expect("a child").is_none()).then_some(child)
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
