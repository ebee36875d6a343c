//! Log lines say what to do, and docs/LOGGING.md lists them.

use std::collections::BTreeSet;

use crate::{code, files, without_tests};

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
    let text: String = code(without_tests(text)).collect::<Vec<_>>().join("\n");
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
    let page = include_str!("../../docs/LOGGING.md");
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
