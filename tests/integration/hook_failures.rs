//! Backends behind `[hook]` that are slow, dead or wrong: nothing of a wrong answer is done, nothing is allowed, and
//! nobody else waits.

use std::io::Read;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Answer, HookBackend, SECRET, serve_with_hook};
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run_with};
use crate::support::wire::http;

const ROOMS: &str = r#"
[[rooms]]
topics = "hooked:*"
history = "none"
join.hook = true
[[rooms]]
topics = "room:*"
history = "none"
other_events = "hook"
on.plain = { to = "sender", reply = true }
"#;

fn unavailable() -> Value {
    json!({"status": "error", "response": {"reason": "unavailable"}})
}

async fn dial(server: &Process) -> Phoenix {
    Phoenix::connect(server.addr).await
}

type MakeAnswer = fn() -> Answer;

/// Asks by an event, whose reply must be the next frame.
async fn ask(client: &mut Phoenix, join_ref: &str, payload: Value) -> Value {
    let reference = client.push(join_ref, "room:1", "ask", payload).await;
    client.reply_to(&reference).await
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

#[actix_web::test]
async fn wrong_answers_are_refused_whole() {
    let raw = |body: &[u8]| Answer::Raw("200 OK", body.to_vec());
    let wrong: [(&str, MakeAnswer); 13] = [
        ("no JSON", || {
            Answer::Raw("200 OK", b"<html>ok</html>".to_vec())
        }),
        ("nothing", || Answer::Raw("200 OK", Vec::new())),
        ("half", || Answer::Raw("200 OK", b"{\"ok\":true".to_vec())),
        ("404", || {
            Answer::Raw("404 Not Found", b"{\"ok\":true}".to_vec())
        }),
        ("403", || {
            Answer::Raw("403 Forbidden", b"{\"ok\":false}".to_vec())
        }),
        ("500", || Answer::Raw("500 Oops", b"{\"ok\":true}".to_vec())),
        ("204", || Answer::Raw("204 No Content", Vec::new())),
        ("redirect", || {
            Answer::Raw(
                "302 Found\r\nlocation: /slackir?app=1",
                b"{\"ok\":true}".to_vec(),
            )
        }),
        ("too long", || {
            let long = json!({"ok": true, "reply": "x".repeat(1 << 20)});
            Answer::Raw("200 OK", long.to_string().into_bytes())
        }),
        ("unknown member", || {
            json!({"ok": true, "replay": {}}).into()
        }),
        ("wrong type", || json!({"ok": "true"}).into()),
        ("no length", || Answer::Unframed(b"{\"ok\":true}".to_vec())),
        ("hang up", || Answer::HangUp),
    ];
    let answers = move |name: &str| {
        wrong
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, make)| make())
    };
    let backend = HookBackend::start(move |call| {
        let kind = call.kind().to_owned();
        let name = match &*kind {
            "join" => call.body["segments"][0].as_str(),
            _ => call.body["payload"]["name"].as_str(),
        };
        name.and_then(&answers)
            .unwrap_or_else(|| raw(b"{\"ok\":true,\"reply\":{}}"))
    })
    .await;
    let (_dir, server) = backend.serve("", ROOMS);
    let mut ann = dial(&server).await;
    let (join_ref, _) = ann.join("room:1").await;
    for (name, _) in wrong {
        let joined = ann.send_join(&format!("hooked:{name}"), json!({})).await;
        assert_eq!(ann.reply_to(&joined).await, unavailable(), "{name}");
        let reply = ask(&mut ann, &join_ref, json!({"name": name})).await;
        assert_eq!(reply, unavailable(), "{name}");
    }
    // Each once: no redirect was followed, and nothing was tried again after it was sent.
    assert_eq!(backend.bodies("join").len(), wrong.len());
    assert_eq!(backend.bodies("event").len(), wrong.len());
    assert_eq!(ask(&mut ann, &join_ref, json!({})).await["status"], "ok");
}

