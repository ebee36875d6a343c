//! What bad and greedy clients get: close codes, error replies, bounds.

use std::time::Duration;

use serde_json::json;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::socket::{FlowLimits, OutboxLimits, SocketOptions};
use slackir::{Endpoint, Mount};
use tempfile::TempDir;

use crate::support::conformance_app;
use crate::support::phoenix::Phoenix;
use crate::support::process::Process;
use crate::support::server::{Driver, TestServer, over_both_drivers};
use crate::support::wire::{self, DEADLINE, Frame, RawFrame, WireClient};

over_both_drivers! {
    protocol_violations_are_closed_with_1002
    text_that_is_not_utf8_is_closed_with_1007_also_in_fragments
    what_no_strict_parser_reads_is_closed_with_1011
    a_message_before_a_violation_is_still_handled
    a_frame_over_the_limit_is_refused_by_its_header
    an_endless_message_of_empty_fragments_is_closed_with_1008
    a_silent_connection_is_closed_and_one_that_pings_is_not
    long_names_and_bad_payloads_are_error_replies
    long_refs_are_error_replies
    topics_and_events_of_other_types_are_answered
    a_client_that_does_not_read_is_ended_and_the_others_lose_nothing
    a_flood_of_messages_is_read_at_the_pace_of_the_channel
    stale_join_refs_are_dropped_and_null_ones_accepted
    what_was_said_before_the_end_of_a_connection_is_heard
    a_burst_throws_no_reader_out
    a_client_that_asks_for_more_than_its_outbox_holds_gets_all_of_it
    a_lost_connection_is_not_answered_with_1000
    a_client_that_pings_faster_than_it_reads_is_slowed_down
    nothing_behind_a_violation_is_handled
}

/// The chat without a database, with these options.
fn chat(options: SocketOptions) -> TestServer {
    TestServer::start(move || {
        Endpoint::builder(PubSub::new())
            .mount(Mount::new("/socket", UserSocket, router(&[Room::default()])).options(options))
            .build()
    })
}

/// Sends one raw frame to a fresh connection; the frames that come back.
async fn answer_to(server: &TestServer, frames: &[RawFrame]) -> Vec<Frame> {
    let mut client = WireClient::connect(server.addr, "/socket/websocket?vsn=2.0.0").await;
    for frame in frames {
        client
            .send_raw_frame(frame)
            .await
            .expect("the connection is open");
    }
    client.recv(2, DEADLINE).await
}

fn closed_with(code: u16) -> Vec<Frame> {
    vec![Frame::Close(Some(code)), Frame::Eof]
}

/// Requirement 46.
async fn protocol_violations_are_closed_with_1002() {
    let server = chat(SocketOptions::default());
    let fragment = |opcode, fin| RawFrame {
        fin,
        ..RawFrame::new(opcode, "[")
    };
    let violations = [
        vec![RawFrame {
            masked: false,
            ..RawFrame::new(1, "[]")
        }],
        vec![RawFrame::new(0x41, "[]")],
        vec![RawFrame::new(0x21, "[]")],
        vec![RawFrame::new(3, "[]")],
        vec![RawFrame::new(0xB, "")],
        vec![RawFrame::new(9, vec![0; 126])],
        vec![RawFrame {
            fin: false,
            ..RawFrame::new(9, "")
        }],
        vec![fragment(0, true)],
        vec![fragment(1, false), fragment(1, true)],
        vec![RawFrame::new(8, "\u{3}")],
        vec![RawFrame {
            fin: false,
            ..RawFrame::new(0, "")
        }],
    ];
    for frames in violations {
        assert_eq!(
            answer_to(&server, &frames).await,
            closed_with(1002),
            "{frames:?}"
        );
    }
}

