use super::*;
use crate::pattern::TopicPattern;
use crate::server::config::RoomConfig;

fn explained(toml: &str) -> String {
    let config = ServeConfig::from_toml(toml);
    explain(&config.expect("a configuration"))
}

#[test]
fn warnings_name_what_a_client_can_claim() {
    let text = explained(
        r#"
        [identity]
        fields = { id = "{connect.id}", name = "ada" }
        require = ["id", "email"]
        [[rooms]]
        topics = "user:*"
        join = { match = { "topic.1" = "{user.id}", "user.role" = "admin" } }
        "#,
    );
    for warning in [
        "! A client can claim any id: nobody verifies its connect params.",
        "! Every client is refused: the identity has no email, and it is required.",
        "! The join depends on what a client can claim, so it keeps nobody out: id.",
        "! Saved whatever the payload holds, because no shape is required: shout.",
        "! The identity has no field of this name, so it is always null: role.",
    ] {
        assert!(text.contains(warning), "{warning}: {text}");
    }
    assert!(!text.contains("! Anybody may connect"), "{text}");
}

#[test]
fn a_signed_token_and_a_shape_leave_nothing_to_warn_of() {
    let text = explained(
        r#"
        secret_key_base = "a secret of at least 20 bytes"
        [identity]
        phoenix_token = { max_age = "14d" }
        fields = { id = "{token.id}" }
        max_connections = 5
        [[rooms]]
        topics = "room:*"
        limit = { user = "20/10s", topic = "200/s" }
        on.new_msg = { require = { body = "string 1..10" }, stamp = { by = "{user.id}" } }
        "#,
    );
    assert!(!text.contains('!'), "{text}");
    for sentence in [
        "counts for 14 days.",
        "A user (user.id) may have 5 connections; another one is refused (429).",
        "A user may send 20 messages in 10 seconds; more are refused (\"rate limited\").",
        "All members of a topic together may send 200 messages in 1 second;",
    ] {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
}

#[test]
fn json_web_tokens_are_explained_for_connections_and_joins() {
    let text = explained(
        r#"
        [identity]
        fields = { id = "{token.sub}" }
        [identity.jwt]
        algorithms = ["RS256", "ES256"]
        jwks_url = "https://id.example.com/jwks"
        issuer = "https://id.example.com"
        audience = ["chat", "mail"]
        [[rooms]]
        topics = "room:*"
        join.token.phoenix_token = { param = "ticket" }
        on.new_msg = { require = { body = "string 1..10" } }
        "#,
    );
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in [
        "by a JSON Web Token in the connect param \"token\", signed by RS256 or ES256.",
        "Its issuer must be https://id.example.com. Its audience must be chat or mail.",
        "is closed 25 seconds after the token's end.",
        "A join needs a valid Phoenix.Token in the join param \"ticket\".",
    ] {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
}

/// The file refuses it; a program can still build it.
#[test]
fn a_room_that_a_wider_one_hides_is_named() {
    let config = ServeConfig {
        rooms: ["room:*", "room:a"]
            .map(|topics| RoomConfig {
                topics: TopicPattern::new(topics),
                ..RoomConfig::default()
            })
            .to_vec(),
        ..ServeConfig::default()
    };
    let text = explain(&config);
    assert!(
        text.contains("! The topics room:a are never reached"),
        "{text}"
    );
}

#[test]
fn a_backend_is_named_where_it_is_asked() {
    let text = explained(
        r#"
        [hook]
        url = "http://127.0.0.1:4001"
        secret_env = "HOOK_SECRET"
        [identity]
        from = ["params", "hook"]
        fields = { id = "{connect.id}" }
        require = ["name"]
        [[rooms]]
        topics = "room:*"
        join.hook = true
        other_events = "hook"
        on.say = { hook = true, require = { body = "string" }, stamp = { name = "{user.name}" } }
        on.ask = { hook = true }
        tell = ["vacated", "message", "left"]
        "#,
    );
    for sentence in [
        "The backend of [hook] is asked about each of them",
        "The backend of [hook] is asked about each of these joins",
        "The backend of [hook] is asked first",
        "The backend of [hook] decides what it does. Only if that relays it:",
        "Any other event goes to the backend of [hook]",
        "The backend of [hook] is told, and not asked, about each saved message,",
    ] {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
    for warning in [
        "Every client is refused",
        "Anybody may connect",
        "always null",
        "without a token",
    ] {
        assert!(!text.contains(warning), "{warning}: {text}");
    }
}
