//! Bad configuration: one clear line, an exit code that is not 0, and nothing half started.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::support::process::{Process, program, run, run_with};
use crate::support::transport::Wire;
use crate::support::wire::WireClient;

/// Runs `slackir`, which must fail with one line that holds `part`.
pub(crate) fn fails(dir: &Path, args: &[&str], part: &str) {
    let output = run(args, dir);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "{args:?}");
    assert!(stderr.contains(part), "{args:?} says {part:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?} announces no server");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    assert!(
        !stderr.contains("s3cret"),
        "{args:?} prints no password: {stderr}"
    );
}

#[test]
fn bad_flag_values_are_refused_by_name() {
    let dir = tempdir().expect("a temporary folder");
    for (args, part) in [
        (&["--port", "seventy"][..], "--port"),
        (&["--history", "everything"], "messages_history"),
        (&["--history-limit", "0"], "at least 1"),
        (&["--check-origin", "nonsense"], "--check-origin"),
        (&["--static-dir", "nowhere"], "static folder nowhere"),
        (&["--log", "a=b=c"], "--log"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["frobnicate"], "frobnicate"),
    ] {
        fails(dir.path(), args, part);
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("readable").count(),
        0,
        "nothing was made"
    );
}

#[test]
fn a_new_secret_has_the_characters_that_were_asked_for() {
    let dir = tempdir().expect("a temporary folder");
    let print = |args: &[&str]| {
        let output = run(args, dir.path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.strip_suffix('\n').expect("one line").to_owned()
    };
    let (first, second) = (print(&["secret"]), print(&["secret"]));
    assert_ne!(first, second);
    assert_eq!((first.len(), print(&["secret", "32"]).len()), (64, 32));
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/".contains(c);
    assert!(first.chars().all(is_base64), "{first}");
    fails(dir.path(), &["secret", "31"], "31 is not in 32..");
}

#[actix_web::test]
async fn a_json_web_token_is_signed_as_the_config_file_accepts_it() {
    const SECRET: &str = "a secret of thirty-two bytes or more";
    let dir = tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).expect("writable");
    };
    write("jwt", SECRET);
    write("other", "another secret of thirty-two bytes or more");
    write("rsa.pem", include_str!("../fixtures/jwt/rsa.pem"));
    let config = |keys: &str| {
        format!(
            "[identity]\njwt = {{ {keys}, issuer = \"https://login.example\", audience = [\"chat\"] }}\n\
             require = [\"id\"]\nfields = {{ id = \"{{token.sub}}\" }}\n"
        )
    };
    write(
        "slackir.toml",
        &config("algorithms = [\"HS512\"], secret_file = \"jwt\""),
    );
    write(
        "public.toml",
        &config("algorithms = [\"RS256\"], public_key_file = \"rsa.pem\""),
    );
    let server = Process::start(&dir, &["--config", "slackir.toml", "--persist", "off"]);
    let file = ["--config", "slackir.toml"];
    let tried = async |args: &[&str]| {
        let output = run(&[&["token", "jwt"], args].concat(), dir.path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let token = String::from_utf8(output.stdout).expect("text");
        let target = format!("/socket/websocket?vsn=2.0.0&token={}", token.trim_end());
        let dialled = WireClient::dial(server.addr, &target, &[]).await;
        dialled.expect("an answer").1.status
    };
    assert_eq!(tried(&[&file[..], &["sub=ada"]].concat()).await, 101);
    assert_eq!(
        tried(&[&file[..], &["{\"sub\": \"ada\"}"]].concat()).await,
        101
    );
    for wrong in [
        &["sub=ada", "exp=1"][..],
        &["sub=ada", "aud=mail"],
        &["sub=ada", "--secret-file", "other"],
        &["sub=ada", "--algorithm", "HS256"],
        &["name=ada"],
    ] {
        assert_eq!(tried(&[&file[..], wrong].concat()).await, 403, "{wrong:?}");
    }
    let own = ["sub=ada", "--secret-file", "jwt", "--algorithm", "HS512"];
    let named = ["iss=https://login.example", "aud=chat"];
    assert_eq!(tried(&[&own[..], &named].concat()).await, 101);
    for (args, part) in [
        (&["sub"][..], "\"sub\" is no claim"),
        (&["sub=ada"], "nothing to sign with"),
        (&["--config", "public.toml"], "--private-key-file"),
        (
            &["--config", "public.toml", "--private-key-file", "rsa.pem"],
            "no private key for RS256",
        ),
        (
            &["--secret-file", "jwt", "--algorithm", "ES256"],
            "a P-256 key",
        ),
        (&["--algorithm", "none"], "must be HS256"),
    ] {
        fails(dir.path(), &[&["token", "jwt"], args].concat(), part);
    }
}

