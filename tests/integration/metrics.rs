//! What `/metrics` shows, to whom and where; and that the pages, the alerts and the board name what is there.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::api::TOKEN;
use crate::support::phoenix::Phoenix;
use crate::support::process::{Process, run};
use crate::support::wire::{Headers, http};

/// The text of `/metrics`.
pub(crate) async fn scrape(addr: SocketAddr, headers: Headers<'_>) -> String {
    let answer = http(addr, "GET", "/metrics", headers, b"").await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).expect("text")
}

/// The value of a metric, of all its series together.
pub(crate) fn sum(metrics: &str, name: &str) -> f64 {
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
    promtool(&["test", "rules", "tests/outages/alerts_test.yml"], "");
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

/// A build in a repository names a commit of it, the published crate that of its release.
#[actix_web::test]
async fn the_build_names_its_commit() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Process::start(&dir, &["--persist", "off"]);
    let metrics = scrape(server.addr, &[]).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let commit = env!("SLACKIR_COMMIT");
    let is_hash = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || !root.join(".git").exists(), "{commit}");
    assert!(
        metrics.contains(&format!("commit=\"{commit}\"")),
        "{commit}: {metrics}"
    );
    let version = run(&["--version"], dir.path()).stdout;
    let version = String::from_utf8_lossy(&version);
    assert!(version.ends_with(&format!(" ({commit})\n")), "{version}");
}

/// The most series of a server with 64 patterns or more on a machine of up to 16 cores, whatever its clients do. Most of
/// them are those of patterns: 65 times 43.
const MAX_SERIES: usize = 5_000;

/// No label has a value that a client chooses. So the number of series has a bound, however many rooms there are.
#[actix_web::test]
async fn the_number_of_series_has_a_ceiling() {
    let rooms = (0..80).map(|n| format!("[[rooms]]\ntopics = \"room{n}:*\"\n"));
    let config: String = rooms.collect();
    let (_dir, server) = Process::configured(&config, &["--api-token", TOKEN]);
    let document = http(server.addr, "GET", "/api/openapi.json", &[], b"").await;
    let document = document.expect("an answer").json();
    // Without a token and with a wrong body: each route, with two statuses.
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let (method, authorization) = (method.to_uppercase(), format!("Bearer {TOKEN}"));
            for token in [None, Some(&*authorization)] {
                let headers = [("Authorization", token)];
                let answer = http(server.addr, &method, path, &headers, b"{}").await;
                answer.expect("an answer");
            }
        }
    }
    let metrics = scrape(server.addr, &[]).await;
    let series = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let series = series.count();
    assert!(metrics.contains("pattern=\"room63:*\"") && !metrics.contains("pattern=\"room64:*\""));
    assert!((3_500..MAX_SERIES).contains(&series), "{series} series");
}

/// With an address of their own, operators find nothing on the clients' port, and clients nothing on theirs.
#[actix_web::test]
async fn operators_have_an_address_and_a_token_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let operators = free.local_addr().expect("bound");
    drop(free);
    let address = operators.to_string();
    let server = Process::start(
        &dir,
        &[
            "--admin-listen",
            &address,
            "--metrics-token",
            TOKEN,
            "--api-token",
            TOKEN,
        ],
    );
    let authorization = format!("Bearer {TOKEN}");
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
