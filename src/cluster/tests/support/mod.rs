//! A proxy that can be cut, and nodes that take down what they hear.

mod node;
mod proxy;

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

pub(in crate::cluster) use self::node::{Node, message, nonce_of};
pub(in crate::cluster) use self::proxy::Proxy;

/// Waits until `condition` holds; fails the test after a minute.
#[track_caller]
pub(in crate::cluster) fn until(what: &str, mut condition: impl FnMut() -> bool) {
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
pub(in crate::cluster) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// A port that was free a moment ago. Another process can take it before the test does.
pub(in crate::cluster) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