#[test]
fn a_client_that_waits_for_another_request_holds_no_shutdown_up() {
    let dir = tempdir().expect("a temporary folder");
    for driver in ["direct", "actix-ws"] {
        let args = ["--persist", "off", "--websocket-driver", driver];
        let server = Process::start(&dir, &args);
        let mut client = TcpStream::connect(server.addr).expect("it listens");
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(request).expect("open");
        assert_ne!(client.read(&mut [0; 1_024]).expect("an answer"), 0);
        let asked = Instant::now();
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0), "{driver}");
        // actix-web keeps connections alive for 5 seconds.
        assert!(asked.elapsed() < Duration::from_secs(3), "{driver}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempdir().expect("a temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound");
    let port = addr.port().to_string();
    fails(
        dir.path(),
        &["--port", &port],
        &format!("cannot listen on {addr}"),
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("readable").count(),
        0,
        "no database was made"
    );
}

#[test]
fn databases_that_cannot_be_used_are_named() {
    let dir = tempdir().expect("a temporary folder");
    std::fs::write(
        dir.path().join("text.db"),
        "this is no database, it only looks like one",
    )
    .expect("writable");
    std::fs::create_dir(dir.path().join("folder.db")).expect("writable");
    for (url, part) in [
        ("sqlite://text.db", "cannot use database file text.db"),
        ("sqlite://folder.db", "folder.db"),
        ("sqlite://missing/slackir.db", "missing/slackir.db"),
        ("mysql://localhost/x", "not supported"),
        ("mysql://me:s3cret@localhost/x", "scheme \"mysql\""),
        ("sqlite://file:x?mode=memory", "not supported"),
        ("sqlite://chat.db?mode=ro", "the URL says mode=ro"),
        (
            "sqlite://chat.db?mode=rw",
            "there is no database file chat.db",
        ),
        ("sqlite://chat.db?vfs=memdb", "its parameter \"vfs\""),
        ("host=localhost password=s3cret", "not by key=value pairs"),
        ("postgres:me:s3cret@localhost/x", "scheme \"postgres\""),
        ("sqlite://:memory:", "not supported"),
        ("", "not supported"),
    ] {
        fails(dir.path(), &["--port", "0", "--database-url", url], part);
        fails(dir.path(), &["migrate", "--database-url", url], part);
    }
    assert!(!dir.path().join("chat.db").exists());
}

#[test]
fn a_sqlite_url_is_a_uri() {
    let dir = tempdir().expect("a temporary folder");
    for (url, file) in [
        ("sqlite://a.db?mode=rwc", "a.db"),
        ("sqlite://my%20chat.db", "my chat.db"),
        ("file:b%3Fc.db", "b?c.db"),
        ("d%20e.db", "d%20e.db"),
    ] {
        let migrated = run(&["migrate", "--database-url", url], dir.path());
        assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
        assert!(dir.path().join(file).exists(), "{url}");
    }
    let databases = std::fs::read_dir(dir.path()).expect("readable");
    let names = databases.map(|entry| entry.expect("readable").file_name());
    let names = names.filter(|name| name.to_string_lossy().ends_with(".db"));
    assert_eq!(names.count(), 4);
    // What may not be written can be read.
    let export = ["export", "--database-url", "sqlite://a.db?mode=ro"];
    assert_eq!(run(&export, dir.path()).status.code(), Some(0));
}

