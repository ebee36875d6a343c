//! `slackir config init`, `show` and `check`; settings in the environment, and secrets in files.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::process::{Process, run, run_with};
use crate::support::wire::http;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempdir().expect("a temporary folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("writable");
    }
    dir
}

/// The names of the files in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).expect("readable");
    let names = files.map(|file| file.expect("readable").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Runs `slackir config check` on `slackir.toml`. Returns its exit code and its lines.
fn check(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> (i32, Vec<String>) {
    let args = [&["config", "check", "--config", "slackir.toml"], args].concat();
    let output = run_with(&args, dir, environment);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let code = output.status.code().expect("no signal ended it");
    (code, text.lines().map(str::to_owned).collect())
}

#[test]
fn a_sound_configuration_has_no_failure_and_nothing_is_made() {
    let dir = folder(&[("slackir.toml", "port = 0\nmax_connections = 10")]);
    let before = names(dir.path());
    let (code, lines) = check(dir.path(), &[], &[]);
    assert_eq!(code, 0, "{lines:?}");
    let warnings: Vec<_> = lines
        .iter()
        .filter(|line| !line.starts_with("ok "))
        .collect();
    assert_eq!(
        warnings,
        ["warn  database: there is no file slackir.db yet: it will be created"]
    );
    assert_eq!(names(dir.path()), before);

    assert_eq!(run(&["migrate"], dir.path()).status.code(), Some(0));
    let before = names(dir.path());
    let (code, lines) = check(dir.path(), &[], &[]);
    assert_eq!(code, 0, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.starts_with("ok ")),
        "{lines:?}"
    );
    assert_eq!(names(dir.path()), before);
}

#[test]
fn each_mistake_has_its_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = format!("port = {}", taken.local_addr().expect("bound").port());
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = closed.local_addr().expect("bound");
    drop(closed);
    let hook = format!("[hook]\nurl = \"http://{nobody}/\"\nsecret_file = \"long\"");
    let jwks = format!(
        "identity = {{ jwt = {{ algorithms = [\"RS256\"], jwks_url = \"http://{nobody}/keys\", \
         issuer = \"https://id\", audience = \"chat\" }} }}"
    );
    let files = [
        ("long", "0123456789abcdef0123456789abcdef"),
        ("text.db", "this is no database, it only looks like one"),
        ("plain", "a file"),
    ];
    for (text, wanted) in [
        (
            "prot = 1",
            "fail  config: slackir.toml, line 1: prot: there is no such setting; did you mean port?",
        ),
        (&*port, "is in use by another program"),
        (
            "database_url = \"sqlite://nowhere/slackir.db\"",
            "fail  database: there is no folder nowhere",
        ),
        (
            "database_url = \"sqlite://text.db\"",
            "fail  database: cannot use database file text.db",
        ),
        ("spool_dir = \"plain\"", "fail  spool: plain is no folder"),
        #[cfg(feature = "acme")]
        (
            "acme = [\"a.example\"]\nacme_dir = \"plain\"",
            "fail  acme_dir: plain is no folder: correct acme_dir",
        ),
        #[cfg(feature = "acme")]
        (
            "acme = [\"a.example\"]\nacme_dir = \"certificates\"",
            "ok    acme_dir: certificates will be created",
        ),
        (
            "static_dir = \"nowhere\"",
            "fail  static_dir: static folder nowhere is not a folder",
        ),
        (
            "check_origin = \"//a.example\"\npublic_host = \"b.example\"",
            "warn  check_origin: the list lacks the public_host: add //b.example",
        ),
        (
            "check_origin = \"nonsense\"",
            "fail  check_origin: --check-origin: ",
        ),
        (
            "max_connections = 1_000_000_000",
            "warn  descriptors: max_connections is 1000000000",
        ),
        (
            "api_token = \"short\"",
            "fail  api: --api-token: at least 16",
        ),
        (
            "api_token = \"0123456789abcdef\"\napi_token_file = \"long\"",
            "fail  config: api_token and api_token_file are both set",
        ),
        (
            "api_token_file = \"nowhere\"",
            "fail  config: api_token_file: cannot read nowhere",
        ),
        (
            "identity = { jwt = { algorithms = [\"RS256\"], public_key_file = \"plain\" } }",
            "fail  keys: [identity] jwt: public_key_file: plain",
        ),
        (&*jwks, "fail  jwks: [identity] jwt: http://"),
        (
            "identity = { phoenix_token = {} }",
            "fail  secret_key_base: phoenix_token needs it",
        ),
        (&*hook, "warn  hook: http://"),
    ] {
        let port = if text.contains("port = ") {
            ""
        } else {
            "port = 0\n"
        };
        let dir = folder(&files);
        std::fs::write(
            dir.path().join("slackir.toml"),
            format!("{port}{text}").replace("port = 0\nprot", "prot"),
        )
        .expect("writable");
        let (code, lines) = check(dir.path(), &[], &[]);
        let found: Vec<_> = lines.iter().filter(|line| line.contains(wanted)).collect();
        assert_eq!(found.len(), 1, "{wanted:?} for {text:?}: {lines:?}");
        let fails = lines.iter().filter(|line| line.starts_with("fail")).count();
        assert_eq!(
            fails,
            usize::from(found[0].starts_with("fail")),
            "{lines:?}"
        );
        assert_eq!(code == 1, fails == 1, "{lines:?}");
    }
}

