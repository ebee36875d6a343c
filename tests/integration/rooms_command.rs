//! `slackir rooms`: configurations explained and tried without a server.

use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::cli::fails;
use crate::support::masked::masked;
use crate::support::process::run;

/// A file of the package.
fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The standard output of `slackir rooms`, which must succeed.
fn rooms(args: &[&str], dir: &Path) -> String {
    let output = run(&[&["rooms"], args].concat(), dir);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    assert_eq!(stderr, "", "{args:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn frontends_are_explained_in_words() {
    let dir = tempdir().expect("a temporary folder");
    for name in [
        "oso",
        "learn_phoenix",
        "wishes",
        "chat_redux",
        "chat_presence",
        "members",
    ] {
        let file = |end: &str| package(&format!("tests/fixtures/rooms/{name}.{end}"));
        let config = file("toml").display().to_string();
        let words = std::fs::read_to_string(file("txt")).expect("the expected text");
        assert_eq!(rooms(&["explain", &config], dir.path()), words, "{name}");
    }
    let files = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(files, 0, "nothing was made");
}

#[test]
fn without_a_file_the_default_room_is_explained() {
    let dir = tempdir().expect("a temporary folder");
    let words = include_str!("../fixtures/rooms/default.txt");
    assert_eq!(rooms(&["explain"], dir.path()), words);
    let example = package("slackir.example.toml").display().to_string();
    assert_eq!(rooms(&["explain", &example], dir.path()), words);
}

#[test]
fn a_file_with_a_mistake_is_not_explained() {
    let dir = tempdir().expect("a temporary folder");
    let write = |text: &str| std::fs::write(dir.path().join("rooms.toml"), text).expect("writable");
    write("[[rooms]]\ntopics = \"room:*\"\n[[rooms]]\ntopics = \"room:a\"\n");
    let hidden = "rooms.toml, line 3: [[rooms]]: topics \"room:a\" is never reached";
    fails(dir.path(), &["rooms", "explain", "rooms.toml"], hidden);
    write("[[rooms]]\ntopics = \"room:*\"\non.x = { stamp = { a = \"{usr.id}\" } }\n");
    let unknown = "rooms.toml, line 3";
    fails(dir.path(), &["rooms", "explain", "rooms.toml"], unknown);
    let missing = "cannot read config file none.toml";
    fails(dir.path(), &["rooms", "explain", "none.toml"], missing);
}

#[test]
fn frames_are_tried_without_a_server() {
    let dir = tempdir().expect("a temporary folder");
    for name in ["trial", "wishes"] {
        let file = |end: &str| package(&format!("tests/fixtures/rooms/{name}.{end}"));
        let [config, frames] = ["toml", "frames"].map(|end| file(end).display().to_string());
        let output = rooms(&["try", &config, &frames], dir.path());
        let expected = std::fs::read_to_string(file("out")).expect("the expected output");
        assert_eq!(masked(&output), expected);
        let again = rooms(&["try", &config, &frames], dir.path());
        assert_eq!(
            masked(&again),
            expected,
            "the order is the same at each run"
        );
    }
    let files = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(files, 0, "nothing was made");
}

#[test]
fn a_trial_needs_a_valid_file_and_valid_frames() {
    let dir = tempdir().expect("a temporary folder");
    let write =
        |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("writable");
    write("rooms.toml", "[[rooms]]\ntopics = \"room:*\"\n");
    write("token.toml", "[identity]\nphoenix_token = {}\n");
    write("wrong.toml", "[[room]]\n");
    write("no.frames", "# nothing\nada say hi\n");
    write("empty.frames", "");
    for (args, part) in [
        (["rooms.toml", "none.frames"], "cannot read none.frames"),
        (
            ["rooms.toml", "no.frames"],
            "no.frames, line 2: \"ada say hi\" must be NAME connect",
        ),
        (
            ["wrong.toml", "empty.frames"],
            "wrong.toml, line 1: room: there is no such setting",
        ),
        (["token.toml", "empty.frames"], "it needs SECRET_KEY_BASE"),
    ] {
        fails(dir.path(), &[&["rooms", "try"], &args[..]].concat(), part);
    }
    let secret = ["--secret-key-base", "a secret of at least 20 bytes"];
    let args = [&["try", "token.toml", "empty.frames"], &secret[..]].concat();
    assert_eq!(rooms(&args, dir.path()), "");
}
