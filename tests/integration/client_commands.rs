//! `slackir publish` and `slackir tail` against a running server.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{Process, run_with, spawn};

const TOKEN: &str = "a-token-of-the-tests";

const ROOMS: &str = r#"
    [identity]
    fields = { name = "{connect.name}" }
    require = ["name"]
    [[rooms]]
    topics = "room:*"
    events = ["shout"]
    server_events = ["notice"]
    join = { match = { "user.name" = ["ada"] } }
"#;

struct Running {
    dir: TempDir,
    server: Process,
    url: String,
}

impl Running {
    fn start() -> Self {
        let (dir, server) = Process::configured(ROOMS, &["--api-token", TOKEN]);
        let url = format!("http://{}", server.addr);
        Self { dir, server, url }
    }

    /// Runs `slackir publish`; its exit code, and what it prints.
    fn publish(&self, args: &[&str], token: &str) -> (i32, String) {
        let environment = [("SLACKIR_API_TOKEN", token), ("SLACKIR_URL", &*self.url)];
        let output = run_with(
            &[&["publish"], args].concat(),
            self.dir.path(),
            &environment,
        );
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        (output.status.code().expect("no signal"), text)
    }

    /// What `slackir tail` says when it has ended.
    fn tail_fails(&self, args: &[&str]) -> String {
        let args = [&["tail", "--url", &self.url], args].concat();
        let output = run_with(&args, self.dir.path(), &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn end(self) {
        self.server.signal("-TERM");
        assert_eq!(self.server.wait(), Some(0));
    }
}

#[test]
fn a_tail_prints_what_is_published() {
    let running = Running::start();
    let args = [
        "tail",
        "room:1",
        "--url",
        &running.url,
        "--param",
        "name=ada",
    ];
    let mut tail = spawn(&args, running.dir.path());
    let stdout = tail.stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut next = |event: &str| {
        let parsed = lines
            .by_ref()
            .map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
        let mut parsed = parsed.filter(|line| line["event"] == event);
        parsed.next().expect("a line")
    };
    // The history shows that it has joined.
    next("messages_history");
    let (code, id) = running.publish(&["room:1", "shout", r#"{"message": "hi"}"#], TOKEN);
    assert_eq!(code, 0, "{id}");
    assert!(id.contains('-'), "it prints the id: {id}");
    let line = next("shout");
    assert_eq!(
        line,
        json!({"topic": "room:1", "event": "shout", "payload": {"message": "hi"}})
    );
    let (code, text) = running.publish(&["room:1", "notice", r#"{"n": 1}"#, "--live"], TOKEN);
    assert_eq!((code, &*text), (0, ""));
    assert_eq!(next("notice")["payload"]["n"], 1);
    running.end();
    assert_eq!(tail.wait().expect("it ends").code(), Some(1));
}

#[test]
fn a_refusal_is_one_sentence() {
    let running = Running::start();
    for (args, token, part) in [
        (
            &["room:1", "shout", "hi"][..],
            TOKEN,
            "PAYLOAD must be a JSON object",
        ),
        (
            &["room:1", "shout", "{}"],
            "a-wrong-token-of-the-tests",
            "refuses it (status 401)",
        ),
        (&["room:1", "nothing", "{}"], TOKEN, "event: "),
        (
            &["other", "shout", "{}"],
            TOKEN,
            "refuses it (status 404): no room keeps messages",
        ),
        (
            &["room:1", "shout", "{}", "--url", "http://127.0.0.1:1"],
            TOKEN,
            "no server answers at http://127.0.0.1:1",
        ),
    ] {
        let (code, text) = running.publish(args, token);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(part), "{part}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let without_token = run_with(
        &["publish", "room:1", "shout", "{}"],
        running.dir.path(),
        &[],
    );
    let said = String::from_utf8_lossy(&without_token.stderr);
    assert!(said.contains("needs a token"), "{said}");
    for (args, part) in [
        (&["room:1"][..], "refuses the connection (status 403)"),
        (
            &["room:1", "--param", "name=eve"],
            "refuses the join of room:1: {\"reason\":\"unauthorized\"}",
        ),
        (
            &["room:1", "--param", "name=ada", "--socket", "/nowhere"],
            "refuses the connection (status 404)",
        ),
        (&["room:1", "--join", "3"], "--join must be a JSON object"),
    ] {
        let text = running.tail_fails(args);
        assert!(text.contains(part), "{part}: {text}");
    }
    running.end();
}

#[test]
fn the_servers_config_file_has_the_address_and_the_token() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let config = format!("host = \"0.0.0.0\"\napi_token = \"{TOKEN}\"\nport = {port}\n{ROOMS}");
    let dir = TempDir::new().expect("a folder");
    std::fs::write(dir.path().join("slackir.toml"), config).expect("writable");
    let server = Process::start_on(&dir, port, &["--config", "slackir.toml"]);
    let args = [
        "publish",
        "room:1",
        "shout",
        "{}",
        "--config",
        "slackir.toml",
    ];
    let published = run_with(&args, dir.path(), &[]);
    assert_eq!(published.status.code(), Some(0), "{published:?}");
    let args = ["tail", "room:1", "--param", "name=eve"];
    let refused = run_with(&args, dir.path(), &[("SLACKIR_CONFIG", "slackir.toml")]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("refuses the join"), "{said}");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}
