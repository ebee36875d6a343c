//! A Redis of the test's own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const DEADLINE: Duration = Duration::from_secs(10);

/// A redis-server that keeps nothing on disk. It ends with this value.
pub(crate) struct Redis {
    server: Child,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        loop {
            // Another process may take the port before Redis does: then it ends, and the next port is tried.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = free.local_addr().expect("bound").port();
            drop(free);
            if let Some(redis) = Self::start_on(port) {
                return redis;
            }
        }
    }

    /// `None` if it ends at once: the port is taken.
    pub(crate) fn start_on(port: u16) -> Option<Self> {
        let text = port.to_string();
        let options = [
            "--port",
            &text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ];
        let server = Command::new("redis-server")
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: `apt install redis-server`");
        let mut redis = Self { server, port };
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if redis.server.try_wait().expect("it is a child").is_some() {
                return None;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(redis);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server should listen on {port}");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
