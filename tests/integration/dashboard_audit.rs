//! What operators do at the dashboard is in the log: each action, each session, each refused login.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::operator::{Operator, PASSWORD, ROOMS, cookie, get, login, member, post};
use crate::support::process::Process;

const ROOM: &str = "room:tea";

/// A request, and the line of the log behind it. An id that is null may be any.
type Act = (&'static str, Value, Value);

/// The actions that need to know nothing.
fn first_acts() -> Vec<Act> {
    let of_room = json!({"topic": ROOM});
    let message = json!({"topic": ROOM, "event": "shout", "payload": {"message": "hi"}});
    let network = json!({"address": "192.0.2.0/24", "seconds": 60, "kind": "mute"});
    vec![
        (
            "publish",
            message,
            json!({"done": "published", "topic": ROOM, "event": "shout"}),
        ),
        (
            "tail",
            of_room.clone(),
            json!({"done": "followed", "topic": ROOM}),
        ),
        (
            "slow_mode",
            json!({"topic": ROOM, "interval": 5, "seconds": 60}),
            json!({"done": "slow mode set", "topic": ROOM, "interval": 5, "seconds": 60}),
        ),
        (
            "end_slow_mode",
            of_room,
            json!({"done": "slow mode removed", "topic": ROOM}),
        ),
        (
            "disconnect",
            json!({"address": "192.0.2.7"}),
            json!({"done": "disconnected", "address": "192.0.2.7", "count": 0}),
        ),
        (
            "disconnect",
            json!({"user": "ada"}),
            json!({"done": "disconnected", "user": "ada", "count": 1}),
        ),
        (
            "revoke",
            json!({"user": "eve", "seconds": 60}),
            json!({"done": "revoked tokens", "user": "eve", "seconds": 60}),
        ),
        (
            "ban",
            json!({"user": "eve", "seconds": 60, "kind": "ban"}),
            json!({"done": "banned", "user": "eve", "id": null, "seconds": 60}),
        ),
        (
            "ban",
            network,
            json!({"done": "muted", "address": "192.0.2.0/24", "id": null, "seconds": 60}),
        ),
    ]
}

/// The actions on what the first ones have made.
async fn later_acts(operator: &mut Operator) -> Vec<Act> {
    let message = loop {
        let room = operator.ask("topic", json!({"topic": ROOM})).await;
        if let Some(message) = room["messages"].get(0) {
            break message["id"].clone();
        }
        // Its requests are limited.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let bans = operator.ask("bans", json!({})).await;
    let bans = bans["bans"].as_array().expect("a list");
    let ban = bans.iter().find(|ban| ban["user"] == "eve");
    let ban = ban.expect("the ban of eve")["id"].clone();
    vec![
        (
            "delete_message",
            json!({"topic": ROOM, "id": message}),
            json!({"done": "deleted a message", "topic": ROOM, "id": message}),
        ),
        (
            "unban",
            json!({"id": ban}),
            json!({"done": "lifted", "user": "eve", "id": ban}),
        ),
    ]
}

/// The fields of each line of this event, without the actor and the address, which must be there.
fn audited(log: &str, event: &str) -> Vec<Value> {
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let lines = lines
        .map(|line| line.expect("JSON"))
        .filter(|line| line["target"] == "slackir::audit" && line["fields"]["message"] == event);
    let fields = lines.map(|mut line| {
        let mut fields = line["fields"].take();
        let by = fields.as_object_mut().expect("fields");
        by.remove("message");
        assert_eq!(by.remove("actor"), Some(json!("dashboard")), "{log}");
        assert_eq!(by.remove("peer"), Some(json!("127.0.0.1")), "{log}");
        fields
    });
    fields.collect()
}

/// What docs/LOGGING.md says that an operator may have done.
fn documented() -> Vec<String> {
    let page = include_str!("../../docs/LOGGING.md");
    let mut rows = page.lines();
    let row = rows.find(|row| row.starts_with("| `dashboard.action` |"));
    let (_, done) = row
        .and_then(|row| row.split_once("has done this on the dashboard: "))
        .expect("the row");
    let names = done.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[actix_web::test]
async fn each_action_and_each_login_is_a_line_of_the_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let written = std::fs::write(dir.path().join("slackir.toml"), ROOMS);
    written.expect("the file can be written");
    let (format, filter) = (
        ["--log-format", "json"],
        ["--log", "warn,slackir::audit=info"],
    );
    let settings = ["--config", "slackir.toml", "--dashboard-password", PASSWORD];
    let args = [&settings[..], &format, &filter].concat();
    let mut server = Process::start_logging_to(Stdio::piped(), &dir, &args);
    let addr = server.addr;
    let _ada = member(addr, "ada", ROOM).await;
    let session = cookie(&login(addr, PASSWORD).await);
    let mut operator = Operator::with(addr, &session).await;
    let mut expected = Vec::new();
    let mut acts = first_acts();
    for turn in 0..2 {
        if turn == 1 {
            acts = later_acts(&mut operator).await;
        }
        for (event, payload, line) in acts.drain(..) {
            operator.ask(event, payload).await;
            expected.push(line);
        }
    }
    let target = format!("/dashboard/export?topic={ROOM}");
    assert_eq!(get(addr, &target, Some(&session)).await.status, 200);
    expected.push(json!({"done": "exported", "topic": ROOM}));
    post(addr, "/dashboard/logout", &[("Cookie", &session)], "").await;
    // A new attempt may come in between, if the machine is slow.
    let mut attempts = 0;
    while login(addr, "wrong").await.status == 401 {
        attempts += 1;
        assert!(attempts < 20, "they are limited");
    }

    let mut stderr = server.take_stderr();
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let mut log = String::new();
    stderr.read_to_string(&mut log).expect("text");
    let mut done = audited(&log, "dashboard.action");
    for (done, expected) in done.iter_mut().zip(&expected) {
        if expected["id"].is_null() && done["id"].is_string() && expected.get("id").is_some() {
            done["id"] = Value::Null;
        }
    }
    assert_eq!(done, expected);
    let mut names: Vec<_> = done.iter().map(|line| line["done"].as_str()).collect();
    let documented = documented();
    let mut all: Vec<_> = documented.iter().map(|name| Some(&**name)).collect();
    names.sort_unstable();
    names.dedup();
    all.sort_unstable();
    assert_eq!(names, all, "docs/LOGGING.md has the same");
    assert_eq!(
        audited(&log, "dashboard.session.changed"),
        [
            json!({"done": "signed in", "by": "password"}),
            json!({"done": "signed out", "by": "cookie"}),
        ]
    );
    let refused = audited(&log, "dashboard.login.refused");
    let mut reasons: Vec<_> = refused.iter().map(|line| &line["reason"]).collect();
    reasons.dedup();
    assert_eq!(reasons, ["wrong", "too many attempts"]);
}
