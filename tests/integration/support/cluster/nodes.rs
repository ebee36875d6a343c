//! [`Nodes`]: servers that are nodes of one cluster, each with its own ways to Redis and to PostgreSQL.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};

use super::way::Way;
use crate::support::database::Database;
use crate::support::process::Process;
use crate::support::redis::Redis;

/// Where the living nodes listen. Clients choose one.
pub(crate) type Addresses = Arc<Mutex<Vec<Option<SocketAddr>>>>;

/// A cluster whose parts can be killed and cut.
pub(crate) struct Nodes {
    pub(crate) database: Database,
    redis: Option<Redis>,
    redis_port: u16,
    pub(crate) nodes: Vec<Node>,
    pub(crate) addresses: Addresses,
}

/// One node.
pub(crate) struct Node {
    pub(crate) to_redis: Way,
    pub(crate) to_database: Way,
    server: Option<Process>,
    dir: Arc<TempDir>,
    urls: [String; 2],
    args: Vec<String>,
}

impl Nodes {
    /// Starts Redis and so many nodes.
    pub(crate) async fn start(count: usize, args: &[&str]) -> Self {
        let (database, redis) = (Database::postgres(), Redis::start());
        let (_, rest) = database.url.split_once('@').expect("a user");
        let (host, _) = rest.split_once('/').expect("a database's name");
        let host = host.to_owned();
        let target = host.to_socket_addrs().ok().and_then(|mut all| all.next());
        let target = target.expect("the database's address");
        let redis_port = redis.port();
        let mut nodes = Vec::new();
        for _ in 0..count {
            let to_redis = Way::to(SocketAddr::from(([127, 0, 0, 1], redis_port))).await;
            let to_database = Way::to(target).await;
            let urls = [
                database.url.replace(&host, &to_database.addr.to_string()),
                format!("redis://{}", to_redis.addr),
            ];
            nodes.push(Node {
                to_redis,
                to_database,
                server: None,
                dir: Arc::new(TempDir::new().expect("a folder")),
                urls,
                args: args.iter().map(|&arg| arg.to_owned()).collect(),
            });
        }
        let mut all = Self {
            database,
            redis: Some(redis),
            redis_port,
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

    /// Kills Redis.
    pub(crate) fn kill_redis(&mut self) {
        self.redis = None;
    }

    /// Starts Redis again on its port, with nothing in it.
    pub(crate) fn restart_redis(&mut self) {
        while self.redis.is_none() {
            self.redis = tokio::task::block_in_place(|| Redis::start_on(self.redis_port));
        }
    }

    /// What Redis says to a command of some words.
    pub(crate) fn tell_redis(&self, command: &str) -> String {
        let asked = || -> std::io::Result<String> {
            let mut redis = TcpStream::connect(("127.0.0.1", self.redis_port))?;
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
        let (dir, urls, args) = (Arc::clone(&self.dir), self.urls.clone(), self.args.clone());
        spawn_blocking(move || {
            let [database, redis] = &urls;
            let mut all = vec!["--database-url", database, "--redis-url", redis];
            all.extend(args.iter().map(String::as_str));
            Process::start(&dir, &all)
        })
    }
}
