//! The operators' dashboard: what it shows and does. The page itself is tested in tests/browser.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::operator::{
    Operator, PASSWORD, TOPIC, cookie, get, login, member, with_password,
};
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::wire::WireClient;

#[actix_web::test]
async fn snapshots_come_by_themselves_and_the_dashboard_is_in_no_list() {
    let (_dir, server) = with_password();
    let mut operator = Operator::come(server.addr).await;
    let hello = operator.hello.clone();
    assert_eq!(hello["node"], server.addr.to_string());
    let points = hello["history"]["at"].as_array().map(Vec::len);
    for list in ["deliveries", "messages", "commit_lag_ms", "outbox_bytes"] {
        assert_eq!(
            hello["history"][list].as_array().map(Vec::len),
            points,
            "{list}"
        );
    }
    let first = operator.pushed("snapshot").await;
    let second = operator.pushed("snapshot").await;
    assert!(
        second["at"].as_u64() > first["at"].as_u64(),
        "{first} {second}"
    );
    assert_eq!(
        (&first["state"], &first["connections"]),
        (&json!("ready"), &json!(0))
    );
    assert!(first["memory_bytes"].as_u64() > Some(1_000_000), "{first}");
    assert!(first["open_files"].as_u64() > Some(2), "{first}");

    let rooms = operator.ask("topics", json!({})).await;
    assert_eq!(rooms, json!({"topics": [], "total": 0}));
    let people = operator.ask("connections", json!({})).await;
    let nothing = json!({"received_bytes": 0, "sent_bytes": 0, "limited": 0});
    assert_eq!(
        people,
        json!({"connections": [], "total": 0, "sum": nothing})
    );
    // Clients of the server cannot reach the channel, even where a room takes every topic.
    let (_dir, open) = Process::configured(
        "[[rooms]]\ntopics = \"*\"\nevents = [\"shout\"]\n",
        &["--dashboard-password", PASSWORD],
    );
    let mut operator = Operator::come(open.addr).await;
    let mut client = Phoenix::<WireClient>::connect(open.addr).await;
    client.join(TOPIC).await;
    operator.pushed("snapshot").await;
    operator.pushed("snapshot").await;
    let (event, _) = client.next_event().await;
    assert_eq!(event, "messages_history");
    client.heartbeat().await;
}

