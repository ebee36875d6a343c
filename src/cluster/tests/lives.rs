//! Who lives.

use std::sync::atomic::Ordering::SeqCst;

use super::engine::{Engine, behind_proxy, node};
use super::support::{until, wait};
use crate::cluster::bus::{Away, Bus, NodeId};

pub(super) fn nodes_live_until_they_leave_or_die<E: Engine>() {
    let server = E::server();
    let [first, second] = [(); 2].map(|()| node::<E>(&server));
    // It cannot say that it leaves.
    let (proxy, dies) = behind_proxy::<E>(&server);
    let is_alive = |id| wait(first.bus.is_alive(id)).expect("the bus is up");
    for id in [first.id, second.id, dies.id] {
        until("the node lives", || is_alive(id));
    }
    until("nobody has this number", || !is_alive(NodeId::new(1)));
    assert!(is_alive(second.id) && is_alive(dies.id), "they renew it");
    assert_eq!(wait(second.bus.leave()), Ok(()));
    until("the second has left", || !is_alive(second.id));
    assert!(is_alive(dies.id));
    proxy.faults.hang.store(true, SeqCst);
    until("the third is dead", || !is_alive(dies.id));
    assert!(is_alive(first.id));
}

pub(super) fn nobody_knows_who_lives_while_the_bus_is_down<E: Engine>() {
    let mut server = E::server();
    let node = node::<E>(&server);
    E::kill(&mut server);
    until("the bus is down", || !node.bus.is_up());
    assert_eq!(wait(node.bus.is_alive(node.id)), Err(Away));
    assert_eq!(wait(node.bus.leave()), Err(Away));
    E::start_again(&mut server);
    until("the bus is up", || node.bus.is_up());
    assert_eq!(wait(node.bus.is_alive(node.id)), Ok(true));
    assert_eq!(wait(node.bus.leave()), Ok(()));
}
