//! What `/metrics` shows, to whom and where; and that the pages, the alerts and the board name what is there.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};
use crate::support::wire::{Headers, http};

/// The text of `/metrics`.
async fn scrape(addr: SocketAddr, headers: Headers<'_>) -> String {
    let answer = http(addr, "GET", "/metrics", headers, b"").await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).expect("text")
}

/// The value of a metric, of all its series together.
fn sum(metrics: &str, name: &str) -> f64 {
    let of_metric = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    let values = metrics.lines().filter(of_metric);
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    values.filter_map(value).sum()
}

/// The names of the metrics in the `# TYPE` lines.
fn names(metrics: &str) -> BTreeSet<&str> {
    let types = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).collect()
}

/// The names of metrics that a text mentions, without the endings of histograms. A name that ends with an underscore
/// stands for all that begin with it: `slackir_cluster_*`.
fn mentioned(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let metrics = words.filter(|word| word.starts_with("slackir_") || word.starts_with("process_"));
    let base = |word: &str| -> usize {
        let endings = ["_bucket", "_count", "_sum"];
        let ending = endings.iter().find(|ending| word.ends_with(**ending));
        word.len() - ending.map_or(0, |ending| ending.len())
    };
    metrics.map(|word| &word[..base(word)]).collect()
}

/// Whether there is a metric of this name, or one that begins with it.
fn is_known(known: &BTreeSet<&str>, name: &str) -> bool {
    known.contains(name)
        || name.ends_with('_') && known.iter().any(|metric| metric.starts_with(name))
}

/// README.md, the pages of docs/, the alerts and the board.
fn texts_about_metrics() -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let files = std::fs::read_dir(docs).expect("the folder of the pages");
    let names = files.map(|file| file.expect("a file").file_name());
    let names = names.map(|name| name.into_string().expect("a name in UTF-8"));
    let pages = names.filter(|name| name.ends_with(".md") || name.ends_with(".yml"));
    let pages = pages.map(|name| format!("docs/{name}"));
    let others = ["README.md", "docs/grafana/slackir.json"].map(str::to_owned);
    pages.chain(others).collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).expect("a file of the project")
}

/// Runs promtool with this input; it fails on any finding.
fn promtool(args: &[&str], input: &str) {
    let mut promtool = Command::new("promtool");
    let running = promtool.args(args).stdin(Stdio::piped()).spawn();
    let mut running = running.expect("promtool is installed (Debian: prometheus)");
    let mut stdin = running.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(
        running.wait().expect("it ends").success(),
        "promtool {args:?}"
    );
}

/// `scripts/test quick` leaves it out if there is no promtool.
#[actix_web::test]
async fn promtool_accepts_the_metrics_and_the_alerts() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Process::start(&dir, &[]);
    let mut ann: Phoenix = Phoenix::dial(server.addr).await;
    ann.join("random:lobby").await;
    promtool(&["check", "metrics"], &scrape(server.addr, &[]).await);
    promtool(&["check", "rules", "docs/alerts.yml"], "");
}

#[actix_web::test]
async fn the_pages_the_alerts_and_the_board_name_the_metrics_that_are_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Process::start(&dir, &[]);
    let mut ann: Phoenix = Phoenix::dial(server.addr).await;
    ann.join("random:lobby").await;
    // The first answer is counted when the second is made.
    scrape(server.addr, &[]).await;
    let metrics = scrape(server.addr, &[]).await;
    let known = names(&metrics);
    for name in &known {
        let help = format!("# HELP {name} ");
        assert!(metrics.contains(&help), "{name} has no HELP");
    }
    let page = read("docs/METRICS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let on_page: BTreeSet<_> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(
        on_page, known,
        "docs/METRICS.md has all metrics and no others"
    );
    for file in texts_about_metrics() {
        let text = read(&file);
        let names = mentioned(&text);
        let unknown: Vec<_> = names
            .into_iter()
            .filter(|name| !is_known(&known, name))
            .collect();
        assert_eq!(unknown, [""; 0], "{file} names metrics that are not there");
    }
    let board: Value = serde_json::from_str(&read("docs/grafana/slackir.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let queries = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let queries: Vec<_> = queries.flatten().collect();
    assert!(queries.len() > 30, "{}", queries.len());
    assert!(queries.iter().all(|query| query["expr"].is_string()));
}

/// A build in a repository names the commit that is checked out, the published crate that of its release.
#[actix_web::test]
async fn the_build_names_its_commit() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Process::start(&dir, &["--persist", "off"]);
    let metrics = scrape(server.addr, &[]).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut git = Command::new("git");
    let head = git.args(["rev-parse", "HEAD"]).current_dir(root).output();
    let head = head
        .ok()
        .filter(|head| root.join(".git").exists() && head.status.success());
    let commit = head.map(|head| String::from_utf8(head.stdout).expect("text"));
    let commit = commit.as_deref().map_or(env!("SLACKIR_COMMIT"), str::trim);
    assert!(
        metrics.contains(&format!("commit=\"{commit}\"")),
        "{commit}: {metrics}"
    );
    let version = run(&["--version"], dir.path()).stdout;
    let version = String::from_utf8_lossy(&version);
    assert!(version.ends_with(&format!(" ({commit})\n")), "{version}");
}

