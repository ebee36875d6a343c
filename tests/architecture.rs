//! Keeps the import table of ARCHITECTURE.md true, and files readable.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which module of `src/` may name which others; `server/run` and `server/program` put everything together.
const MAY_USE: &[(&str, &[&str])] = &[
    ("admission", &["metrics", "notice", "rate"]),
    ("assigns", &[]),
    ("ban", &["metrics"]),
    ("client", &["admission"]),
    (
        "server/config",
        &[
            "admission",
            "pattern",
            "prefix",
            "server/jwt",
            "server/language",
        ],
    ),
    ("server/console", &[]),
    ("deflate", &["frame", "metrics", "rate"]),
    ("frame", &[]),
    ("lock", &[]),
    ("message", &[]),
    ("server/methods", &[]),
    ("metrics", &["lock", "pattern", "rate"]),
    ("notice", &["lock"]),
    ("prefix", &[]),
    ("pattern", &[]),
    ("rate", &["lock"]),
    ("revocation", &["metrics"]),
    ("server/telemetry", &["lock", "metrics", "server/config"]),
    ("token", &[]),
    ("trace", &["message"]),
    ("server/traces", &["metrics", "server/config", "trace"]),
    ("waker", &[]),
    ("serializer", &["frame", "message"]),
    ("session", &["token"]),
    ("budget", &["metrics"]),
    (
        "outbox",
        &["budget", "client", "deflate", "frame", "metrics", "waker"],
    ),
    // The leaves, and no topic: pubsub calls it, and is called back by a trait of the log's.
    (
        "log",
        &["budget", "lock", "message", "metrics", "pattern", "trace"],
    ),
    ("cluster", &["lock", "log", "metrics", "notice"]),
    (
        "pubsub",
        &[
            "cluster",
            "deflate",
            "frame",
            "lock",
            "log",
            "message",
            "metrics",
            "outbox",
            "pattern",
            "prefix",
            "serializer",
            "trace",
            "waker",
        ],
    ),
    ("flow", &["budget", "metrics", "pubsub", "rate", "waker"]),
    (
        "channel",
        &[
            "assigns",
            "budget",
            "client",
            "flow",
            "frame",
            "log",
            "message",
            "metrics",
            "outbox",
            "pubsub",
            "rate",
            "serializer",
            "trace",
            "waker",
        ],
    ),
    (
        "presence",
        &[
            "channel", "cluster", "lock", "message", "metrics", "notice", "pubsub",
        ],
    ),
    (
        "socket",
        &[
            "admission",
            "assigns",
            "ban",
            "channel",
            "client",
            "flow",
            "frame",
            "lock",
            "message",
            "metrics",
            "outbox",
            "pattern",
            "pubsub",
            "rate",
            "serializer",
            "token",
            "trace",
        ],
    ),
    (
        "transport",
        &[
            "admission",
            "assigns",
            "budget",
            "client",
            "deflate",
            "flow",
            "frame",
            "lock",
            "message",
            "metrics",
            "outbox",
            "pubsub",
            "serializer",
            "session",
            "socket",
            "token",
            "trace",
        ],
    ),
    (
        "endpoint",
        &[
            "admission",
            "assigns",
            "ban",
            "log",
            "message",
            "pubsub",
            "shutdown",
            "socket",
            "transport",
        ],
    ),
    (
        "prelude",
        &[
            "assigns", "channel", "endpoint", "log", "message", "presence", "pubsub", "socket",
        ],
    ),
    ("shutdown", &[]),
    (
        "testing",
        &[
            "assigns",
            "endpoint",
            "log",
            "message",
            "pubsub",
            "serializer",
            "socket",
            "transport",
        ],
    ),
    ("store/lock_file", &["store"]),
    ("store/schema", &[]),
    ("store/numbers", &["log"]),
    ("store/spool", &["log", "store/lock_file"]),
    (
        "store/backend",
        &[
            "metrics",
            "store",
            "store/lock_file",
            "store/schema",
            "store/spool",
        ],
    ),
    (
        "store/tables",
        &[
            "ban",
            "log",
            "pattern",
            "revocation",
            "store",
            "store/backend",
            "store/schema",
            "store/spool",
        ],
    ),
    ("store/options", &["store/spool", "store/tables"]),
    (
        "store/reader",
        &[
            "log",
            "message",
            "store",
            "store/backend",
            "store/schema",
            "store/tables",
        ],
    ),
    (
        "store/write",
        &[
            "lock",
            "log",
            "metrics",
            "notice",
            "store",
            "store/backend",
            "store/options",
            "store/spool",
            "store/tables",
        ],
    ),
    (
        "store/upkeep",
        &[
            "ban",
            "log",
            "metrics",
            "pattern",
            "pubsub",
            "revocation",
            "store",
            "store/backend",
            "store/schema",
            "store/tables",
        ],
    ),
    (
        "store/servers",
        &["metrics", "store", "store/backend", "store/tables"],
    ),
    (
        "store/feed",
        &["log", "message", "store", "store/backend", "store/tables"],
    ),
    (
        "server/told",
        &[
            "lock",
            "message",
            "metrics",
            "server/hook",
            "server/language",
            "store",
        ],
    ),
    (
        "server/rooms",
        &[
            "assigns",
            "ban",
            "channel",
            "client",
            "lock",
            "log",
            "message",
            "metrics",
            "pattern",
            "presence",
            "pubsub",
            "rate",
            "revocation",
            "server/config",
            "server/hook",
            "server/language",
            "server/told",
            "server/tokens",
            "socket",
            "token",
        ],
    ),
    (
        "server/tokens",
        &[
            "metrics",
            "revocation",
            "server/config",
            "server/jwks",
            "server/jwt",
            "server/language",
            "socket",
            "token",
        ],
    ),
    (
        "server/hook",
        &[
            "lock",
            "message",
            "metrics",
            "serializer",
            "server/config",
            "server/language",
            "trace",
        ],
    ),
    (
        "server/jwks",
        &["lock", "metrics", "server/jwt", "server/tls"],
    ),
    ("server/tls", &[]),
    ("server/jwt", &[]),
    (
        "server/language",
        &["message", "presence", "rate", "server/jwt"],
    ),
    ("server/page", &["server/methods"]),
    ("server/exporter", &["metrics"]),
    ("server/http_metrics", &["metrics"]),
    (
        "server/admin",
        &["endpoint", "server/exporter", "server/methods"],
    ),
    (
        "server/api",
        &[
            "ban",
            "endpoint",
            "log",
            "message",
            "metrics",
            "pattern",
            "presence",
            "pubsub",
            "rate",
            "revocation",
            "serializer",
            "server/rooms",
            "server/config",
            "server/jwt",
            "server/language",
            "server/methods",
            "server/sanctions",
            "server/telemetry",
            "server/tokens",
            "socket",
            "store",
            "token",
        ],
    ),
    ("server/probe", &["server/tls"]),
    (
        "server/certificates",
        &["lock", "metrics", "server/config", "transport"],
    ),
    (
        "server/load",
        &["server/config", "server/console", "server/tls"],
    ),
    ("server/systemd", &[]),
    (
        "server/check",
        &[
            "cluster",
            "server/certificates",
            "revocation",
            "server/admin",
            "server/api",
            "server/config",
            "server/explain",
            "server/hook",
            "server/jwks",
            "server/language",
            "server/page",
            "server/probe",
            "server/sockets",
            "store",
            "token",
            "transport",
        ],
    ),
    (
        "server/sanctions",
        &["ban", "endpoint", "pubsub", "revocation", "store"],
    ),
    (
        "server/dashboard",
        &[
            "admission",
            "assigns",
            "ban",
            "channel",
            "endpoint",
            "lock",
            "log",
            "message",
            "metrics",
            "outbox",
            "pattern",
            "presence",
            "pubsub",
            "rate",
            "revocation",
            "server/admin",
            "server/certificates",
            "server/check",
            "server/config",
            "server/exporter",
            "server/methods",
            "server/page",
            "server/rooms",
            "server/sanctions",
            "server/telemetry",
            "socket",
            "store",
            "transport",
        ],
    ),
    (
        "server/commands",
        &[
            "log",
            "server/check",
            "server/config",
            "server/console",
            "server/explain",
            "server/probe",
            "server/rooms",
            "server/tls",
            "server/trial",
            "store",
            "token",
        ],
    ),
    (
        "server/sockets",
        &[
            "ban",
            "endpoint",
            "log",
            "pattern",
            "presence",
            "pubsub",
            "rate",
            "revocation",
            "server/config",
            "server/hook",
            "server/language",
            "server/rooms",
            "server/told",
            "socket",
            "transport",
        ],
    ),
    (
        "server/memory_rooms",
        &[
            "endpoint",
            "log",
            "pubsub",
            "server/config",
            "server/rooms",
            "server/sockets",
            "socket",
            "transport",
        ],
    ),
    (
        "server/trial",
        &[
            "log",
            "message",
            "serializer",
            "server/config",
            "server/memory_rooms",
            "server/rooms",
            "socket",
            "transport",
        ],
    ),
    (
        "server/explain",
        &["pattern", "server/config", "server/language"],
    ),
];

