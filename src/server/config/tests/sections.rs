//! Mistakes in `[[rooms]]`, `[identity]`, `[hook]` and `[api]`, each as one line.

use super::*;

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
            "jwt: previous_secret_env and previous_secret_file: there is no secret",
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

#[test]
fn a_mistake_of_form_names_the_form() {
    for (file, expected) in [
        (
            "[rooms.on.say]\nignore = true\n[[rooms]]\ntopics = \"a\"",
            "line 3: [[rooms]]: duplicate key; tables in it, such as [rooms.NAME], come after it",
        ),
        (
            "[[rooms]]\ntopics = \"a\"\nhistory = true",
            "line 3: history: must be a string",
        ),
    ] {
        let problem = problem(file);
        assert!(problem.contains(expected), "{file}: {problem}");
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
