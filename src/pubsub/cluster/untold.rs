//! [`Untold`]: the topics in which this node has committed messages, until the bus has taken word of them.
//!
//! A message is committed before anybody is told of it. So whatever happens to the bus in between, the node knows what
//! to tell later; and if the node itself dies, the others look.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::message;
use super::node::Node;
use super::strict::committed;
use crate::cluster::To;
use crate::cluster::wire::Body;
use crate::lock::lock;
use crate::log::PlacedTogether;

/// A node that has not told something for so long is one that cannot tell.
const LATE: Duration = Duration::from_secs(1);

/// The most commits of a topic whose times are known.
const TIMES: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Untold {
    commits: Mutex<HashMap<Arc<str>, Commits>>,
    /// The number of the last transaction.
    last: AtomicU64,
    /// The number of the last one that has ended: only what is committed can be told.
    ended: AtomicU64,
}

/// Commits in one topic that other nodes may not know: the number of each, and its time. The last stands for all later
/// ones if there are too many.
#[derive(Default)]
struct Commits(VecDeque<(u64, Instant)>);

impl Untold {
    /// Call before the commit.
    pub(super) fn add(&self, topics: &[Arc<str>]) {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut untold = lock(&self.commits);
        for topic in topics {
            let Commits(commits) = untold.entry(Arc::clone(topic)).or_default();
            if commits.len() < TIMES {
                commits.push_back((number, Instant::now()));
            } else if let Some((last, _)) = commits.back_mut() {
                *last = number;
            }
        }
    }

    /// Call after the commit, before the next one: transactions follow each other.
    pub(super) fn end(&self) {
        let last = self.last.load(Ordering::Relaxed);
        self.ended.store(last, Ordering::Relaxed);
    }

    /// The number of the last commit that has ended.
    fn number(&self, topic: &str) -> Option<u64> {
        let ended = self.ended.load(Ordering::Relaxed);
        let untold = lock(&self.commits);
        let mut numbers = untold.get(topic)?.0.iter().rev().map(|(number, _)| *number);
        numbers.find(|number| *number <= ended)
    }

    /// Everybody was told of the commits up to this one. A node that lacks those before it looks for them.
    fn told(&self, topic: &str, number: u64) {
        let mut untold = lock(&self.commits);
        if let Some(Commits(commits)) = untold.get_mut(topic) {
            while commits.pop_front_if(|(told, _)| *told <= number).is_some() {}
            if commits.is_empty() {
                untold.remove(topic);
            }
        }
    }

    /// Whether there is something that nobody was told.
    pub(super) fn is_some(&self) -> bool {
        !lock(&self.commits).is_empty()
    }

    fn topics(&self) -> Vec<Arc<str>> {
        lock(&self.commits).keys().cloned().collect()
    }

    /// Whether something was not told in time.
    pub(super) fn is_late(&self) -> bool {
        let untold = lock(&self.commits);
        let oldest = untold
            .values()
            .filter_map(|Commits(commits)| commits.front());
        let mut ages = oldest.map(|(_, since)| since.elapsed());
        ages.any(|age| age > LATE)
    }
}

impl Node {
    /// Tells the other nodes what this one has committed.
    pub(super) fn tell_committed(self: &Arc<Self>, part: &PlacedTogether) {
        let messages = committed(part, self.id, self.nonce());
        let messages = messages.iter().map(crate::cluster::wire::Message::encode);
        self.tell_strictly(&part.topic, messages.collect());
    }

    /// Tells the other nodes to look into the database.
    pub(super) fn tell_look(self: &Arc<Self>, topic: &Arc<str>) {
        let message = message::message(Body::Look, self.id, self.nonce());
        self.tell_strictly(topic, vec![message.encode()]);
    }

    /// Tells the other nodes to look for all that they may not know.
    pub(super) fn tell_untold(self: &Arc<Self>) {
        for topic in self.strict.untold.topics() {
            self.tell_look(&topic);
        }
    }

    fn tell_strictly(self: &Arc<Self>, topic: &Arc<str>, messages: Vec<bytes::Bytes>) {
        let Some(bus) = self.bus().filter(|bus| bus.is_up()) else {
            return;
        };
        let number = self.strict.untold.number(topic);
        let told = messages
            .into_iter()
            .map(|message| bus.tell(To::Topic(topic), message));
        let told = join_all(told.collect::<Vec<_>>());
        let (node, topic) = (Arc::clone(self), Arc::clone(topic));
        self.spawn(async move {
            let all = told.await.into_iter().all(|told| told.is_ok());
            if let Some(number) = number.filter(|_| all) {
                node.strict.untold.told(&topic, number);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_covers_what_was_before_it() {
        let (untold, topic): (_, Arc<str>) = (Untold::default(), "room".into());
        for _ in 0..3 {
            untold.add(&[Arc::clone(&topic)]);
            untold.end();
        }
        let third = untold.number(&topic).expect("a commit");
        untold.add(&[Arc::clone(&topic), "other".into()]);
        assert_eq!(
            untold.number(&topic),
            Some(third),
            "the fourth is under way"
        );
        assert_eq!(untold.number("other"), None);
        untold.end();
        untold.told(&topic, third);
        assert_eq!(untold.topics().len(), 2, "the fourth is not told");
        let fourth = untold.number(&topic).expect("a commit");
        untold.told(&topic, fourth);
        assert_eq!(untold.topics(), [Arc::<str>::from("other")]);
        assert!(!untold.is_late());
    }

    #[test]
    fn many_commits_take_little_memory() {
        let (untold, topic): (_, Arc<str>) = (Untold::default(), "room".into());
        for _ in 0..1_000 {
            untold.add(&[Arc::clone(&topic)]);
        }
        assert_eq!(lock(&untold.commits)[&topic].0.len(), TIMES);
        untold.told(&topic, 999);
        assert_eq!(untold.topics().len(), 1);
        untold.told(&topic, 1_000);
        assert!(untold.topics().is_empty());
    }
}