#[actix_web::test]
async fn nothing_of_an_answer_with_one_wrong_action_is_done() {
    let backend = HookBackend::start(|call| {
        let good = json!({"broadcast": "good", "payload": {}});
        let bad = call.body["payload"]["action"].clone();
        let me = json!({"touched": true});
        json!({"ok": true, "reply": {}, "me": me, "do": [good, bad], "close": true}).into()
    })
    .await;
    let (_dir, server) = backend.serve("", ROOMS);
    let mut ann = dial(&server).await;
    let (join_ref, _) = ann.join("room:1").await;
    for bad in [
        json!({"shout": "a"}),
        json!({"push": "phx_close"}),
        json!({"push": "a", "payload": []}),
        json!({"broadcast": "a", "store": true}),
        json!({"broadcast": "a", "to": {"payload.id": 7}}),
        json!({"broadcast": "a", "topic": "x", "to": "others"}),
        json!({"presence": {"state": "playing"}}),
        json!("push"),
    ] {
        let reply = ask(&mut ann, &join_ref, json!({"action": bad})).await;
        assert_eq!(reply, unavailable(), "{bad}");
    }
    ann.heartbeat().await;
    let memories = backend.bodies("event");
    assert!(
        memories.iter().all(|call| call["me"] == json!({})),
        "{memories:?}"
    );
}

