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
        ("port = [1]", "port: must be a number, not an array"),
        ("host = 4", "host: must be a string, not an integer"),
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
            "x: there is no such setting; there are host, port, database_url,",
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
    let config = serve(&file, &[]);
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

/// The error of a file.
fn problem(file: &str) -> String {
    match load(file, &[]) {
        Err(CliError::File(error)) => error.to_string(),
        other => panic!("{file:?} is refused, got {other:?}"),
    }
}

#[test]
fn mistakes_in_rules_are_one_line() {
    for (rule, expected) in [
        (
            "on.say = { stamp = { id = \"{usr.id}\" } }",
            "unknown variable",
        ),
        ("on.say = { stamp = \"x\" }", "must be a table"),
        (
            "on.say = { require = { a = \"text\" } }",
            "must begin with string",
        ),
        ("on.say = { as = \"phx_reply\" }", "events of the protocol"),
        (
            "on.say = { to = \"everybody\" }",
            "\"everybody\" must be \"all\"",
        ),
        (
            "limit = { user = \"often\" }",
            "must be a number and a time of at most a day",
        ),
        ("limit = { member = \"1/s\" }", "unknown field `member`"),
        (
            "on.say = { refuse = { a = 1 } }",
            "\"refuse\" answers a payload that \"require\" refuses",
        ),
        (
            "on.say = { older = true, reply = true }",
            "\"older\" answers with saved messages",
        ),
        (
            "on.say = { older = { after = 1 } }",
            "unknown field `after`",
        ),
        (
            "presence = { key = \"a\", entry = { metas = 1 } }",
            "presence.entry: \"metas\" has the metas",
        ),
        (
            "join.match = { \"{user.id}\" = 1 }",
            "the name of a value, without braces",
        ),
        (
            "on.say = { rate = \"often\" }",
            "must be a number and a time",
        ),
        (
            "on.say = { ignore = true, reply = true }",
            "\"ignore\" does nothing",
        ),
        (
            "on.say = { hook = true }",
            "line 1: [[rooms]]: \"hook\" needs the section [hook]",
        ),
        ("join.hook = true", "needs the section [hook]"),
        (
            "on.say = { hook = true, ignore = true }",
            "\"hook\" asks about the event",
        ),
        (
            "on.say = { hook = true, error = \"no\" }",
            "\"hook\" asks about the event",
        ),
        (
            "on.say = { presence = \"track\" }",
            "the room has no [rooms.presence]",
        ),
        ("on.say = {}\nevents = [\"say\"]", "has a rule in \"on\""),
        (
            "presence = { key = \"{user.id}\", at = \"say\" }",
            "the room has no event \"say\"",
        ),
        (
            "join = { match = { \"payload.x\" = 1 } }",
            "unknown variable",
        ),
        (
            "announce = [{ at = \"noon\", event = \"x\" }]",
            "must be \"join\" or \"leave\"",
        ),
        ("other_events = \"hook\"", "needs the section [hook]"),
        (
            "tell = [\"left\"]",
            "line 1: [[rooms]]: \"tell\" needs the section [hook]",
        ),
        ("tell = []", "must name at least one kind of notice"),
        ("tell = [\"left\", \"left\"]", "\"left\" is there twice"),
        (
            "tell = [\"gone\"]",
            "unknown variant `gone`, expected one of `message`",
        ),
        (
            "on.say = { store = false }\ntell = [\"message\"]",
            "tell: \"message\" is about saved messages, and the room saves none",
        ),
        (
            "on.say = { as = \"presence_diff\" }",
            "an event that the server itself sends",
        ),
        (
            "presence = { key = \"{user.id}\", state_event = \"phx_state\" }",
            "events of the protocol",
        ),
        (
            "presence = { key = \"{user.id}\", state_event = \"messages_history\" }",
            "is the history_event",
        ),
        (
            "presence = { key = \"{payload.id}\" }",
            "a join has no {payload}",
        ),
        (
            "join = { reply = \"{token.id}\" }",
            "join: {token} is there with \"token\" alone",
        ),
        (
            "join = { match = { \"topic.1\" = \"{token.room}\" } }",
            "join: {token} is there with \"token\" alone",
        ),
        (
            "join = { token = {} }",
            "it needs one of phoenix_token and jwt",
        ),
        (
            "join = { token = { jwt = { algorithms = [\"RS256\"] } } }",
            "it needs one of secret_env",
        ),
        (
            "join.token.phoenix_token = {}\non.say = { stamp = { id = \"{token.id}\" } }",
            "unknown variable",
        ),
        ("on.say = { set = { last = \"{id}\" } }", "unknown variable"),
        (
            "on.say = { to = { \"user.id\" = 7 }, store = true }",
            "\"store\" keeps a message for all",
        ),
        (
            "on.say = { to = \"others\", topic = \"b\" }",
            "of whom \"to\" knows neither",
        ),
        (
            "on.say = { topic = \"b:{payload.to}\", as = \"said\" }",
            "no room lists \"said\" in \"accepts\"",
        ),
        ("accepts = [\"phx_join\"]", "events of the protocol"),
        ("history_item = { at = \"{now.ms}\" }", "unknown variable"),
        (
            "history_events = [\"said\"]",
            "the room saves no event \"said\"",
        ),
        (
            "history = \"per_event\"\nhistory_item = { id = \"{id}\" }",
            "\"per_event\" sends messages as they are",
        ),
    ] {
        let file = format!("[[rooms]]\ntopics = \"a\"\n{rule}");
        let problem = problem(&file);
        assert!(problem.contains(expected), "{rule}: {problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
    let problem = problem("[identity]\nfields = { id = \"{payload.id}\" }");
    assert!(
        problem.contains("line 2: fields: id: {payload.id}: unknown variable"),
        "{problem}"
    );
}

#[test]
fn the_tokens_of_the_api_are_its_own_or_those_of_the_identity() {
    let jwt = |key: &str| format!("jwt = {{ algorithms = [\"HS256\"], secret_file = \"{key}\" }}");
    let role = "[api]\nclaim = \"role\"\nvalues = [\"service_role\"]";
    let identity = format!("[identity]\n{}", jwt("clients"));
    let of = |file: &str| serve(file, &[]).api_jwt.expect("configured").jwt;
    let clients = of(&format!("{role}\n{identity}"));
    assert_eq!(of(&format!("{role}\n{}", jwt("clients"))), clients);
    let programs = of(&format!("{role}\n{}\n{identity}", jwt("programs")));
    assert_ne!(programs, clients);
    for (api, expected) in [
        (
            role,
            "line 1: [api]: it needs a jwt, its own or that of [identity]",
        ),
        ("[api]\nclaim = \"role\"", "missing field `values`"),
        (
            "[api]\nclaim = \"\"\nvalues = [\"x\"]",
            "claim: must not be empty",
        ),
        ("[api]\nclaim = \"role\"\nvalues = []", "at least one value"),
        ("[api]\nclaims = 1", "unknown field `claims`"),
        (
            "[api]\nclaim = \"role\"\nvalues = [\"x\"]\njwt = { algorithms = [\"HS256\"], secret_file = \"a\", close_after = \"1s\" }",
            "close_after: a request",
        ),
    ] {
        let problem = problem(api);
        assert!(problem.contains(expected), "{api}: {problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

#[test]
fn mistakes_in_the_hook_are_one_line() {
    for (hook, expected) in [
        ("", "missing field `url`"),
        ("url = \"http://a\"", "must have secret_env or secret_file"),
        (
            "url = \"http://a\"\nsecret_env = \"A\"\nsecret_file = \"b\"",
            "line 1: [hook]: must have one of secret_env and secret_file",
        ),
        (
            "url = \"ftp://a\"",
            "line 2: url: must be a URL that begins with http",
        ),
        ("url = \"a:4001\"", "must be a URL that begins with http"),
        (
            "url = \"http://a\"\ntell_url = \"a\"",
            "line 3: tell_url: must be a URL that begins with http",
        ),
        ("url = \"http://me:s3cret@a\"", "neither user nor password"),
        (
            "timeout = \"2\"",
            "timeout: \"2\" must be a whole number with ms, s or m",
        ),
        ("timeout = \"0s\"", "more than 0"),
        ("timeout = \"2m\"", "at most a minute"),
        ("deny_cache = \"2h\"", "deny_cache: \"2h\" must be"),
        ("max_in_flight = 0", "must be a number from 1 to 10000"),
        ("headers = [\"a b\"]", "is no name of a header"),
        (
            "headers = [\"Content-Length\"]",
            "belongs to the connection",
        ),
        (
            "headers = [\"Sec-WebSocket-Key\"]",
            "belongs to the connection",
        ),
        ("secret = \"x\"", "unknown field `secret`"),
    ] {
        let problem = problem(&format!("[hook]\n{hook}"));
        assert!(problem.contains(expected), "{hook}: {problem}");
        assert!(
            !problem.contains('\n') && !problem.contains("s3cret"),
            "{problem}"
        );
    }
    for (identity, expected) in [
        (
            "max_connections = 3",
            "max_connections: it counts connections by user.id",
        ),
        (
            "fields = { id = 1 }\nmax_connections = 0",
            "max_connections",
        ),
        (
            "from = [\"params\", \"hook\"]",
            "from: \"hook\" needs the section [hook]",
        ),
        ("from = [\"hook\", \"params\"]", "it must be the last"),
    ] {
        let problem = problem(&format!("[identity]\n{identity}"));
        assert!(problem.contains(expected), "{identity}: {problem}");
    }
}

#[test]
fn a_hook_has_defaults_and_a_secret_of_32_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    let hook = |rest: &str| {
        let file = file.to_str().expect("UTF-8");
        let text = format!("[hook]\nurl = \"https://a/b\"\nsecret_file = {file:?}\n{rest}");
        serve(&text, &[]).hook.expect("a hook")
    };
    let defaults = hook("");
    assert_eq!(defaults.timeout, Duration::from_secs(2));
    assert_eq!(
        (defaults.max_in_flight, defaults.deny_cache),
        (64, Duration::ZERO)
    );
    assert_eq!(defaults.tell_url(), &defaults.url);
    let told = hook("tell_url = \"http://b/c\"");
    assert_eq!(told.tell_url().as_str(), "http://b/c");
    let own = hook("timeout = \"500ms\"\nheaders = [\"Cookie\"]\ndeny_cache = \"1m\"");
    assert_eq!(own.timeout, Duration::from_millis(500));
    assert_eq!(
        (own.headers, own.deny_cache),
        (vec!["cookie".to_owned()], Duration::from_secs(60))
    );

    let error = defaults.secret().expect_err("no file").to_string();
    assert!(
        error.starts_with("[hook] secret_file: cannot read "),
        "{error}"
    );
    std::fs::write(&file, "short\n").expect("writable");
    let error = defaults.secret().expect_err("too short").to_string();
    assert_eq!(
        error,
        "[hook]: the secret has 5 bytes, it must have 32 or more"
    );
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").expect("writable");
    let secret = defaults.secret().expect("long enough");
    assert_eq!(secret, b"0123456789abcdef0123456789abcdef");
}

#[test]
fn mistakes_in_tokens_are_one_line() {
    const RS: &str = "algorithms = [\"RS256\"]";
    for (identity, expected) in [
        (
            "jwt = { secret_env = \"S\" }".to_owned(),
            "missing field `algorithms`",
        ),
        (
            format!("jwt = {{ {RS} }}"),
            "line 2: jwt: it needs one of secret_env",
        ),
        (
            format!("jwt = {{ {RS}, jwks_file = \"a\", public_key_file = \"b\" }}"),
            "jwt: only one of secret_env",
        ),
        (
            "jwt = { algorithms = [\"none\"], secret_env = \"S\" }".to_owned(),
            "unknown variant `none`, expected one of `HS256`",
        ),
        (
            "jwt = { algorithms = [], secret_env = \"S\" }".to_owned(),
            "jwt: algorithms: must name at least one",
        ),
        (
            "jwt = { algorithms = [\"HS256\", \"RS256\"], secret_env = \"S\" }".to_owned(),
            "jwt: algorithms: RS256 needs a public key",
        ),
        (
            "jwt = { algorithms = [\"HS256\"], public_key_file = \"a\" }".to_owned(),
            "jwt: algorithms: HS256 needs a secret",
        ),
        (
            format!("jwt = {{ {RS}, jwks_file = \"a\", previous_secret_env = \"S\" }}"),
            "jwt: previous_secret_env: there is no secret",
        ),
        (
            format!("jwt = {{ {RS}, jwks_url = \"https://id.test/jwks\", issuer = \"i\" }}"),
            "jwt: jwks_url: it needs issuer and audience",
        ),
        (
            format!("jwt = {{ {RS}, jwks_url = \"http://id.test/jwks\" }}"),
            "jwks_url: must begin with https://",
        ),
        (
            format!("jwt = {{ {RS}, jwks_file = \"a\", leeway = \"soon\" }}"),
            "leeway: \"soon\" must be a whole number with s, m, h or d",
        ),
        (
            format!("jwt = {{ {RS}, jwks_file = \"a\", issuer = \"\" }}"),
            "must be a string or a list of strings",
        ),
        (
            format!("jwt = {{ {RS}, jwks_file = \"a\" }}\nfrom = [\"params\"]"),
            "\"jwt\" and the key jwt belong together",
        ),
        (
            format!("jwt = {{ {RS}, jwks_file = \"a\" }}\nphoenix_token = {{}}"),
            "each needs a \"param\" of its own",
        ),
        (
            "fields = { id = \"{token.sub}\" }".to_owned(),
            "{token} is there with phoenix_token or jwt alone",
        ),
    ] {
        let problem = problem(&format!("[identity]\n{identity}"));
        assert!(problem.contains(expected), "{identity}: {problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

/// serde alone would read an array as the fields of a struct, in their order.
#[test]
fn an_array_is_no_table() {
    for file in [
        "rooms = [[\"room:*\"]]",
        "identity = [[\"params\"]]",
        "hook = [\"http://127.0.0.1/\"]",
        "[[rooms]]\ntopics = \"a\"\n[[rooms.presence]]\nkey = \"x\"",
        "[[rooms]]\ntopics = \"a\"\non.say = [{ body = \"string\" }]",
        "[[rooms]]\ntopics = \"a\"\njoin = [{}]",
        "[[rooms]]\ntopics = \"a\"\nfields = [\"a\", \"b\", \"c\"]",
        "[[rooms]]\ntopics = \"a\"\nretention = [\"1d\"]",
        "[[rooms]]\ntopics = \"a\"\nlimit = [\"1/s\"]",
        "[[rooms]]\ntopics = \"a\"\nannounce = [[\"join\", \"hi\"]]",
        "[[rooms]]\ntopics = \"a\"\njoin.token = [{}]",
        "[identity]\nphoenix_token = [\"token\"]",
        "[identity]\njwt = [\"jwt\"]",
    ] {
        let problem = problem(file);
        assert!(problem.contains("expected a table"), "{file}: {problem}");
    }
}
