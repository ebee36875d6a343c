//! A Redis server, and what only nodes on Redis do.

pub(super) mod node;
pub(super) mod server;

pub(super) use self::node::Node;
pub(super) use self::server::Server;
pub(super) use crate::cluster::tests::support::{Proxy, message, nonce_of, until, wait};

impl Proxy {
    /// Its URL for Redis.
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
