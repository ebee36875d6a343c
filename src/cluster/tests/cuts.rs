//! Connections that are lost or hang.

use std::sync::atomic::Ordering::SeqCst;

use super::engine::{Engine, behind_proxy, node, node_at};
use super::support::{message, until};
use crate::cluster::bus::{Bus, To};
use crate::lock::lock;

/// Names the port to a process that a test starts.
const PORT: &str = "SLACKIR_TEST_BUS_PORT";

pub(super) fn a_connection_that_hangs_is_given_up<E: Engine>() {
    let server = E::server();
    let (proxy, node) = behind_proxy::<E>(&server);
    for direction in [
        &proxy.faults.hang,
        &proxy.faults.hang_up,
        &proxy.faults.hang_down,
    ] {
        direction.store(true, SeqCst);
        until("the bus is down", || !node.bus.is_up());
        direction.store(false, SeqCst);
        until("the bus is up", || node.bus.is_up());
    }
    proxy.hang_old();
    // It may be up again at once.
    until("the bus has been down", || {
        node.heard.downs.load(SeqCst) >= 4
    });
    until("the bus is up", || node.bus.is_up());
}

pub(super) fn a_slow_connection_is_no_lost_one<E: Engine>() {
    let server = E::server();
    let (proxy, node) = behind_proxy::<E>(&server);
    node.attach("room");
    proxy.faults.delay.store(40, SeqCst);
    for nonce in 0..10 {
        node.bus
            .send(To::Topic("room"), message(node.id, nonce, ""));
        until("it has arrived", || {
            node.arrived("room").len() as u64 == nonce + 1
        });
    }
    assert_eq!(node.heard.downs.load(SeqCst), 0);
}

pub(super) fn a_dropped_bus_ends_and_leaves_no_connection<E: Engine>() {
    let server = E::server();
    let node = node::<E>(&server);
    assert!(E::clients(&server) > 0);
    node.bus.send(To::All, message(node.id, 0, ""));
    drop(node);
    until("the server has no other client", || {
        E::clients(&server) == 0
    });
}

pub(super) fn an_outage_is_logged_once_and_not_per_attempt<E: Engine>() {
    let server = E::server();
    let (proxy, node) = behind_proxy::<E>(&server);
    for _ in 0..2 {
        let before = proxy.faults.connections.load(SeqCst);
        proxy.faults.refuse.store(true, SeqCst);
        proxy.reset();
        until("it has tried often", || {
            proxy.faults.connections.load(SeqCst) > before + 8
        });
        proxy.faults.refuse.store(false, SeqCst);
        until("the bus is up", || node.bus.is_up());
    }
    let log = String::from_utf8(lock(&node.heard.log).clone()).expect("text");
    for (event, times) in [("up", 1), ("lost", 2), ("away", 2), ("back", 2)] {
        let event = format!("cluster.bus.{event}");
        assert_eq!(log.matches(&event).count(), times, "{event} in {log}");
    }
    assert!(log.contains(node.bus.name()), "{log}");
}

/// Runs in a process of its own.
pub(super) fn panics<E: Engine>() {
    let port = std::env::var(PORT).expect("the test that starts this process names a port");
    let node = node_at::<E>(port.parse().expect("a port"));
    node.attach("room");
    node.heard.panic.store(true, SeqCst);
    node.bus.send(To::Topic("room"), message(node.id, 0, ""));
    until("the process has ended", || false);
}

pub(super) fn a_panic_ends_the_process<E: Engine>(module: &str) {
    // The other process cannot end a server of its own.
    let server = E::server();
    let test = std::env::current_exe().expect("a test");
    let (_crate, module) = module.split_once("::").expect("a module in a crate");
    let output = std::process::Command::new(test)
        .args(["--exact", "--ignored", &format!("{module}::panics")])
        .env(PORT, E::port(&server).to_string())
        .output()
        .expect("it runs");
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(6), "{output:?}");
}
