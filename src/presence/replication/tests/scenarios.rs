//! What may happen to the nodes of a world.

use std::time::Duration;

use super::super::Rule;
use super::world::{HALL, Link, NODES, World};

/// The nodes that run know each other, and everything is healed.
fn settle(world: &mut World) {
    world.loss = None;
    world.stopped = false;
    for at in 0..NODES {
        world.heal(at);
        if world.nodes[at].is_none() {
            world.start(at);
        }
    }
    // Long enough to lose a node that is gone, and to ask again for what was lost.
    world.pass_seconds(18);
}

/// Someone comes, goes or changes.
fn stir(world: &mut World, client: usize) {
    match world.random.below(3) {
        0 => world.go(client),
        1 => world.update(client),
        _ if world.clients[client].at.is_none() => {
            let open = world.open();
            if !open.is_empty() {
                let at = world.random.pick(&open);
                world.come(client, at);
            }
        }
        _ => {}
    }
}

/// Messages are lost, connections cut, nodes killed, stopped and started, the bus stops: all at any time.
pub(super) fn chaos(seed: u64, rule: Option<Rule>) -> Result<(), String> {
    let mut world = World::new(seed, 5, rule);
    world.loss = [None, Some(30), Some(5)][seed as usize % 3];
    let clients = world.clients.len() as u64;
    for _ in 0..300 {
        for _ in 0..world.random.below(4) {
            let client = world.random.below(clients) as usize;
            stir(&mut world, client);
        }
        let at = world.random.below(NODES as u64) as usize;
        match world.random.below(100) {
            0..3 => world.cut(at, Link::Hung),
            3..6 => world.cut(at, Link::Down),
            6..15 => world.heal(at),
            15 => (0..NODES).for_each(|at| world.cut(at, Link::Hung)),
            16 => world.kill(at),
            17..20 if world.nodes[at].is_none() => world.start(at),
            20 => stop(&mut world, at),
            21 if world.nodes[at].as_ref().is_some_and(|node| node.leaving) => world.kill(at),
            22 => world.pass_seconds(4),
            23 => world.pass_seconds(13),
            _ => {}
        }
        let step = world.random.pick(&[5, 20, 50, 200]);
        world.pass(step);
    }
    for at in 0..NODES {
        if world.nodes[at].as_ref().is_some_and(|node| node.leaving) {
            world.kill(at);
        }
    }
    settle(&mut world);
    world.check()
}

fn stop(world: &mut World, at: usize) {
    let now = world.now;
    if let Some(node) = &mut world.nodes[at] {
        node.leaving = true;
        node.replication.stop_at(now);
        world.carry(at);
    }
}

/// Everybody is present somewhere.
fn populate(world: &mut World) {
    for client in 0..world.clients.len() {
        let at = world.random.below(NODES as u64) as usize;
        world.come(client, at);
        world.pass(20);
    }
    world.pass_seconds(2);
}

/// The bus stops for all nodes, with and without their knowledge; some clients come and go meanwhile.
pub(super) fn silence_of_all(seed: u64, rule: Option<Rule>) -> Result<(), String> {
    let mut world = World::new(seed, 4, rule);
    populate(&mut world);
    // The others stay where they are.
    let restless: Vec<_> = (0..world.clients.len())
        .filter(|client| client / 3 == 0)
        .collect();
    let way = world.random.below(3);
    for at in 0..NODES {
        match way {
            0 => world.stopped = true,
            1 => world.cut(at, Link::Down),
            _ => world.cut(at, Link::Hung),
        }
    }
    for _ in 0..world.random.below(60) * 20 {
        if world.random.once_in(20) {
            let client = world.random.pick(&restless);
            stir(&mut world, client);
        }
        world.pass(50);
    }
    world.stopped = false;
    for at in 0..NODES {
        world.heal(at);
        let wait = world.random.below(40);
        (0..wait).for_each(|_| world.pass(50));
    }
    settle(&mut world);
    world.check_stayed(|key| key != "k0")?;
    world.check()
}

