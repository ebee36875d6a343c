//! A Redis server, a proxy that can be cut, and nodes that take down what they hear.

pub(super) mod node;
pub(super) mod proxy;
pub(super) mod server;

use std::time::{Duration, Instant};

pub(super) use self::node::{Node, message, nonce_of};
pub(super) use self::proxy::Proxy;
pub(super) use self::server::Server;

/// Waits until `condition` holds; fails the test after a minute.
#[track_caller]
pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "still not: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a future.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
