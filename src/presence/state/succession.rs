//! Entries that stay after their process has ended, until a successor joins: an entry with the same topic and key.
//!
//! A node that stops in order sends its clients to other nodes. Each of them joins there under the key that it had.
//! The old entry stays until then, and leaves in the diff of the new one. So nobody sees the key without metas.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Clock, Diff, Place, Replica, State, known};

impl<P: Ord + Clone, M: Clone> State<P, M> {
    /// The process has ended, but its entries stay: each until a successor joins on this or another node, or until
    /// [`State::leave_process`].
    pub(crate) fn end(&mut self, process: &P) {
        let first = (process.clone(), Arc::default(), Arc::default());
        let held = self.held.range(first..);
        let held = held.take_while(|(holder, _)| holder.0 == *process);
        for (_, &clock) in held {
            self.over.insert((Arc::clone(&self.me.name), clock));
            self.ended.push(clock);
        }
    }

    /// The clocks of the entries that [`State::end`] kept since the last call, for all peers.
    pub(crate) fn take_ended(&mut self) -> Vec<Clock> {
        std::mem::take(&mut self.ended)
    }

    /// A peer keeps these entries until a successor joins. Clocks of entries that are not present are ignored.
    pub(crate) fn ended(&mut self, replica: &Replica, clocks: &[Clock]) {
        if let Some(peer) = known(&mut self.peers, replica) {
            let present = &peer.record.present;
            let present = clocks.iter().filter(|clock| present.contains_key(clock));
            let over = present.map(|&clock| (Arc::clone(&replica.name), clock));
            self.over.extend(over);
        }
    }

    /// Removes one kept entry, the oldest, for each entry that joined under its topic and key. An update is no
    /// successor: it is a leave, too.
    pub(super) fn succeed(&mut self, diff: &mut Diff<P, M>) {
        if self.over.is_empty() {
            return;
        }
        let mut joined: BTreeMap<(Arc<str>, Arc<str>), (usize, usize)> = BTreeMap::new();
        for (topic, changed) in &*diff {
            let of_key = |key: &Arc<str>| (Arc::clone(topic), Arc::clone(key));
            for entry in &changed.joins {
                joined.entry(of_key(&entry.key)).or_default().0 += 1;
            }
            for entry in &changed.leaves {
                joined.entry(of_key(&entry.key)).or_default().1 += 1;
            }
        }
        for ((topic, key), (joins, leaves)) in joined {
            let successors = joins.saturating_sub(leaves);
            for (name, clock) in self.kept(&topic, &key, successors) {
                self.let_go(&name, clock, diff);
            }
        }
    }

    /// The oldest kept entries under a key, at most this many.
    fn kept(&self, topic: &str, key: &str, most: usize) -> Vec<(Arc<str>, Clock)> {
        let from = Place::first(topic, key);
        let places = self.visible.0.range(from..).map(|(place, _)| place);
        let places = places.take_while(|place| &*place.topic == topic && &*place.key == key);
        let names = places.map(|place| (Arc::clone(&place.name), place.clock));
        let kept = names.filter(|name| self.over.contains(name));
        kept.take(most).collect()
    }

