//! The examples of docs/FRONTENDS.md, each run as the page shows it.

use std::path::Path;

use tempfile::tempdir;

use crate::support::masked::masked;
use crate::support::process::run;

const PAGE: &str = include_str!("../../docs/FRONTENDS.md");

/// The content of the section's code block in this language.
fn block<'a>(section: &'a str, language: &str) -> Option<&'a str> {
    let (_, after) = section.split_once(&format!("```{language}\n"))?;
    after.split_once("```").map(|(content, _)| content)
}

/// What a command prints, without the end of its last line.
fn output(args: &[&str], dir: &Path) -> String {
    let output = run(args, dir);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    stdout.trim_end().to_owned()
}

/// The token that the section's command prints; `TOKEN` if it has none.
fn token(section: &str, dir: &Path) -> String {
    let Some(command) = block(section, "sh") else {
        return "TOKEN".to_owned();
    };
    // slackir token sign --secret-key-base "SECRET" 'DATA'
    let secret = command.split('"').nth(1).expect("a secret");
    let data = command.split('\'').nth(1).expect("data");
    let args = ["token", "sign", "--secret-key-base", secret, data];
    let token = output(&args, dir);
    assert!(command.starts_with("slackir token sign --secret-key-base"));
    token
}

/// Whether a line of an exchange is a step; other lines are what clients get.
fn is_step(line: &str) -> bool {
    let rest = line.split_once(' ').map(|(_, rest)| rest);
    let is_action = |rest: &str| {
        ["connect", "close", "["]
            .iter()
            .any(|it| rest.starts_with(it))
    };
    line.starts_with('#') || rest.is_some_and(is_action)
}

#[test]
fn every_example_is_what_clients_get() {
    let dir = tempdir().expect("a temporary folder");
    let mut titles = Vec::new();
    for section in PAGE.split("\n## ").skip(1) {
        let title = section.lines().next().expect("a title");
        let config = block(section, "toml").expect(title);
        let exchange = block(section, "frames").expect(title);
        let token = token(section, dir.path());
        let steps: Vec<_> = exchange.lines().filter(|line| is_step(line)).collect();
        let steps = steps.join("\n").replace("TOKEN", &token);
        std::fs::write(dir.path().join("slackir.toml"), config).expect("writable");
        std::fs::write(dir.path().join("frames"), steps).expect("writable");
        let tried = output(&["rooms", "try", "slackir.toml", "frames"], dir.path());
        let tried = masked(&tried.replace(&token, "TOKEN"));
        assert_eq!(tried, exchange.trim_end(), "{title}");
        let words = output(&["rooms", "explain", "slackir.toml"], dir.path());
        assert!(words.contains("Topics "), "{title}");
        titles.push(title);
    }
    assert_eq!(titles.len(), 10, "{titles:?}");
}