#[cfg(not(feature = "postgres"))]
#[test]
fn a_database_that_is_not_built_in_is_named() {
    let dir = tempdir().expect("a temporary folder");
    let url = "postgres://me:s3cret@localhost/x";
    let part = "without PostgreSQL: build it with the feature postgres";
    fails(dir.path(), &["migrate", "--database-url", url], part);
}

#[actix_web::test]
async fn a_database_has_one_server() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &[]);
    fails(dir.path(), &["--port", "0"], "in use by another slackir");
    server.kill();
    let _again = Process::start(&dir, &[]);
}

#[test]
fn help_shows_every_default() {
    let dir = tempdir().expect("a temporary folder");
    let output = run(&["--help"], dir.path());
    let help = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        !help.contains("s3cret"),
        "the environment may hold a password"
    );
    for part in [
        "[default: 4000]",
        "[default: sqlite://slackir.db]",
        "[default: 50]",
        "[env: PORT=]",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
}

#[test]
fn help_shows_no_password_of_the_environment() {
    let output = std::process::Command::new(program())
        .arg("--help")
        .env("DATABASE_URL", "postgres://ada:s3cret@db/chat")
        .output()
        .expect("the binary runs");
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("[env: DATABASE_URL]"), "{help}");
    assert!(!help.contains("s3cret"), "{help}");
}

#[test]
fn migrate_says_what_it_did_and_then_that_nothing_is_left() {
    let dir = tempdir().expect("a temporary folder");
    let migrate = || String::from_utf8(run(&["migrate"], dir.path()).stdout).expect("UTF-8");
    assert!(migrate().contains("Migrated"));
    assert_eq!(migrate(), "The database is up to date.\n");
}

#[test]
fn the_environment_of_a_server_concerns_only_who_starts_one() {
    let dir = tempdir().expect("a temporary folder");
    let bad_port = [("PORT", "abc")];
    for args in [
        &["migrate"][..],
        &["migrate", "--database-url", "sqlite://other.db"],
    ] {
        let output = run_with(args, dir.path(), &bad_port);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    for args in [&[][..], &["serve"], &["--history", "none"]] {
        let output = run_with(args, dir.path(), &bad_port);
        assert_ne!(output.status.code(), Some(0));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("--port"), "{args:?}: {stderr}");
    }
    let named = [("DATABASE_URL", "sqlite://named.db")];
    assert_eq!(
        run_with(&["migrate"], dir.path(), &named).status.code(),
        Some(0)
    );
    assert!(
        dir.path().join("named.db").exists(),
        "its own it still reads"
    );
}

/// Requirement 174.
#[test]
fn tokens_are_phoenix_tokens() {
    let dir = tempdir().expect("a temporary folder");
    let secret = "kjoy3o1zeidquwy1398juxzldjlksahdk3";
    let token = |args: &[&str]| {
        let key = ["--secret-key-base", secret, "--salt", "user auth"];
        let output = run(
            &[&["token"], &args[..1], &key, &args[1..]].concat(),
            dir.path(),
        );
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    // Signed by plug_crypto in 2020.
    let phoenix = "SFMyNTY.g2gDbQAAAAd1c2VyLTQybgYAAIBuh3QBYgABUYA.IrXNAt4NJJrKQgNqmFlRSUITl_alS_OO2nEBAAU1fIg";
    assert_eq!(token(&["verify", phoenix]).0, Some(1), "it has expired");
    let verify = ["token", "verify", "--secret-key-base", secret, "x"];
    let said = run(&verify, dir.path()).stderr;
    assert_eq!(
        String::from_utf8_lossy(&said),
        "slackir: the token is invalid\n"
    );
    let long = ["verify", "--max-age", "300000000", phoenix];
    assert_eq!(token(&long), (Some(0), "\"user-42\"".to_owned()));
    let (code, signed) = token(&["sign", r#"{"id":7}"#]);
    assert_eq!(code, Some(0));
    assert_eq!(
        token(&["verify", &signed]),
        (Some(0), r#"{"id":7}"#.to_owned())
    );
}