    /// Removes a kept entry. That of a peer counts as one whose leave was seen: its node will send that, or stop.
    fn let_go(&mut self, name: &Arc<str>, clock: Clock, diff: &mut Diff<P, M>) {
        self.over.remove(&(Arc::clone(name), clock));
        if *name == self.me.name {
            if let Some(entry) = self.own.present.get(&clock) {
                let (topic, key) = (Arc::clone(&entry.topic), Arc::clone(&entry.key));
                self.held.remove(&(entry.process.clone(), topic, key));
                self.tick();
                self.take(clock, diff);
            }
        } else if let Some(peer) = self.peers.get_mut(name)
            && let Some(entry) = peer.record.present.remove(&clock)
        {
            self.visible.hide(name, clock, &entry, diff);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Node = State<u8, u32>;

    fn replica(name: &str) -> Replica {
        Replica {
            name: name.into(),
            incarnation: 1,
        }
    }

    fn pair() -> [Node; 2] {
        let mut nodes = ["a", "b"].map(|name| State::new(replica(name)));
        nodes[0].replica_up(&replica("b"));
        nodes[1].replica_up(&replica("a"));
        nodes
    }

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    /// The metas that joined, and those that left.
    fn metas(diff: &Diff<u8, u32>) -> (Vec<u32>, Vec<u32>) {
        let metas = |of: fn(&crate::presence::state::TopicDiff<u8, u32>) -> &Vec<_>| {
            let entries = diff.values().flat_map(of);
            entries.map(|entry: &Arc<super::super::Entry<u8, u32>>| entry.meta)
        };
        let joins = metas(|changed| &changed.joins).collect();
        (joins, metas(|changed| &changed.leaves).collect())
    }

    fn send(from: &mut Node, to: &mut Node) -> Diff<u8, u32> {
        let me = from.me.clone();
        let diff = from.take_delta().map(|delta| to.merge(&delta));
        to.ended(&me, &from.take_ended());
        diff.unwrap_or_default()
    }

    #[test]
    fn each_successor_takes_the_place_of_one_entry_on_every_node() {
        let [mut a, mut b] = pair();
        let (room, ann) = (name("room"), name("ann"));
        for (process, meta) in [(1, 1), (2, 2), (3, 3)] {
            a.join(process, &room, &ann, meta).unwrap();
        }
        a.end(&1);
        a.end(&2);
        send(&mut a, &mut b);
        assert_eq!(b.get_by_key("room", "ann"), [&1, &2, &3]);
        let diff = b.join(1, &room, &ann, 4).unwrap();
        assert_eq!(metas(&diff), (vec![4], vec![1]), "one diff");
        assert_eq!(metas(&send(&mut b, &mut a)), (vec![4], vec![1]));
        // The node's own leave comes later and changes nothing.
        assert!(send(&mut a, &mut b).is_empty());
        let diff = b.update(&1, &room, &ann, |_| 5).unwrap();
        assert_eq!(
            metas(&diff),
            (vec![5], vec![4]),
            "an update is no successor"
        );
        assert_eq!(metas(&send(&mut b, &mut a)), (vec![5], vec![4]));
        let diff = b.join(2, &room, &name("bob"), 6).unwrap();
        assert_eq!(metas(&diff), (vec![6], vec![]));
        b.join(2, &room, &ann, 7).unwrap();
        let diff = b.join(3, &room, &ann, 8).unwrap();
        assert_eq!(
            metas(&diff),
            (vec![8], vec![]),
            "the channel of the third lives"
        );
        send(&mut b, &mut a);
        send(&mut a, &mut b);
        assert_eq!(a.list("room"), b.list("room"));
        assert_eq!(a.get_by_key("room", "ann"), [&3, &5, &7, &8]);
        assert!(a.over.is_empty() && b.over.is_empty());
    }

    #[test]
    fn kept_entries_leave_with_their_process_at_the_end() {
        let [mut a, mut b] = pair();
        let room = name("room");
        a.join(1, &room, &name("ann"), 1).unwrap();
        a.end(&1);
        send(&mut a, &mut b);
        assert_eq!(metas(&a.leave_process(&1)).1, [1]);
        assert_eq!(metas(&send(&mut a, &mut b)).1, [1]);
        assert!(a.over.is_empty() && b.over.is_empty());
        a.join(2, &room, &name("ann"), 2).unwrap();
        a.end(&2);
        send(&mut a, &mut b);
        b.remove_replica(&replica("a"));
        assert!(b.over.is_empty());
    }

    proptest! {
        #[test]
        fn a_key_that_joined_elsewhere_is_never_without_metas(
            steps in proptest::collection::vec((0..5_u8, 0..4_u8, 0..2_usize), 1..80),
        ) {
            let [mut a, mut b] = pair();
            let (room, keys) = (name("room"), [name("ann"), name("bob")]);
            let mut ended: BTreeSet<u8> = BTreeSet::new();
            for (meta, (what, process, key)) in (0..).zip(steps) {
                match what {
                    0 if !ended.contains(&process) => {
                        let _ = a.join(process, &room, &keys[key], meta);
                    }
                    1 => {
                        a.end(&process);
                        ended.insert(process);
                    }
                    2 => {
                        let _ = b.join(process, &room, &keys[key], meta);
                    }
                    3 => drop(send(&mut a, &mut b)),
                    _ => drop(send(&mut b, &mut a)),
                }
                for key in &keys {
                    let of_b = b.own.present.values().any(|entry| entry.key == *key);
                    prop_assert!(!of_b || !b.get_by_key("room", key).is_empty());
                }
            }
            for process in 0..4 {
                a.leave_process(&process);
            }
            for _ in 0..2 {
                send(&mut b, &mut a);
                send(&mut a, &mut b);
            }
            prop_assert_eq!(a.list("room"), b.list("room"));
            prop_assert!(a.over.is_empty() && b.over.is_empty());
        }
    }
}