/// Modules whose own modules are rows of the table.
const WINGS: &[&str] = &["server", "store"];

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

/// A file longer than this is a stop.
const MAX_LINES: usize = 900;

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The files of a folder of the package, with the module that they belong to.
fn files(folder: &str) -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths = Vec::new();
    rust_files(&root, &mut paths);
    assert!(!paths.is_empty(), "{folder} holds Rust files");
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(&root).expect("found below the root");
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        // The rooms of these wings have rows of their own.
        let depth = if WINGS.contains(&&*parts[0]) { 2 } else { 1 };
        let module = parts[..depth].join("/");
        let module = module.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("source is UTF-8");
        (module, path, text)
    };
    paths.into_iter().map(read).collect()
}

/// Source without comments, so that prose may name anything.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// The modules that a file names by `crate::`.
fn imports(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    let name = |rest: &str| {
        let wing = word(rest);
        let room = rest[wing.len()..].strip_prefix("::").map(word);
        let room = room.filter(|room| room.starts_with(|c: char| c.is_lowercase()));
        Some(match room {
            Some(room) if WINGS.contains(&&*wing) => format!("{wing}/{room}"),
            _ => wing,
        })
    };
    let paths = code(text).flat_map(|line| line.split("crate::").skip(1));
    let mut modules: BTreeSet<String> = paths.filter_map(name).collect();
    let grouped = text
        .split("use crate::{")
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    modules.extend(
        grouped
            .flat_map(|group| group.split(','))
            .filter_map(|part| name(part.trim())),
    );
    modules.remove("");
    modules
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut broken = Vec::new();
    for (module, path, text) in files("src") {
        if [
            "lib",
            "main",
            "server/mod",
            "server/run",
            "server/program",
            "store/mod",
        ]
        .contains(&&*module)
        {
            continue;
        }
        let row = MAY_USE.iter().find(|(name, _)| *name == module);
        let (_, allowed) = row.unwrap_or_else(|| panic!("{module} is not in the table"));
        for used in imports(&text) {
            if used != module && !allowed.contains(&&*used) {
                broken.push(format!("{}: {module} may not use {used}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A way through the table from `module` back to one of `path`.
fn circle<'a>(module: &'a str, path: &mut Vec<&'a str>) -> Option<Vec<&'a str>> {
    if let Some(at) = path.iter().position(|&before| before == module) {
        return Some(path[at..].to_vec());
    }
    let (_, used) = MAY_USE.iter().find(|(name, _)| *name == module)?;
    path.push(module);
    let found = used.iter().find_map(|next| circle(next, path));
    path.pop();
    found
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    for (module, _) in MAY_USE {
        assert_eq!(circle(module, &mut Vec::new()), None);
    }
}

#[test]
fn the_table_allows_nothing_that_is_not_used() {
    for (module, allowed) in MAY_USE {
        let texts = files("src").into_iter().filter(|(name, ..)| name == module);
        let used: BTreeSet<String> = texts.flat_map(|(.., text)| imports(&text)).collect();
        for name in *allowed {
            assert!(
                used.contains(*name),
                "{module} no longer uses {name}: take it off the table"
            );
        }
    }
}

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

/// What stands before the parenthesis that closes an open one.
fn arguments(call: &str) -> &str {
    let mut open = 1;
    let end = call.find(|c| {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        open == 0
    });
    &call[..end.unwrap_or_default()]
}

/// The messages of log macros: the last string of each.
fn messages(text: &str, starts: &[&str]) -> BTreeSet<String> {
    let text = text.split("mod tests {").next().unwrap_or_default();
    let text: String = code(text).collect::<Vec<_>>().join("\n");
    let calls = starts.iter().flat_map(|start| text.split(start).skip(1));
    let strings = calls.filter_map(|call| arguments(call).split('"').nth_back(1));
    strings.map(str::to_owned).collect()
}

/// The events that a file logs: its messages, up to a colon.
fn events(text: &str) -> BTreeSet<String> {
    let macros = [
        "tracing::error!(",
        "tracing::warn!(",
        "tracing::info!(",
        "tracing::debug!(",
        "log_client!(",
    ];
    let messages = messages(text, &macros);
    let events = messages
        .iter()
        .filter_map(|message| message.split(':').next());
    events.map(str::to_owned).collect()
}

/// At 3 a.m. nobody looks up an event: the line itself says what follows, or what to do.
#[test]
fn warnings_and_errors_say_what_to_do() {
    let loud = [
        "tracing::error!(",
        "tracing::warn!(",
        "log_client!(error,",
        "log_client!(warn,",
    ];
    for (_, path, text) in files("src") {
        // rustfmt may put the level on a line of its own.
        let text = text.replace("log_client!(\n", "log_client!(");
        let text = text.split("log_client!(").map(str::trim_start);
        let text = text.collect::<Vec<_>>().join("log_client!(");
        for message in messages(&text, &loud) {
            let is_explained = message
                .split_once(": ")
                .is_some_and(|(_, advice)| advice.len() > 10);
            // The number of repetitions of another line.
            assert!(
                is_explained || message == "log.repeated",
                "{}: {message} says nothing",
                path.display()
            );
        }
    }
}

#[test]
fn the_log_page_lists_every_event() {
    let page = include_str!("../docs/LOGGING.md");
    let files = files("src");
    for (_, path, text) in &files {
        for event in events(text) {
            assert!(
                page.contains(&format!("`{event}`")),
                "{}: docs/LOGGING.md lacks {event}",
                path.display()
            );
        }
    }
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let named = rows.flat_map(|row| row.split('|').nth(1).expect("a cell").split('`'));
    for name in named.filter(|name| name.contains('.')) {
        let string = format!("\"{name}");
        let is_logged = files.iter().any(|(.., text)| text.contains(&string));
        assert!(is_logged, "nothing logs {name}");
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_bear() {
    for folder in ["src", "tests", "examples"] {
        for (_, path, text) in files(folder) {
            let lines = text.lines().count();
            assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
        }
    }
}
