//! Lists the topics that clients have joined. The numbers are those that the topics keep anyway, read when somebody
//! wants to know.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::SystemTime;

use super::PubSub;
use super::topic::Topic;
use crate::lock::lock;

/// The topics that are looked at in one turn of the thread.
const LOOKED_AT_ONCE: usize = 500;

/// A topic with members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub topic: String,
    /// The channels that have joined it.
    pub members: usize,
    /// The broadcasts since it is in memory, those of presences included.
    pub broadcasts: u64,
    /// When the last message was sent, in whole seconds; changes of presences are none. If there was none since the topic
    /// is in memory, when the newest one of its log was published. `None`: there is neither.
    pub last_message: Option<SystemTime>,
    /// Whether messages of it are stored.
    pub is_saved: bool,
    /// Whether its members get a stored message only once it is committed.
    pub is_strict: bool,
}

/// The order of a list of topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicOrder {
    /// The most members first.
    #[default]
    Members,
    /// The most broadcasts first.
    Broadcasts,
    /// By name.
    Topic,
}

/// A list of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedTopics {
    /// The first of them.
    pub topics: Vec<TopicInfo>,
    /// The number of all that have members and begin with the prefix.
    pub total: usize,
}

/// What a topic is sorted by.
struct Seen {
    topic: Arc<Topic>,
    members: usize,
    broadcasts: u64,
    last_message: Option<SystemTime>,
}

impl Seen {
    fn of(topic: Arc<Topic>) -> Option<Self> {
        let state = topic.lock();
        let (members, broadcasts) = (state.channels, state.broadcasts);
        let last_message = state.last_message();
        drop(state);
        (members > 0).then_some(Self {
            topic,
            members: usize::try_from(members).unwrap_or(usize::MAX),
            broadcasts,
            last_message,
        })
    }

    fn key(&self, order: TopicOrder) -> (Reverse<u64>, &str) {
        let first = match order {
            TopicOrder::Members => self.members as u64,
            TopicOrder::Broadcasts => self.broadcasts,
            TopicOrder::Topic => 0,
        };
        (Reverse(first), self.topic.name())
    }
}

impl PubSub {
    /// The topics that clients have joined and whose names begin with `prefix`: the first `limit` in this order. Those
    /// with the same number are in the order of their names.
    ///
    /// ```
    /// use slackir::pubsub::{PubSub, TopicOrder};
    ///
    /// # actix_rt::System::new().block_on(async {
    /// let listed = PubSub::new().list_topics("room:", TopicOrder::Members, 10).await;
    /// assert_eq!(listed.total, 0);
    /// # });
    /// ```
    pub async fn list_topics(&self, prefix: &str, order: TopicOrder, limit: usize) -> ListedTopics {
        let topics: Vec<_> = {
            let topics = lock(&self.shared.topics);
            let topics = topics.iter().filter(|(name, _)| name.starts_with(prefix));
            topics.map(|(_, topic)| Arc::clone(topic)).collect()
        };
        let mut seen = Vec::new();
        for batch in topics.chunks(LOOKED_AT_ONCE) {
            seen.extend(batch.iter().cloned().filter_map(Seen::of));
            tokio::task::yield_now().await;
        }
        let total = seen.len();
        if limit < total {
            seen.select_nth_unstable_by(limit, |a, b| a.key(order).cmp(&b.key(order)));
            seen.truncate(limit);
        }
        seen.sort_unstable_by(|a, b| a.key(order).cmp(&b.key(order)));
        let topics = seen.into_iter().map(|seen| TopicInfo {
            topic: seen.topic.name().to_owned(),
            members: seen.members,
            broadcasts: seen.broadcasts,
            last_message: seen.last_message,
            is_saved: seen.topic.stores_any(),
            is_strict: seen
                .topic
                .rule
                .as_ref()
                .is_some_and(|rule| rule.is_strict()),
        });
        ListedTopics {
            topics: topics.collect(),
            total,
        }
    }

    /// The number of topics in memory.
    #[cfg(feature = "server")]
    pub(crate) fn topic_count(&self) -> usize {
        lock(&self.shared.topics).len()
    }

    /// Whether messages of a topic with this name are stored.
    #[cfg(feature = "server")]
    pub(crate) fn is_saved(&self, topic: &str) -> bool {
        self.rule(topic).is_some_and(|rule| rule.stores_any())
    }

    /// Whether members of a topic with this name get a stored message only once it is committed.
    #[cfg(feature = "server")]
    pub(crate) fn is_strict(&self, topic: &str) -> bool {
        self.rule(topic).is_some_and(|rule| rule.is_strict())
    }
}
