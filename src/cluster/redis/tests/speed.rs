//! Figures, not checks: `cargo test --release -- --ignored --nocapture speed`.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::support::{Node, Server, until};

/// Publishes `number` messages with at most `depth` without an answer, and waits for all.
fn publish(node: &Node, number: u64, depth: usize) -> Duration {
    let begin = Instant::now();
    let replies = || node.bus.counters().replies.load(SeqCst);
    let before = replies();
    for sent in 0..number {
        while sent - (replies() - before) >= depth as u64 {
            std::thread::yield_now();
        }
        node.publish("room");
    }
    while replies() - before < number {
        std::thread::yield_now();
    }
    begin.elapsed()
}

/// The time on a processor of the bus's thread, on Linux.
fn bus_nanos() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let paths = tasks.map(|task| task.expect("a thread").path());
    let is_bus = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "bus")
    };
    let stat = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).ok();
    let nanos = |stat: String| stat.split(' ').next()?.parse::<u64>().ok();
    paths
        .filter(is_bus)
        .filter_map(stat)
        .filter_map(nanos)
        .sum()
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    for attached in [false, true] {
        let server = Server::start();
        let mut options = super::support::node::options(server.url());
        options.timing = crate::cluster::redis::Timing::default();
        let node = Node::with(options);
        until("the bus is up", || {
            crate::cluster::bus::Bus::is_up(&*node.bus)
        });
        node.begin("room");
        if attached {
            node.attach("room");
        }
        let mut times: Vec<Duration> = (0..5000).map(|_| publish(&node, 1, 1)).collect();
        times.sort_unstable();
        println!(
            "attached {attached}: publish to answer p50 {:?}, p99 {:?}",
            times[2500], times[4950]
        );
        for depth in [1, 5, 20, 50, 200] {
            let number = 20_000;
            server.run::<i64>(&["DEL", &format!("{}:{{room}}:j", server.keys())]);
            let micros = || node.bus.counters().reply_micros.load(SeqCst);
            let (before, cpu) = (micros(), bus_nanos());
            let taken = publish(&node, number, depth);
            let mean = (micros() - before) / number;
            let cpu = (bus_nanos() - cpu) as f64 / number as f64 / 1000.0;
            let a_second = number as f64 / taken.as_secs_f64();
            println!(
                "attached {attached}: depth {depth}: {a_second:.0} a second, {mean} us to the answer, {cpu:.1} us of CPU"
            );
        }
    }
}
