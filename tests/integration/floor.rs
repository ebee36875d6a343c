//! The floor that `scripts/bench` compares the server with: `slackir load` finds no fault in it.

#[path = "../../benches/floor/server.rs"]
mod server;

use std::net::TcpListener;
use std::thread;

use serde_json::json;

use crate::load::load;

/// Serves until the test's process ends.
fn floor() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let floor = server::Floor::new(listener).expect("epoll");
    thread::spawn(|| floor.run());
    format!("ws://{address}/socket/websocket")
}

#[test]
fn every_load_runs_against_the_floor() {
    let url = floor();
    let few = "--clients 20 --topics 4 --seconds 0.3";
    for (mode, least) in [
        ("--mode connect", 0),
        ("--mode connect --channels 5", 0),
        ("--mode idle", 0),
        ("--mode fanout --rate 200", 60),
        ("--mode fanout --rate 20 --size 70000", 6),
        ("--mode fanout --inflight 3 --size 300", 4 * 3 + 1),
        ("--mode fanout --inflight 2 --channels 3", 4 * 2 + 1),
        ("--mode echo --inflight 4", 20 * 4 + 1),
    ] {
        let args: Vec<_> = mode.split(' ').chain(few.split(' ')).collect();
        let (code, result, said) = load(&url, &args);
        assert_eq!(code, 0, "{mode}: {said}");
        assert_eq!(result["joined"], json!(20), "{mode}: {result}");
        let messages = result["messages"].as_u64().expect("a number");
        assert!(messages >= least, "{mode}: {result}");
        let each_gets = if mode.contains("fanout") { 5 } else { 0 };
        assert_eq!(
            result["deliveries"],
            json!(messages * each_gets),
            "{mode}: {result}"
        );
    }
}

#[test]
fn the_floor_drops_a_client_that_breaks_off() {
    let url = floor();
    // The topics of the first load have no members for the second.
    for _ in 0..2 {
        let args = [
            "--clients",
            "6",
            "--topics",
            "2",
            "--seconds",
            "0.1",
            "--rate",
            "100",
        ];
        let (code, result, said) = load(&url, &args);
        assert_eq!((code, &result["deliveries"]), (0, &json!(10 * 3)), "{said}");
    }
}