#[test]
fn a_database_that_a_server_uses_is_only_read() {
    let dir = folder(&[("slackir.toml", "max_connections = 10")]);
    let server = Process::start(&dir, &["--config", "slackir.toml"]);
    let port = server.addr.port().to_string();
    let (code, lines) = check(dir.path(), &["--port", &port], &[]);
    assert_eq!(code, 0, "{lines:?}");
    let has = |part: &str| lines.iter().any(|line| line.contains(part));
    assert!(
        has("ok    database: sqlite://slackir.db has the tables"),
        "{lines:?}"
    );
    assert!(has("answers as slackir does"), "{lines:?}");
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn every_value_is_shown_with_its_source_and_no_secret() {
    let dir = folder(&[
        (
            "slackir.toml",
            "history_limit = 7\ndatabase_url = \"postgres://me:s3cret@db/x\"\n\n[[rooms]]\ntopics = \"lobby\"",
        ),
        ("token", "0123456789-s3cret\n"),
    ]);
    let args = ["config", "show", "--config", "slackir.toml", "--port", "5"];
    let environment = [
        ("SLACKIR_MAX_CHANNELS", "3"),
        ("SLACKIR_API_TOKEN_FILE", "token"),
        ("SECRET_KEY_BASE", "s3cret s3cret s3cret"),
    ];
    let text = run_with(&args, dir.path(), &environment);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let words: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "port = 5 # flag --port",
        "history_limit = 7 # slackir.toml, line 1",
        "max_channels = 3 # environment SLACKIR_MAX_CHANNELS",
        "api_token = \"(secret)\" # the file token",
        "secret_key_base = \"(secret)\" # environment SECRET_KEY_BASE",
        "log = \"info\" # default",
        "#workers # not set",
        "#[rooms] # slackir.toml, line 4",
    ] {
        assert!(words.iter().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("s3cret"), "{text}");

    let json = [&args[..], &["--format", "json"]].concat();
    let json = run_with(&json, dir.path(), &environment).stdout;
    assert!(!String::from_utf8_lossy(&json).contains("s3cret"));
    let all: Vec<Value> = serde_json::from_slice(&json).expect("JSON");
    let port = all
        .iter()
        .find(|setting| setting["name"] == "port")
        .expect("it is there");
    assert_eq!(
        (&port["value"], &port["source"]),
        (&Value::from(5), &Value::from("flag --port"))
    );
}

#[actix_web::test]
async fn a_new_config_file_starts_a_server_and_is_never_overwritten() {
    let dir = folder(&[]);
    let output = run(&["config", "init"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let written = std::fs::read_to_string(dir.path().join("slackir.toml")).expect("readable");
    let again = run(&["config", "init", "slackir.toml"], dir.path());
    assert_eq!(again.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&again.stderr);
    assert!(stderr.contains("slackir.toml exists already"), "{stderr}");
    let now = std::fs::read_to_string(dir.path().join("slackir.toml")).expect("readable");
    assert_eq!(now, written);
    // Nothing that the programs print has a secret of the file.
    let secret = |name: &str| {
        let mut lines = written.lines();
        let start = format!("{name} = \"");
        let value = lines.find_map(|line| line.strip_prefix(&*start));
        let value = value.and_then(|value| value.strip_suffix('"'));
        value.expect("the file has it").to_owned()
    };
    let token = secret("metrics_token");
    let secrets = [
        token.clone(),
        secret("api_token"),
        secret("secret_key_base"),
        secret("#dashboard_password"),
    ];
    let mut server = Process::start_logging_to(Stdio::piped(), &dir, &["--config", "slackir.toml"]);
    let log = server.take_stderr();
    let status = async |token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers = [("Authorization", bearer.as_deref())];
        let answer = http(server.addr, "GET", "/metrics", &headers, b"").await;
        answer.expect("an answer").status
    };
    assert_eq!((status(None).await, status(Some(&token)).await), (401, 200));
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    let log = std::io::read_to_string(log).expect("readable");
    let shown = run(&["config", "show", "--config", "slackir.toml"], dir.path());
    let printed = [&output.stdout, &output.stderr, &shown.stdout];
    let printed = printed.map(|text| String::from_utf8_lossy(text));
    for secret in secrets {
        assert!(!log.contains(&*secret), "{log}");
        assert!(!printed.iter().any(|text| text.contains(&*secret)));
    }
}

#[test]
fn secrets_in_files_serve_every_command() {
    let dir = folder(&[
        ("url", "sqlite://of-the-file.db\r\n"),
        ("secret", "a secret of twenty bytes\n"),
        ("empty", "\n"),
    ]);
    let migrated = run(&["migrate", "--database-url-file", "url"], dir.path());
    assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
    assert!(dir.path().join("of-the-file.db").exists());
    let sign = |args: &[&str]| {
        let args = [&["token", "sign", "7"], args].concat();
        run(&args, dir.path())
    };
    let token = sign(&["--secret-key-base-file", "secret"]);
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    let verify = [
        "token",
        "verify",
        &token,
        "--secret-key-base",
        "a secret of twenty bytes",
    ];
    assert_eq!(run(&verify, dir.path()).stdout, b"7\n");
    for (args, part) in [
        (
            &["--secret-key-base-file", "empty"][..],
            "secret_key_base_file: empty is empty",
        ),
        (
            &["--secret-key-base-file", "none"],
            "secret_key_base_file: cannot read none",
        ),
        (
            &["--secret-key-base-file", "secret", "--secret-key-base", "x"],
            "secret_key_base and secret_key_base_file are both set",
        ),
        (&[], "--secret-key-base"),
    ] {
        let output = sign(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}