#[actix_web::test]
async fn a_room_is_shown_followed_written_to_and_cleaned() {
    let (_dir, server) = with_password();
    let (mut ada, joined) = member(server.addr, "ada", "room:tea").await;
    let mut operator = Operator::come(server.addr).await;
    let rooms = operator
        .ask("topics", json!({"prefix": "room:", "sort": "members"}))
        .await;
    assert_eq!(rooms["total"], 1);
    let row = &rooms["topics"][0];
    assert_eq!(
        (&row["topic"], &row["members"]),
        (&json!("room:tea"), &json!(1))
    );
    let history = json!({"saved": true, "durability": "relaxed", "mode": "messages_history"});
    assert_eq!(
        (&row["history"], &row["last_message_at"]),
        (&history, &Value::Null)
    );

    let tail = operator.ask("tail", json!({"topic": "room:tea"})).await;
    assert!(tail["until"].as_u64() > Some(1_700_000_000), "{tail}");
    ada.push(&joined, "room:tea", "shout", json!({"message": "hi"}))
        .await;
    let heard = operator.pushed("tail").await;
    assert_eq!(
        (&heard["event"], &heard["payload"]["message"]),
        (&json!("shout"), &json!("hi"))
    );
    let text = "x".repeat(5_000);
    let written = json!({"topic": "room:tea", "event": "shout", "payload": {"message": text}});
    operator.ask("publish", written).await;
    let heard = operator.pushed("tail").await;
    assert_eq!(heard["payload"]["_bytes"], 5_014, "a long one is cut");
    operator.ask("tail", json!({"topic": "room:other"})).await;
    assert_eq!(
        operator.pushed("tail_end").await,
        json!({"topic": "room:tea"})
    );
    operator.ask("untail", json!({})).await;
    for (event, payload, part) in [
        (
            "publish",
            json!({"topic": "room:tea", "event": "phx_close", "payload": {}}),
            "protocol",
        ),
        (
            "publish",
            json!({"topic": "room:tea", "event": "shout", "payload": 7}),
            "object",
        ),
        (
            "delete_message",
            json!({"topic": "room:tea", "id": "1-1"}),
            "no such message",
        ),
        ("reboot", json!({}), "knows no request"),
    ] {
        let reason = operator.refused(event, payload).await;
        assert!(reason.contains(part), "{reason}");
    }

    let room = loop {
        let room = operator.ask("topic", json!({"topic": "room:tea"})).await;
        if room["messages"]
            .as_array()
            .is_some_and(|messages| messages.len() == 2)
        {
            break room;
        }
        // Its requests are limited.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        (&room["history"], &room["members_total"]),
        (&history, &json!(1))
    );
    let rooms = operator.ask("topics", json!({})).await;
    let last = rooms["topics"][0]["last_message_at"].as_u64();
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_secs();
    assert!(last.is_some_and(|last| now.abs_diff(last) < 60), "{rooms}");
    let member = &room["members"][0];
    assert_eq!(
        (&member["user"], &member["transport"]),
        (&json!("ada"), &json!("websocket"))
    );
    assert!(room["presence"]["ada"]["metas"].is_array(), "{room}");
    let id = room["messages"][0]["id"].clone();
    operator
        .ask("delete_message", json!({"topic": "room:tea", "id": id}))
        .await;
    let room = operator.ask("topic", json!({"topic": "room:tea"})).await;
    assert_eq!(room["messages"].as_array().map(Vec::len), Some(1));

    let cookie = cookie(&login(server.addr, PASSWORD).await);
    let export = get(
        server.addr,
        "/dashboard/export?topic=room:tea",
        Some(&cookie),
    )
    .await;
    assert!(export.headers["content-disposition"].contains("room-tea.jsonl"));
    let lines = String::from_utf8(export.body).expect("text");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["payload"]["message"], text, "an export is whole");
}

#[actix_web::test]
async fn people_are_found_ended_banned_and_let_in_again() {
    let (_dir, server) = with_password();
    let (mut eve, _) = member(server.addr, "eve", "room:tea").await;
    let (mut ada, _) = member(server.addr, "ada", "room:tea").await;
    let mut operator = Operator::come(server.addr).await;
    let all = operator.ask("connections", json!({})).await;
    assert_eq!(all["total"], 2);
    assert_eq!(all["connections"][0]["user"], "ada", "the newest first");
    assert_eq!(all["connections"][0]["channels"], json!(["room:tea"]));
    let found = operator.ask("connections", json!({"user": "eve"})).await;
    for count in ["received_bytes", "sent_bytes", "limited"] {
        assert_eq!(
            found["sum"][count], found["connections"][0][count],
            "{found}"
        );
    }
    assert!(found["sum"]["sent_bytes"].as_u64() > Some(20), "{found}");
    let id = found["connections"][0]["connection"].clone();
    let ended = operator.ask("disconnect", json!({"connection": id})).await;
    assert_eq!(ended, json!({"disconnected": 1}));
    eve.closed().await;
    let reason = operator.refused("disconnect", json!({})).await;
    assert!(reason.contains("Name a connection"), "{reason}");
    let ended = operator.ask("disconnect", json!({"user": "ada"})).await;
    assert_eq!(ended, json!({"disconnected": 1}));
    ada.closed().await;

    operator
        .ask("ban", json!({"user": "eve", "seconds": 60, "kind": "ban"}))
        .await;
    operator
        .ask(
            "ban",
            json!({"address": "192.0.2.0/24", "seconds": 60, "kind": "mute"}),
        )
        .await;
    let bans = operator.ask("bans", json!({})).await;
    let kinds: Vec<_> = bans["bans"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|ban| &ban["kind"])
        .collect();
    assert_eq!(kinds.len(), 2);
    let of_eve = bans["bans"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|ban| ban["user"] == "eve");
    let id = of_eve.expect("a ban")["id"].clone();
    let refused = WireClient::open(server.addr, "/socket/websocket?vsn=2.0.0&id=eve", &[]).await;
    assert_eq!(refused.expect("an answer").expect_err("banned").status, 403);
    operator.ask("unban", json!({"id": id})).await;
    let reason = operator.refused("unban", json!({"id": id})).await;
    assert!(reason.contains("no such ban"), "{reason}");
    member(server.addr, "eve", "room:tea").await;
    operator
        .ask("revoke", json!({"user": "eve", "seconds": 60}))
        .await;
    let reason = operator
        .refused("revoke", json!({"user": "eve", "seconds": 0}))
        .await;
    assert!(reason.contains("at least a second"), "{reason}");
}

