//! `--config`: which settings win, and what a bad file gets.

use std::path::Path;

use tempfile::{TempDir, tempdir};

use crate::support::process::{Process, run, run_with};
use crate::support::tls::write_certificate;

/// A folder with this `slackir.toml`.
fn folder(text: &str) -> TempDir {
    let dir = tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("slackir.toml"), text).expect("writable");
    dir
}

/// The databases that lie in a folder.
fn databases(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).expect("readable");
    files
        .map(|file| file.expect("readable").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".db"))
        .collect()
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let in_env = ("DATABASE_URL", "sqlite://env.db");
    let by_flag = ["--database-url", "sqlite://flag.db"];
    for (flag, env, made) in [
        (&[][..], &[][..], "file.db"),
        (&[], &[in_env], "env.db"),
        (&by_flag, &[in_env], "flag.db"),
    ] {
        let dir = folder("database_url = \"sqlite://file.db\"");
        let args = [&["migrate", "--config", "slackir.toml"], flag].concat();
        let output = run_with(&args, dir.path(), env);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(databases(dir.path()), [made]);
    }
}

#[test]
fn the_environment_may_name_the_file_for_those_who_read_it() {
    let dir = folder("database_url = \"sqlite://file.db\"");
    let here = [("SLACKIR_CONFIG", "slackir.toml")];
    let migrated = run_with(&["migrate"], dir.path(), &here);
    assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
    assert_eq!(databases(dir.path()), ["file.db"]);

    let nowhere = [("SLACKIR_CONFIG", "nowhere.toml")];
    let refused = run_with(&["migrate"], dir.path(), &nowhere);
    assert_eq!(refused.status.code(), Some(2));
    let sign = [
        "token",
        "sign",
        "--secret-key-base",
        "a secret of twenty bytes",
        "7",
    ];
    let signed = run_with(&sign, dir.path(), &nowhere);
    assert_eq!(signed.status.code(), Some(0), "{signed:?}");
}

#[test]
fn a_bad_file_gets_one_line_and_nothing_is_started() {
    for (text, wanted) in [
        (
            "prot = 1",
            "slackir: slackir.toml, line 1: prot: there is no such setting; did you mean port?",
        ),
        (
            "\nport = \"x\"",
            "slackir: slackir.toml, line 2: port: must be a number, not a string",
        ),
        ("host = \"s3cret", "slackir: slackir.toml, line 1: host: "),
        (
            "[[rooms]]\ntopics = \"a*b\"",
            "slackir: slackir.toml, line 2: topics: '*' may only",
        ),
    ] {
        let dir = folder(text);
        let output = run(&["--config", "slackir.toml", "--port", "0"], dir.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text:?}: {stderr}");
        assert!(stderr.starts_with(wanted), "{wanted:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
        assert!(output.stdout.is_empty());
        assert!(databases(dir.path()).is_empty());
    }
    let dir = tempdir().expect("a temporary folder");
    let output = run(&["--config", "missing.toml"], dir.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    let line = "slackir: cannot read config file missing.toml: No such file or directory";
    assert!(stderr.starts_with(line), "{stderr}");
}

#[test]
fn a_value_that_proves_bad_when_it_is_used_is_found_in_the_file() {
    for (setting, wanted) in [
        ("check_origin = \"x\"", "check_origin: \"x\" is no origin"),
        ("static_dir = \"nowhere\"", "static_dir: static folder"),
        ("api_token = \"s3cret\"", "api_token: at least 16"),
        (
            "database_url = \"mysql://me:s3cret@db/x\"",
            "database_url: a database URL with scheme \"mysql\"",
        ),
    ] {
        let dir = folder(&format!("# a line\n{setting}\n"));
        let output = run(&["--config", "slackir.toml", "--port", "0"], dir.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let wanted = format!("slackir: slackir.toml, line 2: {wanted}");
        assert!(stderr.starts_with(&wanted), "{wanted:?}: {stderr}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }
    // What a flag says is not the file's fault.
    let dir = folder("check_origin = \"host\"");
    let args = [
        "--config",
        "slackir.toml",
        "--port",
        "0",
        "--check-origin",
        "x",
    ];
    let stderr = run(&args, dir.path()).stderr;
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(stderr.starts_with("slackir: --check-origin: "), "{stderr}");
}

/// The example's text with all its settings in force, without those whose keys begin like this.
fn example_in_force(without: &[&str]) -> String {
    let example = include_str!("../../slackir.example.toml");
    let in_force = example.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with([' ', '#']) => setting,
        _ => line,
    });
    let in_force = in_force.filter(|line| {
        // A secret may not be set beside its file.
        let is_secret = line.contains("_file = \"/run/secrets/");
        !is_secret && !without.iter().any(|key| line.starts_with(key))
    });
    in_force.collect::<Vec<_>>().join("\n")
}

#[cfg(all(feature = "postgres", feature = "acme"))]
#[test]
fn the_examples_values_of_acme_and_redis_are_valid() {
    let text = example_in_force(&["tls_", "nats_"]).replace(
        "database_url = \"sqlite://slackir.db\"",
        "database_url = \"postgres://127.0.0.1/slackir\"",
    );
    let dir = folder(&text);
    let shown = run(&["config", "show", "--config", "slackir.toml"], dir.path());
    let stderr = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success(), "{stderr}");
    let shown = String::from_utf8_lossy(&shown.stdout);
    for setting in ["acme_root = \"root.pem\"", "redis_prefix = \"slackir\""] {
        assert!(shown.contains(setting), "{setting} is in {shown}");
    }
}

#[test]
fn a_server_starts_with_the_examples_own_values() {
    // Another source of certificates may not be set beside `tls_cert`, and Redis and NATS are for servers on PostgreSQL.
    let dir = folder(&example_in_force(&[
        "acme",
        "redis_",
        "nats_",
        "phoenix_bridge",
    ]));
    std::fs::create_dir(dir.path().join("frontend")).expect("writable");
    std::fs::write(dir.path().join("hook.secret"), "x".repeat(32)).expect("writable");
    let issuer = include_str!("../fixtures/jwt/rsa.pem");
    std::fs::write(dir.path().join("issuer.pem"), issuer).expect("writable");
    write_certificate(dir.path());
    for (from, to) in [("cert.pem", "fullchain.pem"), ("key.pem", "privkey.pem")] {
        std::fs::rename(dir.path().join(from), dir.path().join(to)).expect("writable");
    }
    let server = Process::start(&dir, &["--config", "slackir.toml"]);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}