/// Topics, presences and broadcasts count for the pattern of their room.
#[actix_web::test]
async fn each_room_has_series_of_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let rooms = "[[rooms]]\ntopics = \"room:*\"\n[rooms.presence]\nkey = \"me\"\n\n[[rooms]]\ntopics = \"lobby\"\n";
    std::fs::write(dir.path().join("slackir.toml"), rooms).expect("writable");
    let server = Process::start(&dir, &["--config", "slackir.toml"]);
    let mut ann: Phoenix = Phoenix::dial(server.addr).await;
    let room = ann.send_join("room:1", json!({})).await;
    let lobby = ann.send_join("lobby", json!({})).await;
    for (join_ref, topic, count) in [(&room, "room:1", 3), (&lobby, "lobby", 2)] {
        for n in 0..count {
            let message = json!({"message": n.to_string()});
            ann.push(join_ref, topic, "shout", message).await;
        }
    }
    // Presence adds a broadcast for the member that has joined.
    let expected = [
        ("slackir_topics", "room:*", 1.0),
        ("slackir_topics", "lobby", 1.0),
        ("slackir_presences", "room:*", 1.0),
        ("slackir_presences", "lobby", 0.0),
        ("slackir_broadcasts_total", "room:*", 4.0),
        ("slackir_broadcasts_total", "lobby", 2.0),
    ];
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = scrape(server.addr, &[]).await;
        let of =
            |name: &str, pattern: &str| sum(&metrics, &format!("{name}{{pattern=\"{pattern}\"}}"));
        let found = expected.map(|(name, pattern, _)| (name, pattern, of(name, pattern)));
        if found == expected {
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::task::yield_now().await;
    }
}

/// Broadcasts times members are deliveries and dropped deliveries, whatever becomes of the members.
#[actix_web::test]
async fn messages_times_members_are_deliveries() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Process::start(&dir, &[]);
    let mut members = Vec::new();
    for _ in 0..5 {
        let mut member: Phoenix = Phoenix::dial(server.addr).await;
        let (join_ref, _) = member.join("random:lobby").await;
        members.push((member, join_ref));
    }
    let (ann, ann_ref) = &mut members[0];
    for n in 0..200 {
        let message = json!({"name": "ann", "message": n.to_string()});
        ann.push(ann_ref, "random:lobby", "shout", message).await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = scrape(server.addr, &[]).await;
        let got = sum(&metrics, "slackir_deliveries_total")
            + sum(&metrics, "slackir_deliveries_dropped_total");
        let sent = sum(&metrics, "slackir_broadcasts_total");
        let received = sum(&metrics, "slackir_messages_received_total");
        if (sent, received, got) == (200.0, 205.0, 1_000.0) {
            assert_eq!(sum(&metrics, "slackir_joins_total"), 5.0);
            assert_eq!(sum(&metrics, "slackir_connections"), 5.0);
            assert_eq!(sum(&metrics, "slackir_channels"), 5.0);
            break;
        }
        assert!(Instant::now() < deadline, "{got} deliveries: {metrics}");
        tokio::task::yield_now().await;
    }
    drop(members);
    let closed = loop {
        let metrics = scrape(server.addr, &[]).await;
        if sum(&metrics, "slackir_connections") == 0.0 {
            break sum(&metrics, "slackir_connections_closed_total");
        }
        assert!(Instant::now() < deadline, "{metrics}");
    };
    assert_eq!(closed, 5.0);
}

/// With an address of their own, operators find nothing on the clients' port, and clients nothing on theirs.
#[actix_web::test]
async fn operators_have_an_address_and_a_token_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let operators = free.local_addr().expect("bound");
    drop(free);
    let address = operators.to_string();
    let token = "a-token-of-the-tests";
    let server = Process::start(
        &dir,
        &[
            "--admin-listen",
            &address,
            "--metrics-token",
            token,
            "--api-token",
            token,
        ],
    );
    let authorization = format!("Bearer {token}");
    let status = async |addr, path: &str, headers: Headers<'_>| {
        let answer = http(addr, "GET", path, headers, b"").await;
        answer.expect("an answer").status
    };
    for path in ["/metrics", "/healthz", "/readyz", "/api/openapi.json"] {
        assert_eq!(status(server.addr, path, &[]).await, 404, "{path}");
    }
    assert_eq!(status(server.addr, "/", &[]).await, 200);
    assert_eq!(status(operators, "/", &[]).await, 404);
    assert_eq!(status(operators, "/socket/websocket", &[]).await, 404);
    for path in ["/healthz", "/readyz", "/api/openapi.json"] {
        assert_eq!(status(operators, path, &[]).await, 200, "{path}");
    }
    let other = [("Authorization", Some("Bearer another"))];
    assert_eq!(status(operators, "/metrics", &[]).await, 401);
    assert_eq!(status(operators, "/metrics", &other).await, 401);
    let metrics = scrape(operators, &[("Authorization", Some(&authorization))]).await;
    assert!(metrics.contains("slackir_build_info{"));
}