/// Requirement 47.
async fn text_that_is_not_utf8_is_closed_with_1007_also_in_fragments() {
    let server = chat(SocketOptions::default());
    let whole = [RawFrame::new(1, b"[\xff]".to_vec())];
    let parts = [
        RawFrame {
            fin: false,
            ..RawFrame::new(1, b"[\xc3".to_vec())
        },
        RawFrame::new(0, b"(]".to_vec()),
    ];
    assert_eq!(answer_to(&server, &whole).await, closed_with(1007));
    assert_eq!(answer_to(&server, &parts).await, closed_with(1007));
}

/// Requirement 52.
async fn what_no_strict_parser_reads_is_closed_with_1011() {
    let server = chat(SocketOptions::default());
    for text in [
        "",
        "[1,2,3,4,1e400]",
        r#"["1","1","random:a","shout",{"a":"\ud800"}]"#,
    ] {
        assert_eq!(
            answer_to(&server, &[RawFrame::new(1, text)]).await,
            closed_with(1011),
            "{text}"
        );
    }
}

async fn a_message_before_a_violation_is_still_handled() {
    let server = chat(SocketOptions::default());
    let heartbeat = RawFrame::new(1, r#"[null,"1","phoenix","heartbeat",{}]"#);
    let both = [heartbeat.encode(), RawFrame::new(3, "").encode()].concat();
    let mut client = WireClient::connect(server.addr, "/socket/websocket?vsn=2.0.0").await;
    client.send_bytes(&both).await.expect("open");
    assert_eq!(client.next_text().await[1], "1");
    assert_eq!(client.recv(2, DEADLINE).await, closed_with(1002));
}

/// Requirement 48.
async fn a_frame_over_the_limit_is_refused_by_its_header() {
    let server = chat(SocketOptions::default().max_frame_size(1_000));
    // The header alone; the payload that it declares is never sent.
    let lying = RawFrame {
        declared_len: Some(1 << 30),
        ..RawFrame::new(2, "")
    };
    assert_eq!(answer_to(&server, &[lying]).await, closed_with(1009));
    // 8 bytes of header: 992 bytes of payload fit and 993 do not, as on Phoenix.
    let fits = [RawFrame::new(1, vec![b' '; 992])];
    assert_eq!(
        answer_to(&server, &fits).await,
        closed_with(1011),
        "read, and no message"
    );
    let too_long = [RawFrame::new(1, vec![b' '; 993])];
    assert_eq!(answer_to(&server, &too_long).await, closed_with(1009));
}

async fn an_endless_message_of_empty_fragments_is_closed_with_1008() {
    let server = chat(SocketOptions::default());
    let frames = [
        RawFrame {
            fin: false,
            ..RawFrame::new(1, "[")
        },
        RawFrame {
            fin: false,
            ..RawFrame::new(0, "")
        },
    ];
    assert_eq!(answer_to(&server, &frames).await, closed_with(1008));
}

/// Requirements 44, 50, 51.
async fn a_silent_connection_is_closed_and_one_that_pings_is_not() {
    let timeout = Duration::from_millis(400);
    let server = chat(SocketOptions::default().timeout(timeout));
    let mut silent = Phoenix::connect(server.addr).await;
    let mut alive = Phoenix::connect(server.addr).await;
    for _ in 0..6 {
        alive.wire.ping(b"hi").await.expect("open");
        let pong = alive.wire.recv(1, DEADLINE).await;
        assert_eq!(pong, [Frame::Pong(b"hi".to_vec())]);
        // The pace of the test, well below the timeout; the sum is well above.
        tokio::time::sleep(timeout / 4).await;
    }
    assert_eq!(silent.closed().await, 1002);
    alive.heartbeat().await;
}

async fn long_names_and_bad_payloads_are_error_replies() {
    let server = chat(SocketOptions::default());
    let mut client = Phoenix::connect(server.addr).await;
    let topic = format!("random:{}", "x".repeat(249));
    let join = client.send_join(&topic, json!({})).await;
    assert_eq!(
        client.reply_to(&join).await["response"]["reason"],
        "topic or event too long"
    );

    let (join_ref, _) = client.join("random:lobby").await;
    for (event, payload, reason) in [
        ("shout", json!([1]), "invalid payload"),
        ("shout", json!(null), "invalid payload"),
        ("nonsense", json!({}), "unknown event"),
        (&*"e".repeat(256), json!({}), "topic or event too long"),
    ] {
        let reference = client.push(&join_ref, "random:lobby", event, payload).await;
        let reply = client.reply_to(&reference).await;
        assert_eq!(
            (&reply["status"], &reply["response"]["reason"]),
            (&json!("error"), &json!(reason))
        );
    }
    client.heartbeat().await;
}

/// The answer repeats the ref, so that the client finds whom it is for; nothing keeps it.
async fn long_refs_are_error_replies() {
    let server = TestServer::start(conformance_app::endpoint);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("conf:a").await;
    let (longest, too_long) = ("r".repeat(255), "r".repeat(256));
    let refusal = json!({"status": "error", "response": {"reason": "ref too long"}});
    let echoed = json!({"status": "ok", "response": {}});
    for (join_ref, reference, reply) in [
        (&join_ref, &longest, &echoed),
        (&join_ref, &too_long, &refusal),
        (&too_long, &longest, &refusal),
    ] {
        let message = json!([join_ref, reference, "conf:a", "echo", {}]);
        client.send(message).await;
        let answer = json!([join_ref, reference, "conf:a", "phx_reply", reply]);
        assert_eq!(client.next().await, answer);
    }
    for list in [json!([vec![0; 128]]), json!("r".repeat(256))] {
        client
            .send(json!([list, "1", "conf:b", "phx_join", {}]))
            .await;
        let answer = json!([list, "1", "conf:b", "phx_reply", refusal]);
        assert_eq!(client.next().await, answer);
    }
    client.heartbeat().await;
}

/// Requirements 62, 67, 116.
async fn topics_and_events_of_other_types_are_answered() {
    let server = TestServer::start(conformance_app::endpoint);
    let mut client = Phoenix::connect(server.addr).await;
    client.send(json!([null, 4, 7, "phx_join", {}])).await;
    let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
    assert_eq!(
        client.next().await,
        json!([null, 4, 7, "phx_reply", unmatched])
    );
    let (join_ref, _) = client.join("conf:a").await;
    client
        .send(json!([join_ref, {"r": 1}, "conf:a", "echo", [1]]))
        .await;
    let echoed = json!({"status": "ok", "response": [1]});
    assert_eq!(
        client.next().await,
        json!([join_ref, {"r": 1}, "conf:a", "phx_reply", echoed])
    );
    client
        .send(json!([join_ref, "9", "conf:a", null, {}]))
        .await;
    assert_eq!(client.next_event().await.0, "phx_error");
}

async fn a_client_that_does_not_read_is_ended_and_the_others_lose_nothing() {
    let outbox = OutboxLimits::default().bytes(200_000).frames(1_000);
    let server = chat(SocketOptions::default().outbox(outbox));
    let mut stalled = Phoenix::connect(server.addr).await;
    stalled.join("random:lobby").await;
    stalled.wire.stop_reading();
    let mut healthy = Phoenix::connect(server.addr).await;
    let (join_ref, _) = healthy.join("random:lobby").await;
    let body = "x".repeat(50_000);
    let mut sent = 0;
    while server.endpoint.connections() == 2 {
        assert!(
            sent < 2_000,
            "100 MB were sent and the stalled client is still there"
        );
        healthy
            .push(
                &join_ref,
                "random:lobby",
                "shout",
                json!({"n": sent, "body": body}),
            )
            .await;
        let (event, payload) = healthy.next_event().await;
        assert_eq!((event.as_str(), &payload["n"]), ("shout", &json!(sent)));
        sent += 1;
    }
    healthy.heartbeat().await;
    if Driver::current() == Driver::Direct {
        // Its kernel has thrown away what it had not read: it was reset.
        stalled.wire.resume_reading();
        let quiet = Duration::from_millis(300);
        let mut rest = stalled.wire.received.drain(0, quiet).await;
        assert_eq!(rest.pop(), Some(Frame::Eof));
        let goodbyes = rest.iter().filter(|frame| matches!(frame, Frame::Close(_)));
        assert_eq!(goodbyes.count(), 0);
    }
}

#[actix_web::test]
async fn a_worker_that_is_full_refuses_websockets() {
    let dir = TempDir::new().expect("a folder");
    let args = ["--persist", "off", "--max-connections", "1"];
    let server = Process::start(&dir, &args);
    let mut clients = Vec::new();
    // It has two workers; a client comes back until it finds room or there is none.
    let refused = loop {
        let path = "/socket/websocket?vsn=2.0.0";
        let opened = WireClient::open(server.addr, path, &[]).await;
        match opened.expect("an answer") {
            Ok(client) => clients.push(client),
            Err(answer) => break answer,
        }
        assert!(clients.len() < 3, "there is room for two");
    };
    assert_eq!(refused.status, 503);
    // HTTP has its own count.
    let page = wire::http(server.addr, "GET", "/healthz", &[], b"").await;
    assert_eq!(page.expect("an answer").status, 200);
}

async fn a_flood_of_messages_is_read_at_the_pace_of_the_channel() {
    let flow = FlowLimits::default().messages(4).bytes(1_000);
    let server = chat(SocketOptions::default().flow(flow));
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("random:lobby").await;
    let body = "x".repeat(900);
    let mut expected = Vec::new();
    for _ in 0..200 {
        expected.push(
            client
                .push(&join_ref, "random:lobby", "ping", json!({"body": body}))
                .await,
        );
    }
    for reference in expected {
        assert_eq!(client.reply_to(&reference).await["status"], "ok");
    }
}

/// Requirements 95, 103, 104.
async fn stale_join_refs_are_dropped_and_null_ones_accepted() {
    let server = TestServer::start(conformance_app::endpoint);
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("conf:a").await;
    client.send(json!(["0", "8", "conf:a", "echo", {}])).await;
    client
        .send(json!([null, "9", "conf:a", "echo", {"by": "null"}]))
        .await;
    assert_eq!(
        client.reply_to("9").await["response"],
        json!({"by": "null"})
    );
    // Joined with a null join_ref: the ref takes its place, and every join_ref is accepted.
    client
        .send(json!([null, "20", "conf:b", "phx_join", {}]))
        .await;
    assert_eq!(client.next().await[0], json!(null));
    client.send(json!(["x", "21", "conf:b", "echo", {}])).await;
    assert_eq!(client.next().await[0], json!("20"));
    client
        .push(&join_ref, "conf:a", "phx_leave", json!({}))
        .await;
    assert_eq!(client.next_event().await.0, "phx_reply");
    assert_eq!(client.next_event().await.0, "phx_close");
}

/// One packet, as a client sends it that shouts and goes.
fn packet(frames: &[RawFrame]) -> Vec<u8> {
    frames.iter().flat_map(RawFrame::encode).collect()
}

async fn what_was_said_before_the_end_of_a_connection_is_heard() {
    let server = chat(SocketOptions::default());
    let mut witness = Phoenix::connect(server.addr).await;
    witness.join("random:lobby").await;
    let shout = RawFrame::new(1, r#"["1","2","random:lobby","shout",{"last":"words"}]"#);
    let goodbye = RawFrame::new(8, 1000u16.to_be_bytes());
    let nonsense = RawFrame::new(1, "nonsense");
    let violation = RawFrame::new(3, "");
    for end in [goodbye, nonsense, violation] {
        let mut client = Phoenix::connect(server.addr).await;
        client.join("random:lobby").await;
        client
            .wire
            .send_bytes(&packet(&[shout.clone(), end]))
            .await
            .expect("open");
        assert_eq!(
            witness.next_event().await,
            ("shout".to_owned(), json!({"last": "words"}))
        );
    }
}

async fn a_burst_throws_no_reader_out() {
    let server = chat(SocketOptions::default());
    let mut members = Vec::new();
    for _ in 0..8 {
        let mut member = Phoenix::connect(server.addr).await;
        member.join("random:lobby").await;
        members.push(member);
    }
    const SHOUTS: usize = 3_000;
    let shouts: Vec<RawFrame> = (0..SHOUTS)
        .map(|n| {
            RawFrame::new(
                1,
                format!(r#"["1","2","random:lobby","shout",{{"n":{n}}}]"#),
            )
        })
        .collect();
    members[0]
        .wire
        .send_bytes(&packet(&shouts))
        .await
        .expect("open");
    for member in &mut members {
        for n in 0..SHOUTS {
            assert_eq!(member.next_event().await.1, json!({ "n": n }));
        }
    }
}

async fn a_client_that_asks_for_more_than_its_outbox_holds_gets_all_of_it() {
    let outbox = OutboxLimits::default().bytes(100_000).frames(1_000);
    let server = chat(SocketOptions::default().outbox(outbox));
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("random:lobby").await;
    let body = "x".repeat(40_000);
    let mut asked = Vec::new();
    for _ in 0..100 {
        asked.push(
            client
                .push(&join_ref, "random:lobby", "ping", json!({ "body": body }))
                .await,
        );
    }
    for reference in asked {
        assert_eq!(client.reply_to(&reference).await["status"], "ok");
    }
}

/// Requirement 186.
async fn a_lost_connection_is_not_answered_with_1000() {
    let server = chat(SocketOptions::default());
    let mut client = WireClient::connect(server.addr, "/socket/websocket?vsn=2.0.0").await;
    client.finish().await.expect("open");
    assert_eq!(client.recv(2, DEADLINE).await, closed_with(1001));
}

async fn a_client_that_pings_faster_than_it_reads_is_slowed_down() {
    const PINGS: usize = 5_000;
    let outbox = OutboxLimits::default().bytes(10_000).frames(100);
    let server = chat(SocketOptions::default().outbox(outbox));
    let mut client = WireClient::connect(server.addr, "/socket/websocket?vsn=2.0.0").await;
    let payload = [b'x'; 125];
    let pings = packet(&vec![RawFrame::new(9, payload); PINGS]);
    client.send_bytes(&pings).await.expect("open");
    let pongs = client.recv(PINGS, DEADLINE).await;
    assert_eq!(pongs, vec![Frame::Pong(payload.to_vec()); PINGS]);
}

async fn nothing_behind_a_violation_is_handled() {
    let server = chat(SocketOptions::default());
    let mut witness = Phoenix::connect(server.addr).await;
    let (join_ref, _) = witness.join("random:lobby").await;
    for violation in [
        RawFrame::new(1, *b"\xFF"),
        RawFrame::new(8, 1005u16.to_be_bytes()),
        RawFrame::new(8, *b"\x03\xE8\xFF"),
        RawFrame::new(8, 1000u16.to_be_bytes()),
        RawFrame::new(3, *b"x"),
    ] {
        let mut client = Phoenix::connect(server.addr).await;
        let (theirs, _) = client.join("random:lobby").await;
        let shout = |when: &str| {
            let text = format!(r#"["{theirs}","9","random:lobby","shout",{{"when":"{when}"}}]"#);
            RawFrame::new(1, text)
        };
        let frames = [shout("before"), violation, shout("behind")];
        client
            .wire
            .send_bytes(&packet(&frames))
            .await
            .expect("open");
        assert_eq!(witness.next_event().await.1, json!({"when": "before"}));
        while client.wire.recv(1, DEADLINE).await != [Frame::Eof] {}
        // The shout behind it would come before this one.
        witness
            .push(&join_ref, "random:lobby", "shout", json!({"when": "now"}))
            .await;
        assert_eq!(witness.next_event().await.1, json!({"when": "now"}));
    }
}