#[actix_web::test]
async fn a_backend_that_hangs_is_given_up_and_other_rooms_answer_at_once() {
    let backend = HookBackend::start(|_| Answer::Never).await;
    let (_dir, server) = backend.serve("timeout = \"1s\"", ROOMS);
    let mut ann = dial(&server).await;
    let (ann_ref, _) = ann.join("room:1").await;
    let asked = Instant::now();
    let reference = ann.push(&ann_ref, "room:1", "ask", json!({})).await;
    backend.wait_for("event", 1).await;
    ann.heartbeat().await;
    let mut bob = dial(&server).await;
    for n in 0..20 {
        let began = Instant::now();
        let topic = format!("room:{n}");
        let (bob_ref, _) = bob.join(&topic).await;
        bob.push(&bob_ref, &topic, "plain", json!({})).await;
        assert_eq!(bob.next_event().await.0, "plain");
        assert_eq!(bob.next_event().await.0, "phx_reply");
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
    }
    assert_eq!(ann.reply_to(&reference).await, unavailable());
    let waited = asked.elapsed();
    assert!(
        waited > Duration::from_millis(900) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
    // Nor does a leave wait for the backend for long.
    ann.push(&ann_ref, "room:1", "ask", json!({})).await;
    let leave = ann.push(&ann_ref, "room:1", "phx_leave", json!({})).await;
    assert_eq!(ann.next_event().await.1, unavailable());
    assert_eq!(ann.reply_to(&leave).await["status"], "ok");
}

#[actix_web::test]
async fn a_dead_backend_lets_nobody_in() {
    let (_dir, server) = serve_with_hook(nobody(), "", ROOMS);
    let mut ann = dial(&server).await;
    let asked = Instant::now();
    let joined = ann.send_join("hooked:1", json!({})).await;
    assert_eq!(ann.reply_to(&joined).await, unavailable());
    // It is tried twice, with a pause.
    assert!(asked.elapsed() >= Duration::from_millis(100));
    let (join_ref, _) = ann.join("room:1").await;
    assert_eq!(ask(&mut ann, &join_ref, json!({})).await, unavailable());

    let identity = format!("[identity]\nfrom = [\"params\", \"hook\"]\n{ROOMS}");
    let (_dir, server) = serve_with_hook(nobody(), "", &identity);
    let upgrade = [
        ("Upgrade", Some("websocket")),
        ("Connection", Some("Upgrade")),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ==")),
        ("Sec-WebSocket-Version", Some("13")),
    ];
    for (path, headers) in [("websocket", &upgrade[..]), ("longpoll", &[])] {
        let target = format!("/socket/{path}?vsn=2.0.0");
        let answer = http(server.addr, "GET", &target, headers, b"")
            .await
            .expect("an answer");
        assert_eq!(answer.status, 503, "{path}");
    }
}

#[actix_web::test]
async fn no_more_calls_are_out_than_allowed_and_the_others_wait_for_at_most_the_timeout() {
    let backend = HookBackend::start(|_| Answer::from(json!({"ok": true})).after(100)).await;
    // Two workers with two calls each.
    let (_dir, server) = backend.serve("max_in_flight = 2", ROOMS);
    let mut clients = Vec::new();
    for n in 0..12 {
        let mut client = dial(&server).await;
        let joined = client.send_join(&format!("hooked:{n}"), json!({})).await;
        clients.push((client, joined));
    }
    for (client, joined) in &mut clients {
        assert_eq!(client.reply_to(joined).await["status"], "ok");
    }
    let most = backend.most_at_once();
    assert!((1..=4).contains(&most), "{most}");

    let hanging = HookBackend::start(|_| Answer::Never).await;
    let (_dir, server) = hanging.serve("max_in_flight = 1\ntimeout = \"300ms\"", ROOMS);
    let began = Instant::now();
    let mut clients = Vec::new();
    for n in 0..12 {
        let mut client = dial(&server).await;
        let joined = client.send_join(&format!("hooked:{n}"), json!({})).await;
        clients.push((client, joined));
    }
    for (client, joined) in &mut clients {
        assert_eq!(client.reply_to(joined).await, unavailable());
    }
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert!(
        hanging.bodies("join").len() < 12,
        "some found no slot in time"
    );
}

#[actix_web::test]
async fn a_failure_is_logged_once_and_the_secret_never() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name, text: &str| std::fs::write(dir.path().join(name), text).expect("writable");
    write("hook.secret", SECRET);
    let hook = format!(
        "[hook]\nurl = \"http://{}\"\nsecret_file = \"hook.secret\"\n{ROOMS}",
        nobody()
    );
    write("slackir.toml", &hook);
    let args = ["--config", "slackir.toml", "--log-format", "json"];
    let mut server = Process::start_logging_to(Stdio::piped(), &dir, &args);
    let mut stderr = server.take_stderr();
    let mut ann = dial(&server).await;
    for n in 0..5 {
        let joined = ann.send_join(&format!("hooked:{n}"), json!({})).await;
        assert_eq!(ann.reply_to(&joined).await, unavailable());
    }
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let mut log = String::new();
    stderr.read_to_string(&mut log).expect("readable");
    let failing: Vec<_> = log
        .lines()
        .filter(|line| line.contains("hook.failing"))
        .collect();
    assert_eq!(failing.len(), 1, "{log}");
    let line: Value = serde_json::from_str(failing[0]).expect("JSON");
    let fields = &line["fields"];
    assert_eq!(
        (&fields["kind"], &fields["call"]),
        (&json!("unreachable"), &json!("join"))
    );
    assert!(!log.contains(SECRET), "{log}");
}

#[test]
fn a_hook_without_its_secret_or_rooms_without_their_hook_do_not_start() {
    let short = "0123456789";
    for (hook, environment, wanted) in [
        (
            "secret_env = \"HOOK_SECRET\"",
            &[][..],
            "slackir: [hook] secret_env: the environment has no HOOK_SECRET",
        ),
        (
            "secret_env = \"HOOK_SECRET\"",
            &[("HOOK_SECRET", short)],
            "slackir: [hook]: the secret has 10 bytes, it must have 32 or more",
        ),
        (
            "secret_file = \"none\"",
            &[],
            "slackir: [hook] secret_file: cannot read none: No such file",
        ),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let text = format!("[hook]\nurl = \"http://127.0.0.1:1\"\n{hook}\n{ROOMS}");
        std::fs::write(dir.path().join("slackir.toml"), text).expect("writable");
        let args = ["--config", "slackir.toml", "--port", "0"];
        let output = run_with(&args, dir.path(), environment);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with(wanted), "{wanted:?}: {stderr}");
        assert!(!stderr.contains(short), "{stderr}");
        // A command that asks nobody needs no secret.
        let output = run_with(&["migrate", "--config", "slackir.toml"], dir.path(), &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}
