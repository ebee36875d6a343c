//! [`Topics`]: which topics are subscribed at the bus's server, and which should be.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What the server knows of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wire {
    /// Not subscribed.
    Off,
    /// The subscription is written and not confirmed.
    Subscribing,
    /// Subscribed since the confirmation at this time.
    On(Instant),
    /// Its end is written and not confirmed.
    Unsubscribing,
}

/// One topic.
#[derive(Debug)]
struct Topic {
    /// Whether it is attached.
    wanted: bool,
    wire: Wire,
}

/// The topics that are attached or still subscribed. A topic has at most one unconfirmed command, so a
/// confirmation is always that of the last command.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    all: HashMap<Arc<str>, Topic>,
    /// Topics that may need a command; some do not any more.
    changed: BTreeSet<Arc<str>>,
}

/// Commands that are due. Not both are empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Topics to subscribe.
    pub(crate) subscribe: Vec<Arc<str>>,
    /// Topics to unsubscribe.
    pub(crate) unsubscribe: Vec<Arc<str>>,
}

impl Topics {
    /// Attaches a topic. `true`: it is subscribed already.
    pub(crate) fn attach(&mut self, name: &Arc<str>) -> bool {
        let topic = self.all.entry(Arc::clone(name)).or_insert(Topic {
            wanted: false,
            wire: Wire::Off,
        });
        let is_new = !std::mem::replace(&mut topic.wanted, true);
        if is_new && !matches!(topic.wire, Wire::On(_)) {
            self.changed.insert(Arc::clone(name));
        }
        matches!(topic.wire, Wire::On(_))
    }

    /// Detaches a topic.
    pub(crate) fn detach(&mut self, name: &str) {
        let Some((name, topic)) = self.all.get_key_value(name) else {
            return;
        };
        let (name, wire) = (Arc::clone(name), topic.wire);
        if wire == Wire::Off {
            self.all.remove(&name);
            self.changed.remove(&name);
        } else if let Some(topic) = self.all.get_mut(&name) {
            topic.wanted = false;
            self.changed.insert(name);
        }
    }

    /// The server has confirmed a subscription. Whether the topic is still attached.
    pub(crate) fn subscribed(&mut self, name: &str) -> bool {
        self.confirmed(name, Wire::On(Instant::now()))
    }

    /// The server has confirmed the end of a subscription.
    pub(crate) fn unsubscribed(&mut self, name: &str) {
        self.confirmed(name, Wire::Off);
    }

    /// Changes what the server knows. Whether the topic is attached.
    fn confirmed(&mut self, name: &str, wire: Wire) -> bool {
        let Some(topic) = self.all.get_mut(name) else {
            return false;
        };
        topic.wire = wire;
        let wanted = topic.wanted;
        if !wanted && wire == Wire::Off {
            self.all.remove(name);
        } else if wanted == (wire == Wire::Off) {
            self.changed.insert(name.into());
        }
        wanted
    }

    /// The connection is lost: nothing is subscribed, and every attached topic should be.
    pub(crate) fn lost(&mut self) {
        self.all.retain(|_, topic| topic.wanted);
        self.changed.clear();
        for (name, topic) in &mut self.all {
            topic.wire = Wire::Off;
            self.changed.insert(Arc::clone(name));
        }
    }

    /// The names of all topics.
    #[cfg(feature = "redis")]
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all.keys()
    }

    /// How many topics may need a command.
    #[cfg(any(feature = "redis", test))]
    pub(crate) fn waiting(&self) -> usize {
        self.changed.len()
    }

    /// Takes commands for at most `most` topics; `None` if none is due.
    pub(crate) fn batch(&mut self, most: usize) -> Option<Batch> {
        let mut batch = Batch::default();
        while batch.subscribe.len() + batch.unsubscribe.len() < most {
            let Some(name) = self.changed.pop_first() else {
                break;
            };
            let Some(topic) = self.all.get_mut(&name) else {
                continue;
            };
            match (topic.wanted, topic.wire) {
                (true, Wire::Off) => {
                    topic.wire = Wire::Subscribing;
                    batch.subscribe.push(name);
                }
                (false, Wire::On(_)) => {
                    topic.wire = Wire::Unsubscribing;
                    batch.unsubscribe.push(name);
                }
                // A command is under way, whose confirmation looks again; or nothing is to do.
                _ => {}
            }
        }
        (batch != Batch::default()).then_some(batch)
    }

    /// Whether the topic has been subscribed since `time` without a break.
    #[cfg(any(feature = "redis", test))]
    pub(crate) fn was_subscribed_at(&self, name: &str, time: Instant) -> bool {
        let wire = self.all.get(name).map(|topic| topic.wire);
        matches!(wire, Some(Wire::On(since)) if since <= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    fn subscribe(names: &[&str]) -> Option<Batch> {
        Some(Batch {
            subscribe: names.iter().map(|text| name(text)).collect(),
            unsubscribe: Vec::new(),
        })
    }

    #[test]
    fn a_topic_has_one_command_under_way() {
        let mut topics = Topics::default();
        assert!(!topics.attach(&name("a")));
        assert!(!topics.attach(&name("a")));
        assert_eq!(topics.batch(9), subscribe(&["a"]));
        topics.detach("a");
        assert!(!topics.attach(&name("a")));
        assert_eq!(topics.batch(9), None);
        assert!(topics.subscribed("a"));
        assert!(topics.attach(&name("a")));
        assert_eq!(topics.batch(9), None);
    }

    #[test]
    fn a_detach_under_way_comes_after_the_confirmation() {
        let mut topics = Topics::default();
        topics.attach(&name("a"));
        topics.batch(9);
        topics.detach("a");
        assert_eq!(topics.batch(9), None);
        assert!(!topics.subscribed("a"));
        let batch = topics.batch(9).expect("the end of a subscription");
        assert_eq!(batch.unsubscribe, [name("a")]);
        topics.attach(&name("a"));
        assert_eq!(topics.batch(9), None);
        topics.unsubscribed("a");
        assert_eq!(topics.batch(9), subscribe(&["a"]));
    }

    #[test]
    fn a_lost_connection_subscribes_what_is_attached() {
        let mut topics = Topics::default();
        for text in ["a", "b"] {
            topics.attach(&name(text));
        }
        topics.batch(9);
        topics.subscribed("a");
        topics.subscribed("b");
        topics.detach("b");
        topics.lost();
        assert_eq!(topics.batch(9), subscribe(&["a"]));
        assert!(!topics.was_subscribed_at("a", Instant::now()));
        assert!(topics.subscribed("a"));
        assert!(topics.was_subscribed_at("a", Instant::now()));
        topics.detach("a");
        topics.batch(9);
        topics.unsubscribed("a");
        assert!(topics.all.is_empty());
    }

    #[test]
    fn what_comes_and_goes_before_it_is_subscribed_takes_no_memory() {
        let mut topics = Topics::default();
        for number in 0..100 {
            topics.attach(&name(&number.to_string()));
            topics.detach(&number.to_string());
        }
        assert!(topics.all.is_empty());
        assert_eq!(topics.waiting(), 0);
    }
}
