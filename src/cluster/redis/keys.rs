//! The names of keys and channels. Those of one process of the server carry the beginning of its `run_id`.

use crate::cluster::bus::{NodeId, ProcessId, To};

/// A key or the channel of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The hash with epoch and last seq.
    Topic,
    /// The hash of messages that the database does not have yet.
    Journal,
    /// The lock of the node that opens the run.
    Lock,
    /// The channel.
    Channel,
}

impl Kind {
    /// The letter at the end of the name.
    const fn letter(self) -> char {
        match self {
            Self::Topic => 't',
            Self::Journal => 'j',
            Self::Lock => 'l',
            Self::Channel => 'c',
        }
    }
}

/// Makes the names of one process of the server.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// `slackir`
    prefix: String,
    /// `slackir:0123456789:`
    run: String,
}

impl Keys {
    /// The key of the latest era that nodes know in this process of the server, whatever the era.
    pub(super) fn era(prefix: &str, process: &ProcessId) -> String {
        format!("{prefix}:{process}:era")
    }

    /// The names with `prefix` in `process`.
    pub(super) fn new(prefix: &str, process: &ProcessId) -> Self {
        Self {
            prefix: prefix.to_owned(),
            run: format!("{prefix}:{process}:"),
        }
    }

    /// A name of `topic`. The braces keep all names of a topic in one slot of a Redis Cluster.
    pub(super) fn topic(&self, topic: &str, kind: Kind) -> String {
        format!("{}{{{topic}}}:{}", self.run, kind.letter())
    }

    /// The key that knows the first message with `client_ref`.
    pub(super) fn client_ref(&self, topic: &str, client_ref: &str) -> String {
        format!("{}{{{topic}}}:r:{client_ref}", self.run)
    }

    /// The key that exists while `node` lives.
    pub(super) fn node(&self, node: NodeId) -> String {
        format!("{}n:{node}", self.run)
    }

    /// The key of a claim.
    pub(super) fn claim(&self, name: &str) -> String {
        format!("{}claim:{name}", self.run)
    }

    /// The channel of all nodes.
    pub(super) fn all(&self) -> String {
        format!("{}:all", self.prefix)
    }

    /// The channel of one node.
    pub(super) fn node_channel(&self, node: NodeId) -> String {
        format!("{}:node:{node}", self.prefix)
    }

    /// The channel of `to`.
    pub(super) fn channel(&self, to: To<'_>) -> String {
        match to {
            To::All => self.all(),
            To::Node(node) => self.node_channel(node),
            To::Topic(topic) => self.topic(topic, Kind::Channel),
            To::Foreign(channel) => channel.to_owned(),
        }
    }

    /// The topic whose name of this kind is `name`.
    pub(super) fn topic_of<'a>(&self, name: &'a str, kind: Kind) -> Option<&'a str> {
        name.strip_prefix(self.run.as_str())?
            .strip_prefix('{')?
            .strip_suffix(kind.letter())?
            .strip_suffix("}:")
    }

    /// The pattern that matches the journals of all topics.
    pub(super) fn journals(&self) -> String {
        let mut pattern = String::with_capacity(self.run.len() + 8);
        for letter in self.run.chars() {
            if "*?[]\\".contains(letter) {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push_str("{*}:j");
        pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_design_and_lead_back_to_the_topic() {
        let keys = Keys::new("slackir", &ProcessId::new("0123456789"));
        let node = NodeId::new(0xab);
        assert_eq!(
            keys.topic("room:1", Kind::Topic),
            "slackir:0123456789:{room:1}:t"
        );
        assert_eq!(keys.client_ref("a", "x"), "slackir:0123456789:{a}:r:x");
        assert_eq!(keys.node(node), "slackir:0123456789:n:00000000000000ab");
        assert_eq!(keys.node_channel(node), "slackir:node:00000000000000ab");
        for topic in ["room:1", "", "a}b", "}:c", "{", "ä"] {
            let channel = keys.topic(topic, Kind::Channel);
            assert_eq!(keys.topic_of(&channel, Kind::Channel), Some(topic));
            assert_eq!(keys.topic_of(&channel, Kind::Journal), None);
        }
        assert_eq!(keys.topic_of("slackir:all", Kind::Channel), None);
        let odd = Keys::new("a*b", &ProcessId::new("0"));
        assert_eq!(odd.journals(), "a\\*b:0:{*}:j");
    }
}
