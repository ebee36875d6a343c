//! [`Nodes`]: servers that are nodes of one cluster, each with its own ways to Redis or NATS and to PostgreSQL.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};

use super::way::Way;
use crate::support::bus::{Bus, Engine};
use crate::support::database::Database;
use crate::support::process::Process;

/// Where the living nodes listen. Clients choose one.
pub(crate) type Addresses = Arc<Mutex<Vec<Option<SocketAddr>>>>;

/// A cluster whose parts can be killed and cut.
pub(crate) struct Nodes {
    pub(crate) database: Database,
    bus: Option<Bus>,
    engine: Engine,
    bus_port: u16,
    pub(crate) nodes: Vec<Node>,
    pub(crate) addresses: Addresses,
}

/// One node.
pub(crate) struct Node {
    pub(crate) to_bus: Way,
    pub(crate) to_database: Way,
    server: Option<Process>,
    dir: Arc<TempDir>,
    args: Vec<String>,
}

impl Nodes {
    /// Starts Redis or NATS and so many nodes.
    pub(crate) async fn start(engine: Engine, count: usize, args: &[&str]) -> Self {
        let (database, bus) = (Database::postgres(), Bus::start(engine));
        let mut targets = database.host().to_socket_addrs();
        let target = targets.as_mut().ok().and_then(Iterator::next);
        let target = target.expect("the database's address");
        let bus_port = bus.port();
        let mut nodes = Vec::new();
        for _ in 0..count {
            let to_bus = Way::to(SocketAddr::from(([127, 0, 0, 1], bus_port))).await;
            let to_database = Way::to(target).await;
            let mut all = vec![
                "--database-url".to_owned(),
                database.url_over(to_database.addr),
            ];
            all.extend(engine.args(&engine.url(to_bus.addr)));
            all.extend(args.iter().map(|&arg| arg.to_owned()));
            nodes.push(Node {
                to_bus,
                to_database,
                server: None,
                dir: Arc::new(TempDir::new().expect("a folder")),
                args: all,
            });
        }
        let mut all = Self {
            database,
            bus: Some(bus),
            engine,
            bus_port,
            addresses: Arc::new(Mutex::new(vec![None; count])),
            nodes,
        };
        for number in 0..count {
            let server = all.nodes[number].start().await;
            all.started(number, server.expect("the node starts"));
        }
        all
    }

    /// A node runs.
    pub(crate) fn started(&mut self, number: usize, server: Process) {
        self.addresses.lock().expect("no panic")[number] = Some(server.addr);
        self.nodes[number].server = Some(server);
    }

    /// Kills a node.
    pub(crate) fn kill(&mut self, number: usize) {
        self.addresses.lock().expect("no panic")[number] = None;
        if let Some(server) = self.nodes[number].server.take() {
            server.kill();
        }
    }

    /// Whether a node runs.
    pub(crate) fn runs(&self, number: usize) -> bool {
        self.nodes[number].server.is_some()
    }

    /// Sends a node a signal, if it runs.
    pub(crate) fn signal(&self, number: usize, signal: &str) {
        if let Some(server) = &self.nodes[number].server {
            server.signal(signal);
        }
    }

    /// Kills Redis or NATS.
    pub(crate) fn kill_bus(&mut self) {
        self.bus = None;
    }

    /// Starts it again on its port, with nothing in it.
    pub(crate) fn restart_bus(&mut self) {
        while self.bus.is_none() {
            self.bus = tokio::task::block_in_place(|| Bus::start_on(self.engine, self.bus_port));
        }
    }

    /// What Redis says to a command of some words.
    pub(crate) fn tell_redis(&self, command: &str) -> String {
        let asked = || -> std::io::Result<String> {
            let mut redis = TcpStream::connect(("127.0.0.1", self.bus_port))?;
            redis.set_read_timeout(Some(Duration::from_secs(2)))?;
            write!(redis, "{command}\r\nQUIT\r\n")?;
            let mut answer = Vec::new();
            redis.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        asked().unwrap_or_else(|error| format!("-{error}"))
    }
}

impl Node {
    /// Starts the node, with the folder that it had before. That takes as long as the database does not answer.
    pub(crate) fn start(&self) -> JoinHandle<Process> {
        let (dir, args) = (Arc::clone(&self.dir), self.args.clone());
        spawn_blocking(move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            Process::start(&dir, &args)
        })
    }
}