/// A node stops in order, and its clients move to others, while other devices of the same users come and go.
pub(super) fn graceful_stop(seed: u64, rule: Option<Rule>) -> Result<(), String> {
    let mut world = World::new(seed, 4, rule);
    // The first clients stay; the others are their other devices.
    let users = world.clients.len();
    let others = world.clients[..6].to_vec();
    world.clients.extend(others);
    for client in 0..users {
        let at = world.random.below(NODES as u64) as usize;
        world.come(client, at);
    }
    world.pass_seconds(2);
    for leaving in 0..world.random.below(2) + 1 {
        deploy(&mut world, leaving as usize, users)?;
    }
    settle(&mut world);
    world.check_stayed(|_| true)?;
    world.check()
}

/// Stops a node and starts its next run.
fn deploy(world: &mut World, leaving: usize, users: usize) -> Result<(), String> {
    stop(world, leaving);
    let mut moving: Vec<(usize, Duration)> = Vec::new();
    let end = 100 + world.random.below(120);
    for step in 0..end + 60 {
        let other = world.random.below(6) as usize;
        // A user is told as gone whose other device comes and goes while the first is on its way.
        let is_here = world.clients[other].at.is_some() && is_settled(world, other);
        if step < end && is_here && world.random.once_in(3) {
            stir(world, users + other);
        }
        let client = world.random.below(users as u64) as usize;
        let is_alone = client >= 6 || is_settled(world, users + client);
        if step < end && is_alone && is_at(world, client, leaving) {
            world.go(client);
            let away = Duration::from_millis(world.random.below(8_000));
            moving.push((client, world.now + away));
        } else if world.random.once_in(20) {
            world.update(client);
        }
        if step == end {
            end_of(world, leaving, users, &mut moving)?;
        }
        come_back(world, &mut moving);
        let step = world.random.pick(&[5, 20, 50, 100]);
        world.pass(step);
    }
    while !moving.is_empty() {
        world.pass(50);
        come_back(world, &mut moving);
    }
    Ok(())
}

/// All nodes know where it is.
fn is_settled(world: &World, client: usize) -> bool {
    world.now.saturating_sub(world.clients[client].since) > Duration::from_millis(300)
}

fn is_at(world: &World, client: usize, node: usize) -> bool {
    let at = world.clients[client].at;
    at.is_some_and(|(at, ..)| at == node)
}

fn come_back(world: &mut World, moving: &mut Vec<(usize, Duration)>) {
    let back = moving.extract_if(.., |(_, when)| *when <= world.now);
    for (client, _) in back.collect::<Vec<_>>() {
        let open = world.open();
        let at = world.random.pick(&open);
        world.come(client, at);
    }
}

/// The last clients are sent away, and the next run starts.
fn end_of(
    world: &mut World,
    leaving: usize,
    users: usize,
    moving: &mut Vec<(usize, Duration)>,
) -> Result<(), String> {
    (0..8).for_each(|_| world.pass(50));
    for client in 0..world.clients.len() {
        if is_at(world, client, leaving) {
            world.go(client);
            if client < users {
                moving.push((client, world.now + Duration::from_millis(500)));
            }
        }
    }
    world.check_stayed(|_| true)?;
    let now = world.now;
    world.node(leaving).replication.flush_at(now);
    world.carry(leaving);
    world.kill(leaving);
    world.start(leaving);
    Ok(())
}

/// A node is killed and starts again under its name.
pub(super) fn restart(seed: u64, rule: Option<Rule>) -> Result<(), String> {
    let mut world = World::new(seed, 4, rule);
    populate(&mut world);
    let at = world.random.below(NODES as u64) as usize;
    world.kill(at);
    for _ in 0..world.random.below(80) {
        world.pass(50);
    }
    world.start(at);
    for client in 0..world.clients.len() {
        if world.clients[client].at.is_none() && world.random.once_in(2) {
            world.come(client, at);
            world.pass(10);
        }
    }
    // All shards, one in a step, and the numbers.
    world.pass_seconds(2);
    debug_assert!(world.clients.iter().any(|client| client.topic == HALL));
    world.check()
}
