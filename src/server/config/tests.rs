#[cfg(all(feature = "load", target_os = "linux"))]
mod commands;
mod reference;
mod sections;
mod types;

use std::time::Duration;

use clap::CommandFactory;

use super::*;
use crate::pattern::TopicPattern;

/// What a file with this text gives, behind these arguments.
fn load(file: &str, args: &[&str]) -> Result<Cli, CliError> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("test.toml");
    std::fs::write(&path, file).expect("writable");
    let path = path.to_str().expect("UTF-8");
    Cli::load_from(&[&["slackir"], args, &["--config", path]].concat())
}

fn serve(file: &str, args: &[&str]) -> ServeConfig {
    load(file, args).expect("valid").serve
}

#[test]
fn a_cluster_takes_a_postgresql_by_each_of_its_schemes() {
    for (scheme, is_taken) in [
        ("postgres", true),
        ("postgresql", true),
        ("ecto", true),
        ("sqlite", false),
    ] {
        let file = format!(
            "redis_url = \"redis://127.0.0.1\"\ndatabase_url = \"{scheme}://ada@host/chat\""
        );
        assert_eq!(
            serve(&file, &[]).check_cluster().is_ok(),
            is_taken,
            "{scheme}"
        );
    }
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn flags_work_with_and_without_the_subcommand() {
    let bare = Cli::parse_from(["slackir", "--port", "5", "--idle-timeout", "0.5"]);
    assert_eq!(bare.serve.port, 5);
    assert_eq!(bare.serve.idle_timeout, Duration::from_millis(500));
    let named = Cli::parse_from(["slackir", "serve", "--port", "6", "--history", "per_event"]);
    let Some(Command::Serve(serve)) = named.command else {
        panic!("serve is a subcommand");
    };
    assert_eq!((serve.port, serve.history), (6, History::PerEvent));
    assert_eq!(serve.rooms, [RoomConfig::default()]);
}

#[test]
fn bad_values_are_refused() {
    for bad in [
        ["--port", "70000"],
        ["--history-limit", "0"],
        ["--history-limit", "20000"],
        ["--history", "all"],
        ["--workers", "0"],
        ["--idle-timeout", "-1"],
        ["--host", "nowhere"],
        ["--persist", "maybe"],
        ["--durability", "often"],
    ] {
        assert!(
            Cli::try_parse_from(["slackir"].iter().chain(&bad)).is_err(),
            "{bad:?}"
        );
    }
}

#[test]
fn a_file_holds_every_kind_of_setting_and_flags_win_over_it() {
    let file = r#"
        host = "::1"
        port = 0x10
        idle_timeout = 1.5
        drain_batch = 1_000
        history = "reply"
        durability = "strict"
        static_dir = "frontend"
        workers = 3
        database_url = "sqlite://other.db"
    "#;
    let config = serve(file, &["--history", "none"]);
    assert_eq!(
        (config.host, config.port),
        ([0, 0, 0, 0, 0, 0, 0, 1].into(), 16)
    );
    assert_eq!(config.idle_timeout, Duration::from_millis(1_500));
    assert_eq!(config.drain_batch, 1_000);
    assert_eq!(config.history, History::None);
    assert_eq!(config.durability, Durability::Strict);
    assert_eq!(config.static_dir, Some("frontend".into()));
    assert_eq!(config.workers, Some(3));
    assert_eq!(config.database.database_url, "sqlite://other.db");
    assert_eq!(config.rooms, [RoomConfig::default()]);

    let Some(Command::Serve(named)) = load(file, &["serve", "--port", "7"])
        .expect("valid")
        .command
    else {
        panic!("serve is a subcommand");
    };
    assert_eq!((named.port, named.drain_batch), (7, 1_000));
    let Some(Command::Migrate(migrate)) = load(file, &["migrate"]).expect("valid").command else {
        panic!("migrate is a subcommand");
    };
    assert_eq!(migrate.database.database_url, "sqlite://other.db");
}

#[test]
fn localhost_is_an_address() {
    for (host, address) in [
        ("localhost", "127.0.0.1"),
        ("LOCALHOST", "127.0.0.1"),
        ("[::1]", "::1"),
        ("0.0.0.0", "0.0.0.0"),
    ] {
        let config = serve(&format!("host = {host:?}"), &[]);
        assert_eq!(config.host.to_string(), address, "{host}");
    }
}

#[test]
fn an_error_of_a_value_names_its_place_in_the_file_if_it_stands_there() {
    let file = "port = 5\n\ncheck_origin = \"x\"\nsecret_key_base = \"y\"";
    let cli = load(file, &["--port", "6"]).expect("valid so far");
    let origin = cli
        .file_lines
        .locate("check_origin", "--check-origin: x is none");
    assert!(
        origin.ends_with("test.toml, line 3: check_origin: x is none"),
        "{origin}"
    );
    let secret = cli
        .file_lines
        .locate("secret_key_base", "SECRET_KEY_BASE: too short");
    assert!(
        secret.ends_with("line 4: secret_key_base: too short"),
        "{secret}"
    );
    for (setting, error) in [("port", "cannot listen"), ("log", "--log: no level")] {
        assert_eq!(cli.file_lines.locate(setting, error), error);
    }
    // A command has the settings that it knows.
    let migrate = load("log = \"warn\"\ndatabase_url = \"y\"", &["migrate"]).expect("valid");
    assert!(
        migrate
            .file_lines
            .locate("database_url", "z")
            .contains("line 2")
    );
    assert_eq!(migrate.file_lines.locate("log", "z"), "z");
}

#[test]
fn help_is_for_people() {
    let mut command = Cli::command();
    command.build();
    let mut commands = vec![command];
    while let Some(mut command) = commands.pop() {
        let help = command.render_long_help().to_string();
        for code in ["[`", "`]", "crate::", "]("] {
            assert!(!help.contains(code), "{code} in {help}");
        }
        commands.extend(command.get_subcommands().cloned());
    }
}

#[test]
fn rooms_of_a_file_override_the_defaults() {
    let file = r#"
        [[rooms]]
        topics = "elixirbridge"
        events = ["new_message"]
        history = "per_event"
        history_limit = 7
        history_event = "old_messages"
        resume_limit = 0
        max_message_bytes = 40_000
        changes = true
        fields = { name = "user", message = "body" }
        retention = { max_age = "30d", max_messages = 5 }

        [[rooms]]
        topics = "elixir*"
        retention.max_age = "90m"
    "#;
    let elixirbridge = RoomConfig {
        topics: TopicPattern::new("elixirbridge"),
        events: Some(vec!["new_message".to_owned()]),
        history: Some(History::PerEvent),
        history_limit: Some(7),
        history_event: "old_messages".to_owned(),
        resume_limit: 0,
        max_message_bytes: 40_000,
        changes: true,
        fields: Fields {
            name: "user".to_owned(),
            message: "body".to_owned(),
            ..Fields::default()
        },
        retention: RetentionConfig {
            max_age: Some(Duration::from_secs(30 * 24 * 3600)),
            max_messages: Some(5),
        },
        ..RoomConfig::default()
    };
    let others = RoomConfig {
        topics: TopicPattern::new("elixir*"),
        retention: RetentionConfig {
            max_age: Some(Duration::from_secs(90 * 60)),
            max_messages: None,
        },
        ..RoomConfig::default()
    };
    assert_eq!(serve(file, &[]).rooms, [elixirbridge, others]);
}

#[test]
fn what_is_wrong_with_a_file_is_told_in_one_line() {
    for (file, wanted) in [
        (
            "port = 70000",
            "line 1: port: \"70000\" is not valid: 70000 is not in 0..=65535",
        ),
        (
            "\nport = \"80\"",
            "line 2: port: must be a number, not a string",
        ),
        (
            "host = \"here\"",
            "host: \"here\" is not valid: must be an IP address, such as 0.0.0.0, or localhost",
        ),
        (
            "history = \"all\"",
            "\"all\" is not one of none, messages_history, per_event, reply",
        ),
        (
            "history_limit = 0",
            "history_limit: \"0\" is not valid: must be a whole number",
        ),
        ("idle_timeout = -1", "idle_timeout: \"-1\" is not valid"),
        ("static_dir = \"\"", "static_dir: \"\" must not be empty"),
        (
            "prot = 1",
            "prot: there is no such setting; did you mean port?",
        ),
        ("idle-timeout = 1", "idle-timeout: there is no such setting"),
        (
            "x = 1",
            "x: there is no such setting; there are host, port, tls_cert, tls_key,",
        ),
        (
            "histroy_limit = 1",
            "histroy_limit: there is no such setting; did you mean history_limit?",
        ),
        (
            "config = \"other.toml\"",
            "config: there is no such setting",
        ),
        ("[serve]\nport = 1", "serve: there is no such setting"),
        ("port = 1\nport = 2", "line 2: port: duplicate key"),
        ("host = \"s3cret", "line 1: host: "),
        ("port", "line 1: port: "),
        (
            "rooms = 5",
            "rooms: invalid type: integer `5`, expected a sequence",
        ),
        (
            "[[rooms]]\nhistory = \"none\"",
            "line 1: [[rooms]]: missing field `topics`",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\ntopic = 1",
            "line 3: topic: unknown field `topic`, expected one of",
        ),
        (
            "[[rooms]]\ntopics = \"a*b\"",
            "line 2: topics: '*' may only stand at the end",
        ),
        (
            "[[rooms]]\ntopics = \"dm:{a}:{b}\"",
            "line 2: topics: \"dm:{a}:{b}\": topics have no variables",
        ),
        (
            "socket_paths = \"/a,b\"",
            "must be a path, such as /api/socket",
        ),
        (
            "[[rooms]]\ntopics = \"\"",
            "topics: must have 1 to 255 bytes",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nevents = []",
            "line 3: events: must name at least one event",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nevents = [\"phx_join\"]",
            "events: names that begin with phx_",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nhistroy = \"none\"",
            "did you mean `history`?",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nevents = [\"shout\", \"shout\"]",
            "line 3: events: \"shout\" is there twice",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nevents = [\"shout\",\n\"messages_history\"]",
            "\"messages_history\" is the name of an event that the server itself sends",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nevents = [\"message_updated\"]",
            "\"message_updated\" is the name of an event that the server itself sends",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nevents = [\"presence_diff\"]",
            "\"presence_diff\" is the name of an event that the server itself sends",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nhistory_event = \"presence_state\"",
            "line 3: history_event: \"presence_state\" is the name of an event that the server itself sends",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nevents = [\"old\"]\nhistory_event = \"old\"",
            "line 1: [[rooms]]: \"old\" is the history_event of this room",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nfields = { name = \"message\" }",
            "line 3: fields: name is \"message\", message \"message\"",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nfields.client_ref = \"name\"",
            "each must be another member of the payload",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention = {}",
            "line 3: retention: must have max_age, max_messages or both",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nhistory = \"all\"",
            "history: unknown variant `all`, expected one of `none`",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nhistory_limit = 20000",
            "history_limit: must be at most 10000",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nhistory_limit = -1",
            "history_limit: must be a whole number",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nresume_limit = -1",
            "resume_limit: ",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nchanges = 1",
            "changes: invalid type: integer `1`, expected a boolean",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nfields = { user = \"x\" }",
            "fields: unknown field `user`",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention = { max_age = \"1y\" }",
            "line 3: retention: max_age: \"1y\" must be a whole number with s, m, h or d",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention.max_age = \"\"",
            "max_age: \"\" must be a whole number with s, m, h or d",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention.max_age = \"+1d\"",
            "max_age: \"+1d\" must be a whole number",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention.max_age = \"30 é\"",
            "max_age: \"30 é\" must be a whole number",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention.max_age = 30",
            "max_age: invalid type: integer `30`, expected a string",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention.max_age = \"0d\"",
            "max_age: \"0d\" must be more than 0 and at most a hundred years",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention.max_age = \"99999999999999999999d\"",
            "must be more than 0 and at most a hundred years",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention = { max_messages = 0 }",
            "retention: max_messages: 0 must be a number from 1 to 4294967295",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention = { max_messages = -1 }",
            "max_messages: -1 must be a number from 1",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nretention = { days = 3 }",
            "retention: unknown field `days`, expected `max_age` or `max_messages`",
        ),
        (
            "[[rooms]]\ntopics = \"a:*\"\n[[rooms]]\ntopics = \"a:b\"",
            "line 3: [[rooms]]: topics \"a:b\" is never reached: \"a:*\" on line 1 matches first",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\n[[rooms]]\ntopics = \"a\"",
            "topics \"a\" is never reached",
        ),
        (
            "[[rooms]]\ntopics = \"*\"\n[[rooms]]\ntopics = \"a*\"",
            "topics \"a*\" is never reached",
        ),
    ] {
        let error = match load(file, &[]) {
            Err(CliError::File(error)) => error.to_string(),
            other => panic!("{file:?} is refused, got {other:?}"),
        };
        assert!(error.contains("test.toml, line "), "{error}");
        assert!(error.contains(wanted), "{file:?} says {wanted:?}: {error}");
        assert!(
            !error.contains('\n') && !error.contains("s3cret"),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Cli::load_from(&["slackir", "--config", "no/such.toml"]).expect_err("no such file");
    assert!(
        error
            .to_string()
            .starts_with("cannot read config file no/such.toml: "),
        "{error}"
    );
}

const EXAMPLE: &str = include_str!("../../../slackir.example.toml");

/// The example with all of its settings in force.
fn example() -> String {
    let setting = |line: &'static str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with([' ', '#']) => setting,
        _ => line,
    };
    EXAMPLE.lines().map(setting).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_changes_nothing_as_it_is() {
    let written: toml::Table = toml::from_str(EXAMPLE).expect("TOML");
    assert!(written.is_empty());
}

#[test]
fn the_example_names_every_setting_with_its_default() {
    let file = example();
    // A secret may not be set beside its file.
    let is_file = |line: &&str| line.contains("_file = \"/run/secrets/");
    let lines: Vec<_> = file.lines().filter(|line| !is_file(line)).collect();
    let config = serve(&lines.join("\n"), &[]);
    let written: toml::Table = toml::from_str(&file).expect("TOML");
    for arg in Cli::command().get_arguments() {
        let Some(flag) = arg.get_long().filter(|flag| *flag != "config") else {
            continue;
        };
        let shown = written.get(&flag.replace('-', "_"));
        let shown = shown.unwrap_or_else(|| panic!("{flag} is in the example"));
        let shown = match shown {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Array(_) => continue,
            other => panic!("{flag} is {other:?}"),
        };
        let default = arg.get_default_values().first();
        if let Some(default) = default {
            assert_eq!(default.to_string_lossy(), shown, "{flag}");
        }
    }
    let default = RoomConfig {
        events: Some(vec!["shout".to_owned()]),
        history: Some(History::MessagesHistory),
        history_limit: Some(50),
        ..RoomConfig::default()
    };
    assert_eq!(config.rooms[0], default);
    assert_eq!(config.rooms.len(), 7);
}

#[test]
fn the_example_names_every_field_of_a_room() {
    // The error lists them.
    let unknown = toml::from_str::<RoomConfig>("nothing = 1").expect_err("there is no such field");
    let fields: Vec<_> = unknown.message().split('`').skip(3).step_by(2).collect();
    assert!(fields.contains(&"topics"), "{unknown}");
    let written: toml::Table = toml::from_str(&example()).expect("TOML");
    let rooms = written["rooms"].as_array().expect("a list");
    for field in fields {
        let is_written = rooms.iter().any(|room| room.get(field).is_some());
        assert!(is_written, "{field} is in the example");
    }
}