#[actix_web::test]
async fn a_room_is_put_into_slow_mode_and_taken_out() {
    let (_dir, server) = with_password();
    let (mut ada, joined) = member(server.addr, "ada", "room:tea").await;
    let mut operator = Operator::come(server.addr).await;
    let of_room = json!({"topic": "room:tea"});
    let room = operator.ask("topic", of_room.clone()).await;
    assert_eq!(room["slow_mode"], Value::Null);
    let slow = json!({"topic": "room:tea", "interval": 3_600, "seconds": 600});
    let set = operator.ask("slow_mode", slow).await;
    assert!(set["until"].as_u64() > Some(1_700_000_000), "{set}");
    let ever = json!({"topic": "room:tea", "interval": 1_800});
    let set = operator.ask("slow_mode", ever).await;
    assert_eq!(set, json!({"interval": 1_800, "until": null}));
    let room = operator.ask("topic", of_room.clone()).await;
    assert_eq!(room["slow_mode"], set);

    let message = json!({"message": "hi"});
    let refused = loop {
        ada.push(&joined, "room:tea", "shout", message.clone())
            .await;
        let frame = ada.next().await;
        if frame[3] == "phx_reply" {
            break frame[4]["response"].clone();
        }
    };
    assert_eq!(refused["limit"], "slow_mode", "{refused}");
    let found = operator.ask("connections", json!({"user": "ada"})).await;
    let limited = found["connections"][0]["limited"].as_u64();
    assert!(limited >= Some(1), "{found}");
    for (payload, part) in [
        (
            json!({"topic": "room:tea", "interval": 0}),
            "at least a second",
        ),
        (
            json!({"topic": "room:tea", "interval": 9, "seconds": 0}),
            "at least a second",
        ),
        (
            json!({"topic": "elsewhere", "interval": 9}),
            "No configured room",
        ),
    ] {
        let reason = operator.refused("slow_mode", payload).await;
        assert!(reason.contains(part), "{reason}");
    }
    operator.ask("end_slow_mode", of_room.clone()).await;
    let room = operator.ask("topic", of_room.clone()).await;
    assert_eq!(room["slow_mode"], Value::Null);
    let reason = operator.refused("end_slow_mode", of_room).await;
    assert!(reason.contains("no more"), "{reason}");
}

#[actix_web::test]
async fn the_system_and_its_trouble_are_shown_without_secrets() {
    let (_dir, server) = with_password();
    let mut operator = Operator::come(server.addr).await;
    let system = operator.ask("system", json!({})).await;
    let text = system.to_string();
    assert!(!text.contains(PASSWORD), "{text}");
    let settings = system["settings"].as_array().expect("a list");
    let of = |name: &str| {
        settings
            .iter()
            .find(|setting| setting["name"] == name)
            .expect("a setting")
    };
    assert_eq!(of("dashboard_password")["source"], "flag");
    assert_eq!(
        (
            &of("history_limit")["value"],
            &of("history_limit")["source"]
        ),
        (&json!("50"), &json!("default"))
    );
    assert!(system["database"]["bytes"].as_u64() > Some(0), "{system}");
    assert_eq!(system["migrations"], json!({"lacking": 0, "later": 0}));
    let check = operator.ask("check", json!({})).await;
    let names: Vec<_> = check["lines"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| &line["name"])
        .collect();
    assert!(
        names.contains(&&json!("database")) && !names.contains(&&json!("port")),
        "{check}"
    );
    let trouble = operator.ask("trouble", json!({})).await;
    assert!(
        trouble["entries"].is_array() && trouble["limited"]["joins"] == 0,
        "{trouble}"
    );
    assert_eq!(
        trouble["refused"],
        json!({"full": 0, "address": 0, "files": 0})
    );
}
