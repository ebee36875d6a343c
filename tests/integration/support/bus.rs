//! A Redis or a NATS of the test's own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the nodes of a cluster talk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Redis,
    Nats,
}

impl Engine {
    /// The arguments of a node.
    pub(crate) fn args(self, url: &str) -> Vec<String> {
        let args = match self {
            Self::Redis => vec!["--redis-url", url],
            Self::Nats => vec!["--nats-url", url, "--durability", "strict"],
        };
        args.into_iter().map(str::to_owned).collect()
    }

    /// The URL of a server at this address.
    pub(crate) fn url(self, address: impl std::fmt::Display) -> String {
        match self {
            Self::Redis => format!("redis://{address}"),
            Self::Nats => format!("nats://{address}"),
        }
    }

    fn command(self, port: u16) -> Command {
        let port = port.to_string();
        match self {
            Self::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--port", &port, "--bind", "127.0.0.1"]);
                command.args(["--save", "", "--appendonly", "no"]);
                command
            }
            Self::Nats => {
                let mut command = Command::new("nats-server");
                command.args(["-a", "127.0.0.1", "-p", &port]);
                command.stderr(Stdio::null());
                command
            }
        }
    }
}

/// A redis-server or a nats-server that keeps nothing on disk. It ends with this value.
pub(crate) struct Bus {
    pub(crate) engine: Engine,
    server: Child,
    port: u16,
}

impl Bus {
    pub(crate) fn start(engine: Engine) -> Self {
        Self::start_with(engine, &[])
    }

    /// With further arguments of the server.
    pub(crate) fn start_with(engine: Engine, args: &[&str]) -> Self {
        loop {
            // Another process may take the port before the server does: then it ends, and the next port is tried.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = free.local_addr().expect("bound").port();
            drop(free);
            if let Some(bus) = Self::try_start(engine, port, args) {
                return bus;
            }
        }
    }

    /// `None` if it ends at once: the port is taken.
    pub(crate) fn start_on(engine: Engine, port: u16) -> Option<Self> {
        Self::try_start(engine, port, &[])
    }

    fn try_start(engine: Engine, port: u16, args: &[&str]) -> Option<Self> {
        let server = engine
            .command(port)
            .args(args)
            .stdout(Stdio::null())
            .spawn()
            .expect("it is installed: `apt install redis-server nats-server`");
        let mut bus = Self {
            engine,
            server,
            port,
        };
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if bus.server.try_wait().expect("it is a child").is_some() {
                return None;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(bus);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{engine:?} should listen on {port}");
    }

    pub(crate) fn url(&self) -> String {
        self.engine.url(format_args!("127.0.0.1:{}", self.port))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
