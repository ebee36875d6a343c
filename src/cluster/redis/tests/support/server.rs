//! A Redis server of the test's own.

use std::process::{Child, Command, Stdio};

use crate::cluster::tests::support::{free_port, until};

/// A server on a free port. It ends when this is dropped.
pub(in crate::cluster) struct Server {
    child: Child,
    /// The port, on the loopback interface.
    pub(in crate::cluster) port: u16,
}

impl Server {
    /// Starts a server.
    pub(in crate::cluster) fn start() -> Self {
        loop {
            let port = free_port();
            // Another process can have taken the port in between.
            if let Some(child) = spawn(port) {
                return Self { child, port };
            }
        }
    }

    /// Its URL.
    pub(in crate::cluster) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends the server as a crash would.
    pub(in crate::cluster) fn kill(&mut self) {
        self.child.kill().expect("the server is a child");
        self.child.wait().expect("the server is a child");
    }

    /// Starts it again on the same port, empty.
    pub(in crate::cluster) fn start_again(&mut self) {
        until("the port is free again", || {
            spawn(self.port).map(|child| self.child = child).is_some()
        });
    }

    /// A connection past all proxies.
    pub(in crate::cluster) fn connection(&self) -> ::redis::Connection {
        let client = ::redis::Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    /// Runs a command.
    pub(in crate::cluster) fn run<T: ::redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = ::redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection()).expect("a reply")
    }

    /// The beginning of the names of all keys.
    pub(in crate::cluster) fn keys(&self) -> String {
        let info: String = self.run(&["INFO", "server"]);
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        format!("slackir:{}", &run_id.expect("a run_id")[..10])
    }
}

/// Starts a server and waits until it answers; `None` if it ends instead.
fn spawn(port: u16) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let url = format!("redis://127.0.0.1:{port}");
    let client = ::redis::Client::open(url).expect("a URL");
    let mut answers = false;
    until("the server answers", || {
        answers = client
            .get_connection()
            .is_ok_and(|mut connection| ::redis::ConnectionLike::check_connection(&mut connection));
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
