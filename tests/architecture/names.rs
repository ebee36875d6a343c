//! What only some modules may say: names, and the array of the protocol.

use crate::{code, files, without_tests};

/// The rooms that speak to the database.
const STORE: &[&str] = &[
    "store/backend",
    "store/feed",
    "store/mod",
    "store/numbers",
    "store/reader",
    "store/schema",
    "store/servers",
    "store/tables",
    "store/upkeep",
    "store/write",
];

/// Names that only some modules may speak.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("diesel", STORE),
    ("r2d2", STORE),
    (
        "actix_web",
        &[
            "transport",
            "endpoint",
            "shutdown",
            "server/page",
            "server/admin",
            "server/api",
            "server/dashboard",
            "server/http_metrics",
            "server/methods",
            "server/run",
            "server/program",
            "main",
        ],
    ),
    ("actix_ws", &["transport"]),
    ("close_code", &["transport"]),
    ("awc", &["server/commands", "server/hook", "server/jwks"]),
    (
        "rustls",
        &[
            "cluster",
            "server/certificates",
            "server/commands",
            "server/hook",
            "server/jwks",
            "server/load",
            "server/probe",
            "server/tls",
            "transport",
        ],
    ),
    // telemetry names the sources of log lines.
    ("actix_http", &["transport", "endpoint", "server/telemetry"]),
    ("actix_service", &["transport", "endpoint"]),
    ("actix_codec", &["transport"]),
    ("::redis", &["cluster"]),
    ("tokio_rustls", &["cluster"]),
    ("indicatif", &["server/commands"]),
    ("instant_acme", &["server/certificates"]),
    ("listenfd", &["server/systemd"]),
    ("opentelemetry", &["server/traces"]),
    ("sd_notify", &["server/systemd"]),
    (
        "ring",
        &[
            "cluster",
            "server/certificates",
            "server/hook",
            "server/jwks",
            "server/jwt",
            "server/tls",
        ],
    ),
    // Of the cluster its tests alone: how many schedules, and a process of their own.
    ("std::env", &["cluster", "server/config"]),
    ("counter!", &["metrics"]),
    ("gauge!", &["metrics"]),
    ("histogram!", &["metrics"]),
];

#[test]
fn some_names_are_spoken_in_their_own_module_only() {
    for (module, path, text) in files("src") {
        for (name, modules) in ONLY_IN {
            let spoken = code(&text).any(|line| {
                line.match_indices(name).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                })
            });
            assert!(
                !spoken || modules.contains(&&*module),
                "{} names {name}",
                path.display()
            );
        }
    }
}

/// The length of the literal with quotes that `text` begins with; 0 if there is none.
fn literal(text: &str) -> usize {
    for (open, close) in [("r#\"", "\"#"), ("r##\"", "\"##"), ("r\"", "\"")] {
        if let Some(rest) = text.strip_prefix(open) {
            let end = rest.find(close).unwrap_or(rest.len());
            return (open.len() + end + close.len()).min(text.len());
        }
    }
    if let Some(quote) = ["'\"'", "'\\\"'"]
        .iter()
        .find(|quote| text.starts_with(**quote))
    {
        return quote.len();
    }
    let Some(rest) = text.strip_prefix('"') else {
        return 0;
    };
    let mut escaped = false;
    let end = rest.find(|c| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

/// The elements between an open bracket and its end.
fn elements(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut at) = (0, 0, 0);
    let mut found = Vec::new();
    while let Some(c) = text[at..].chars().next() {
        let here = at;
        at += literal(&text[here..]).max(c.len_utf8());
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push(text[begin..here].trim());
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[begin..here].trim());
                begin = at;
            }
            _ => {}
        }
    }
    found.retain(|element| !element.is_empty());
    found
}

/// Whether these are the parts of a message: the fourth is its event.
fn is_message(elements: &[&str]) -> bool {
    let event = |text: &str| {
        let names = ["phx_", "PHX_", "heartbeat", "HEARTBEAT"];
        names.iter().any(|name| text.contains(name)) || text.ends_with("event")
    };
    matches!(elements, [_, _, _, fourth, _] if event(fourth))
}

/// The places of `text` that write or read the array `[join_ref, ref, topic, event, payload]`.
fn arrays(text: &str) -> Vec<&str> {
    let begins = ["\"[\\\"", "\"[null,", "r#\"[\"", "r#\"[null,"];
    let mut found = Vec::new();
    let (mut at, mut before) = (0, ' ');
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let is_array = match c {
            // A call has parameters in any order.
            '(' if before.is_alphanumeric() || "_!".contains(before) => false,
            '(' | '[' => is_message(&elements(&rest[1..])),
            _ => begins.iter().any(|begin| rest.starts_with(begin)),
        };
        if is_array {
            found.extend(rest.lines().next());
        }
        at += literal(rest).max(c.len_utf8());
        before = c;
    }
    found
}

#[test]
fn the_array_of_the_protocol_is_found() {
    for code in [
        r#"json!([JOIN, JOIN, topic, "phx_join", join])"#,
        r#"let [_, reference, of_topic, event, payload] = &*parts else {"#,
        "let Ok((_, reference, _, event, payload)) = read(\"(\") else {",
        r#"format!("[\"1\",{payload}]")"#,
        "send(\"[null,\\\"h\\\",{}]\")",
    ] {
        assert_eq!(arrays(code).len(), 1, "{code}");
    }
    assert!(arrays("message(join_ref, reference, topic, event, payload)").is_empty());
}

/// The first invariant of ARCHITECTURE.md.
#[test]
fn only_the_serializer_knows_the_array_of_the_protocol() {
    for (module, path, text) in files("src") {
        if module == "serializer"
            || path
                .iter()
                .any(|part| part.to_string_lossy().starts_with("tests"))
        {
            continue;
        }
        let text: String = code(without_tests(&text)).collect::<Vec<_>>().join("\n");
        assert_eq!(arrays(&text), Vec::<&str>::new(), "{}", path.display());
    }
}
