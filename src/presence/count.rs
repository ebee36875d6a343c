//! The number of keys in each topic, and the pace at which members are told of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;

use super::PRESENCE_COUNT;
use super::shared::Shared;
use super::state::{State, TopicDiff};
use crate::message::Payload;

/// How long the members of a topic wait at least for the next count.
const PACE: Duration = Duration::from_secs(1);

/// The keys of all topics, by topic. A topic without keys is absent, unless its members were told of it a moment
/// ago.
pub(super) type Keys = HashMap<Arc<str>, TopicKeys, foldhash::fast::RandomState>;

/// The keys of one topic.
#[derive(Debug, Default)]
pub(super) struct TopicKeys {
    /// The keys that this node lists.
    pub(super) count: usize,
    /// The keys of other nodes, where nodes exchange their numbers and no lists.
    elsewhere: usize,
    /// Members were told less than [`PACE`] ago; a task waits for the rest of it.
    resting: bool,
    /// The count has changed since then.
    due: bool,
}

impl TopicKeys {
    /// The keys of all nodes.
    pub(super) fn total(&self) -> usize {
        self.count + self.elsewhere
    }

    fn is_over(&self) -> bool {
        self.total() == 0 && !self.resting
    }
}

/// Other nodes have changed their numbers of keys in a topic. Returns whether the sum has changed.
pub(super) fn count_elsewhere(
    keys: &mut Keys,
    topic: &Arc<str>,
    (more, fewer): (usize, usize),
) -> bool {
    let of_topic = keys.entry(Arc::clone(topic)).or_default();
    of_topic.elsewhere = (of_topic.elsewhere + more).saturating_sub(fewer);
    if of_topic.is_over() {
        keys.remove(topic);
    }
    more != fewer
}

/// Counts the keys that a diff, which `state` has already, brought to its topic or took from it. Returns whether
/// the count has changed.
pub(super) fn count<P: Ord + Clone, M: Clone>(
    keys: &mut Keys,
    state: &State<P, M>,
    topic: &Arc<str>,
    diff: &TopicDiff<P, M>,
) -> bool {
    let mut touched: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for entry in &diff.joins {
        touched.entry(&entry.key).or_default().0 += 1;
    }
    for entry in &diff.leaves {
        touched.entry(&entry.key).or_default().1 += 1;
    }
    let of_topic = keys.entry(Arc::clone(topic)).or_default();
    let before = of_topic.count;
    for (key, (joined, left)) in touched {
        // It was there before if more entries are there now than the diff has added.
        let added = joined.saturating_sub(left);
        let now = state.holders(topic, key, added + 1);
        let was_there = now > added || left > joined;
        match (was_there, now > 0) {
            (false, true) => of_topic.count += 1,
            (true, false) => of_topic.count -= 1,
            (true, true) | (false, false) => {}
        }
    }
    let after = of_topic.count;
    if of_topic.is_over() {
        keys.remove(topic);
    }
    after != before
}

/// Tells the members of the topic that the count has changed: now, or when [`PACE`] is over.
pub(super) fn tell(shared: &Arc<Shared>, keys: &mut Keys, topic: &Arc<str>) {
    let of_topic = keys.entry(Arc::clone(topic)).or_default();
    if of_topic.resting {
        of_topic.due = true;
        return;
    }
    send(shared, topic, of_topic.total());
    // Channels end outside a runtime only when the whole program ends.
    if let Ok(runtime) = Handle::try_current() {
        of_topic.resting = true;
        runtime.spawn(rest(Arc::downgrade(shared), Arc::clone(topic)));
    }
}

/// Tells the count of the topic again as long as it changes.
async fn rest(shared: Weak<Shared>, topic: Arc<str>) {
    loop {
        tokio::time::sleep(PACE).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut shard = shared.shard(&topic);
        let Some(of_topic) = shard.keys.get_mut(&topic) else {
            return;
        };
        if !std::mem::take(&mut of_topic.due) {
            of_topic.resting = false;
            if of_topic.is_over() {
                shard.keys.remove(&topic);
            }
            return;
        }
        let count = of_topic.total();
        send(&shared, &topic, count);
    }
}

fn send(shared: &Shared, topic: &str, count: usize) {
    let payload = Payload::from(json!({ "count": count }));
    let pubsub = &shared.pubsub;
    pubsub.broadcast_live(topic, PRESENCE_COUNT, &payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::state::Replica;
    use super::*;

    /// A step of one of three processes: joins, leaves or updates one of its keys in one of two topics, or ends.
    fn step() -> impl Strategy<Value = (u8, u8, u8, u8)> {
        (0..4_u8, 0..3_u8, 0..2_u8, 0..3_u8)
    }

    proptest! {
        #[test]
        fn the_number_is_that_of_the_listed_keys(steps in proptest::collection::vec(step(), 1..80)) {
            let me = Replica { name: "local".into(), incarnation: 1 };
            let mut state: State<u8, ()> = State::new(me);
            let mut keys = Keys::default();
            for (what, process, topic, key) in steps {
                let (topic, key) = (Arc::from(format!("t{topic}")), Arc::from(format!("k{key}")));
                let diff = match what {
                    0 => state.join(process, &topic, &key, ()).unwrap_or_default(),
                    1 => state.leave(&process, &topic, &key),
                    2 => state.update(&process, &topic, &key, |()| ()).unwrap_or_default(),
                    _ => state.leave_process(&process),
                };
                for (topic, diff) in &diff {
                    let before = keys.get(topic).map_or(0, |keys| keys.count);
                    let changed = count(&mut keys, &state, topic, diff);
                    let after = keys.get(topic).map_or(0, |keys| keys.count);
                    prop_assert_eq!(changed, before != after);
                }
                for topic in ["t0", "t1"] {
                    let counted = keys.get(topic).map_or(0, |keys| keys.count);
                    prop_assert_eq!(counted, state.list(topic).len());
                }
            }
            prop_assert!(keys.values().all(|keys| keys.count > 0), "a topic without keys is forgotten");
        }
    }
}
