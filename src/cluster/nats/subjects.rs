//! The names of subjects: `slackir.NBTXQ5KQJWUE.t.room:1`.
//!
//! They name the server. So nodes that are connected to two servers of one NATS cluster do not hear each other, which the
//! nodes find out: messages between such servers may get lost without a sign.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::cluster::bus::{NodeId, ProcessId, To};

/// What a token of a subject cannot have: `.`, `*`, `>` and white space; and all that could be confused.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b':')
    .remove(b'/');

/// A longer topic is named by its hash: the server closes a connection that sends a line of more than 4,096 bytes.
const LONGEST: usize = 1_000;

/// How many characters of the server's id are its name here.
const SERVER_LEN: usize = 12;

/// The name of the process of a server: the beginning of its id.
pub(super) fn process_of(server_id: &str) -> ProcessId {
    let end = server_id.char_indices().nth(SERVER_LEN);
    ProcessId::new(&server_id[..end.map_or(server_id.len(), |(at, _)| at)])
}

/// Makes the subjects of one process of the server.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    /// `slackir.NBTXQ5KQJWUE.`
    run: String,
}

impl Subjects {
    /// The subjects with `prefix` in `process`.
    pub(super) fn new(prefix: &str, process: &ProcessId) -> Self {
        let process = process.to_string();
        let run = format!("{}.{}.", token(prefix), token(&process));
        Self { run }
    }

    /// The subject of all nodes.
    pub(super) fn all(&self) -> String {
        format!("{}all", self.run)
    }

    /// The subject of one node.
    pub(super) fn node(&self, node: NodeId) -> String {
        format!("{}n.{node}", self.run)
    }

    /// The subject of the signs of life.
    pub(super) fn life(&self) -> String {
        format!("{}life", self.run)
    }

    /// The subject of a topic.
    pub(super) fn topic(&self, topic: &str) -> String {
        format!("{}t.{}", self.run, token(topic))
    }

    /// The subject of `to`.
    pub(super) fn of(&self, to: To<'_>) -> String {
        match to {
            To::All => self.all(),
            To::Node(node) => self.node(node),
            To::Topic(topic) => self.topic(topic),
            To::Foreign(subject) => subject.to_owned(),
        }
    }
}

/// A text as one token of a subject. Different texts have different tokens.
fn token(text: &str) -> String {
    let encoded = utf8_percent_encode(text, ENCODED).to_string();
    match encoded.len() {
        // A token has a character. No encoded text is a percent sign alone, and none has two in a row.
        0 => "%".to_owned(),
        1..=LONGEST => encoded,
        _ => {
            let mut hash = "%%".to_owned();
            for byte in Sha256::digest(text) {
                // Writing to a string does not fail.
                _ = write!(hash, "{byte:02x}");
            }
            hash
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn subjects_say_what_they_are_for() {
        let process = process_of("NBTXQ5KQJWUEEVMJ5WVRWU6VHGV27GZPVBHRVYBBNT4UYTXCAXBA5KOR");
        let subjects = Subjects::new("slackir", &process);
        let node = NodeId::new(0xab);
        assert_eq!(subjects.all(), "slackir.NBTXQ5KQJWUE.all");
        assert_eq!(subjects.life(), "slackir.NBTXQ5KQJWUE.life");
        assert_eq!(
            subjects.of(To::Node(node)),
            "slackir.NBTXQ5KQJWUE.n.00000000000000ab"
        );
        assert_eq!(
            subjects.of(To::Topic("room:1")),
            "slackir.NBTXQ5KQJWUE.t.room:1"
        );
        assert_eq!(process_of("short").to_string(), "short");
    }

    #[test]
    fn any_topic_is_one_token_of_its_own() {
        let long = "x".repeat(5_000);
        let other = format!("{long}y");
        let topics = [
            "", "%", "%%", "%25", ".", "*", ">", "a.b", "a b", "a\tb", "a\r\nb", "a\0b", "ä",
            "a%2Eb", "日本", "a*", &long, &other, "%20", " ",
        ];
        let subjects = Subjects::new("a.b", &ProcessId::new("N"));
        let all: HashSet<String> = topics.iter().map(|topic| subjects.topic(topic)).collect();
        assert_eq!(all.len(), topics.len());
        for subject in all {
            let tokens: Vec<&str> = subject.split('.').collect();
            assert_eq!(tokens[..3], ["a%2Eb", "N", "t"], "{subject}");
            assert_eq!(tokens.len(), 4, "{subject}");
            let is_plain = |c: char| c.is_ascii_graphic() && !"*>".contains(c);
            assert!(
                !tokens[3].is_empty() && tokens[3].chars().all(is_plain),
                "{subject}"
            );
            assert!(subject.len() < 1_100);
        }
    }
}
