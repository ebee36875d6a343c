//! Examples of Phoenix's behaviour, and the laws of the set as properties of random clusters.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn replica(name: &str, incarnation: u64) -> Replica {
    Replica {
        name: name.into(),
        incarnation,
    }
}

mod examples {
    use super::*;

    /// Processes are numbers, metas are words; every node tracks in "room:1".
    type Node = State<u32, &'static str>;

    /// Topics with metas.
    type Metas<'a> = Vec<(&'a str, &'static str)>;

    /// The metas that joined and those that left.
    fn metas<'a>(diff: &'a Diff<u32, &'static str>) -> (Metas<'a>, Metas<'a>) {
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        for (topic, changed) in diff {
            joins.extend(changed.joins.iter().map(|entry| (&**topic, entry.meta)));
            leaves.extend(changed.leaves.iter().map(|entry| (&**topic, entry.meta)));
        }
        (joins, leaves)
    }

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    fn join(node: &mut Node, process: u32, key: &str, meta: &'static str) {
        let diff = node.join(process, &name("room:1"), &name(key), meta);
        assert_eq!(metas(&diff.unwrap()), (vec![("room:1", meta)], vec![]));
    }

    fn leave(node: &mut Node, process: u32, key: &str) {
        node.leave(&process, &name("room:1"), &name(key));
    }

    /// A cluster in which every node knows every other.
    fn cluster<const N: usize>(names: [&str; N]) -> [Node; N] {
        names.map(|own| {
            let mut node = Node::new(replica(own, 1));
            for name in names {
                assert!(node.replica_up(&replica(name, 1)).is_empty());
            }
            node
        })
    }

    /// Sends the changes of one node to another.
    fn send(from: &mut Node, to: &mut Node) -> Diff<u32, &'static str> {
        to.merge(&from.take_delta().unwrap())
    }

    #[test]
    fn tracking_twice_is_refused_and_tracking_elsewhere_is_not() {
        let [mut node] = cluster(["a"]);
        join(&mut node, 1, "ann", "tab");
        let again = node.join(1, &name("room:1"), &name("ann"), "again");
        assert_eq!(again, Err(AlreadyTracked));
        assert_eq!(node.get_by_key("room:1", "ann"), [&"tab"]);
        join(&mut node, 1, "ann's bot", "bot");
        assert!(node.join(1, &name("room:2"), &name("ann"), "tab").is_ok());
        assert_eq!(node.list("room:1").len(), 2);
        assert!(node.list("room:3").is_empty());
    }

    #[test]
    fn updating_the_untracked_is_refused_and_leaving_twice_is_silent() {
        let [mut node] = cluster(["a"]);
        let updated = node.update(&1, &name("room:1"), &name("ann"), |_| "new");
        assert_eq!(updated, Err(NotTracked));
        join(&mut node, 1, "ann", "tab");
        let left = node.leave(&1, &name("room:1"), &name("ann"));
        assert_eq!(metas(&left), (vec![], vec![("room:1", "tab")]));
        assert!(node.leave(&1, &name("room:1"), &name("ann")).is_empty());
        assert!(node.leave_process(&1).is_empty());
    }

    #[test]
    fn metas_of_a_key_are_in_join_order_and_an_update_is_one_diff() {
        let [mut node] = cluster(["a"]);
        join(&mut node, 7, "ann", "phone");
        join(&mut node, 3, "ann", "laptop");
        assert_eq!(node.get_by_key("room:1", "ann"), [&"phone", &"laptop"]);
        let diff = node.update(&7, &name("room:1"), &name("ann"), |old| {
            assert_eq!(*old, "phone");
            "phone, away"
        });
        let changed = (vec![("room:1", "phone, away")], vec![("room:1", "phone")]);
        assert_eq!(metas(&diff.unwrap()), changed);
        let both = BTreeMap::from([("ann", vec![&"laptop", &"phone, away"])]);
        assert_eq!(node.list("room:1"), both);
        leave(&mut node, 7, "ann");
        leave(&mut node, 3, "ann");
        assert!(node.list("room:1").is_empty());
        assert!(node.get_by_key("room:1", "ann").is_empty());
    }

    /// Requirement 165.
    #[test]
    fn a_dying_process_leaves_each_topic_once_and_takes_nobody_along() {
        let [mut node] = cluster(["a"]);
        join(&mut node, 1, "ann", "1");
        join(&mut node, 2, "ann", "2");
        join(&mut node, 2, "bob", "3");
        node.join(2, &name("room:2"), &name("ann"), "4").unwrap();
        join(&mut node, 3, "ann", "5");
        let left = node.leave_process(&2);
        let expected = vec![("room:1", "2"), ("room:1", "3"), ("room:2", "4")];
        assert_eq!(metas(&left), (vec![], expected));
        assert_eq!(node.get_by_key("room:1", "ann"), [&"1", &"5"]);
        assert_eq!(node.list("room:1").len(), 1);
        join(&mut node, 2, "ann", "6");
    }

    #[test]
    fn a_join_wins_over_a_leave_that_did_not_know_of_it() {
        let [mut a, mut b, mut c] = cluster(["a", "b", "c"]);
        join(&mut a, 1, "ann", "old");
        send(&mut a, &mut c);
        leave(&mut a, 1, "ann");
        let leave = a.take_delta().unwrap();
        join(&mut a, 1, "ann", "new");
        let again = a.take_delta().unwrap();
        join(&mut b, 1, "ann", "b's");
        send(&mut b, &mut c);
        assert_eq!(metas(&c.merge(&again)).0, [("room:1", "new")]);
        assert_eq!(metas(&c.merge(&leave)).1, [("room:1", "old")]);
        assert!(c.merge(&leave).is_empty());
        assert_eq!(c.get_by_key("room:1", "ann"), [&"b's", &"new"]);
    }

    #[test]
    fn what_came_and_went_between_two_deltas_is_never_seen() {
        let [mut a, mut b] = cluster(["a", "b"]);
        join(&mut a, 1, "ann", "tab");
        leave(&mut a, 1, "ann");
        assert!(send(&mut a, &mut b).is_empty());
        assert_eq!(a.take_delta(), None);
        assert_eq!(a.clocks(), b.clocks());
    }

    #[test]
    fn metas_are_in_the_order_of_what_each_join_had_seen_on_every_node() {
        let [mut a, mut b] = cluster(["a", "b"]);
        join(&mut b, 1, "ann", "1");
        join(&mut b, 2, "ann", "2");
        send(&mut b, &mut a);
        join(&mut a, 1, "ann", "3");
        send(&mut a, &mut b);
        b.update(&1, &name("room:1"), &name("ann"), |_| "4")
            .unwrap();
        send(&mut b, &mut a);
        assert_eq!(a.get_by_key("room:1", "ann"), [&"2", &"3", &"4"]);
        assert_eq!(a.list("room:1"), b.list("room:1"));
    }

    #[test]
    fn a_peer_that_is_down_is_hidden_and_returns_as_it_is_then() {
        let [mut a, mut b] = cluster(["a", "b"]);
        join(&mut b, 1, "bob", "1");
        join(&mut b, 2, "bea", "2");
        send(&mut b, &mut a);
        let gone = a.replica_down(&replica("b", 1));
        assert_eq!(metas(&gone).1, [("room:1", "1"), ("room:1", "2")]);
        assert!(a.replica_down(&replica("b", 1)).is_empty());
        assert!(a.list("room:1").is_empty());
        leave(&mut b, 1, "bob");
        join(&mut b, 3, "ben", "3");
        assert!(send(&mut b, &mut a).is_empty());
        let back = a.replica_up(&replica("b", 1));
        assert_eq!(metas(&back).0, [("room:1", "2"), ("room:1", "3")]);
        assert!(a.replica_up(&replica("b", 1)).is_empty());
    }

    #[test]
    fn the_entries_of_a_node_that_restarted_leave_when_it_is_heard() {
        let [mut a, mut b] = cluster(["a", "b"]);
        join(&mut b, 1, "bob", "before");
        send(&mut b, &mut a);
        join(&mut b, 2, "bob", "late");
        let late = b.take_delta().unwrap();
        let mut b = Node::new(replica("b", 2));
        join(&mut b, 1, "bob", "after");
        let unheard = b.take_delta().unwrap();
        assert!(a.merge(&unheard).is_empty());
        let left = a.replica_up(&replica("b", 2));
        assert_eq!(metas(&left), (vec![], vec![("room:1", "before")]));
        assert_eq!(metas(&a.merge(&unheard)).0, [("room:1", "after")]);
        assert!(a.replica_up(&replica("b", 1)).is_empty());
        assert!(a.merge(&late).is_empty());
        assert!(a.remove_replica(&replica("b", 1)).is_empty());
        assert_eq!(a.get_by_key("room:1", "bob"), [&"after"]);
    }

    #[test]
    fn a_lost_delta_is_a_gap_that_a_transfer_from_anyone_fills() {
        let [mut a, mut b, mut c] = cluster(["a", "b", "c"]);
        join(&mut a, 1, "ann", "1");
        join(&mut a, 2, "abe", "2");
        let first = a.take_delta().unwrap();
        b.merge(&first);
        c.merge(&first);
        leave(&mut a, 1, "ann");
        send(&mut a, &mut b);
        join(&mut a, 3, "amy", "3");
        let second = a.take_delta().unwrap();
        b.merge(&second);
        c.merge(&second);
        let a_at = |node: &Node| node.clocks()[&replica("a", 1)];
        assert_eq!((a_at(&a), a_at(&b), a_at(&c)), (4, 4, 2));
        let filled = c.merge(&b.extract(|replica| *replica.name == *"a"));
        assert_eq!(metas(&filled), (vec![], vec![("room:1", "1")]));
        assert_eq!(a_at(&c), 4);
        assert_eq!(c.list("room:1"), a.list("room:1"));
    }

    #[test]
    fn a_lost_update_is_a_gap_even_when_its_entry_is_known_to_have_left() {
        let [mut a, mut b] = cluster(["a", "b"]);
        join(&mut a, 1, "ann", "old");
        send(&mut a, &mut b);
        a.update(&1, &name("room:1"), &name("ann"), |_| "new")
            .unwrap();
        a.take_delta().unwrap();
        leave(&mut a, 1, "ann");
        assert!(send(&mut a, &mut b).is_empty());
        assert_ne!(a.clocks(), b.clocks());
        let filled = b.merge(&a.extract(|_| true));
        assert_eq!(metas(&filled).1, [("room:1", "old")]);
    }

    #[test]
    fn a_removed_peer_is_forgotten_until_it_is_up_again() {
        let [mut a, mut b] = cluster(["a", "b"]);
        join(&mut b, 1, "bob", "1");
        send(&mut b, &mut a);
        let left = a.remove_replica(&replica("b", 1));
        assert_eq!(metas(&left).1, [("room:1", "1")]);
        assert_eq!(a.clocks().len(), 1);
        assert!(a.merge(&b.extract(|_| true)).is_empty());
        assert!(a.replica_up(&replica("b", 1)).is_empty());
        assert_eq!(metas(&a.merge(&b.extract(|_| true))).0, [("room:1", "1")]);
    }

    #[test]
    fn nobody_else_tells_a_node_who_is_present_on_it() {
        let [mut a] = cluster(["a"]);
        join(&mut a, 1, "ann", "1");
        let mut made_up = a.extract(|_| true);
        let record = made_up.values_mut().next().unwrap();
        record.present.clear();
        record.seen.insert(1, 9);
        assert!(a.merge(&made_up).is_empty());
        assert!(a.replica_up(&replica("a", 2)).is_empty());
        assert!(a.replica_down(&replica("a", 1)).is_empty());
        assert!(a.remove_replica(&replica("a", 1)).is_empty());
        assert_eq!(a.get_by_key("room:1", "ann"), [&"1"]);
    }
}

const NODES: usize = 3;
const TOPICS: [&str; 2] = ["t1", "t2"];

/// All pairs of nodes.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..NODES).flat_map(|at| (0..NODES).map(move |peer| (at, peer)))
}

/// Process, topic and key.
type Who = (u8, Arc<str>, Arc<str>);

#[derive(Clone, Debug)]
enum Op {
    Join(Who),
    Update(Who),
    Leave(Who),
    End(u8),
    /// Sends the delta to each peer the given number of times: lost, once, or twice.
    Send([usize; NODES]),
    /// Merges one of the deltas that have arrived.
    Receive(Index),
    /// Sends all that is known to a peer, which merges it at once.
    Transfer(usize),
    Up(usize),
    Down(usize),
    Remove(usize),
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let topic = prop::sample::select(&TOPICS[..]).prop_map(Arc::from);
    let key = prop::sample::select(&["k1", "k2"][..]).prop_map(Arc::from);
    let who = (0..3_u8, topic, key).boxed();
    let op = prop_oneof![
        6 => who.clone().prop_map(Op::Join),
        3 => who.clone().prop_map(Op::Update),
        3 => who.prop_map(Op::Leave),
        1 => (0..3_u8).prop_map(Op::End),
        6 => prop::array::uniform3(0..3_usize).prop_map(Op::Send),
        6 => any::<Index>().prop_map(Op::Receive),
        2 => (0..NODES).prop_map(Op::Transfer),
        2 => (0..NODES).prop_map(Op::Up),
        1 => (0..NODES).prop_map(Op::Down),
        1 => (0..NODES).prop_map(Op::Remove),
        1 => Just(Op::Restart),
    ];
    vec((0..NODES, op), 0..150)
}

/// A node, the metas that it must hold, and a watcher of its diffs.
struct Node {
    state: State<u8, u32>,
    held: BTreeMap<Who, u32>,
    /// The entries of a client that applies every diff, by meta, which is unique in these tests.
    watched: BTreeMap<u32, Arc<Entry<u8, u32>>>,
    arrived: Vec<Delta<u8, u32>>,
}

impl Node {
    fn new(replica: Replica) -> Self {
        Self {
            state: State::new(replica),
            held: BTreeMap::new(),
            watched: BTreeMap::new(),
            arrived: Vec::new(),
        }
    }

    /// Applies a diff. Checks that no entry joins twice or leaves without being present, and that the
    /// watcher ends with the result of the queries.
    fn watch(&mut self, diff: Diff<u8, u32>) {
        for (topic, TopicDiff { joins, leaves }) in diff {
            assert!(!joins.is_empty() || !leaves.is_empty());
            for entry in leaves {
                assert_eq!(entry.topic, topic);
                assert_eq!(self.watched.remove(&entry.meta), Some(entry));
            }
            for entry in joins {
                assert_eq!(entry.topic, topic);
                assert_eq!(self.watched.insert(entry.meta, entry), None);
            }
        }
        let watched = self.watched.values();
        let watched: BTreeSet<_> = watched.map(|e| (&*e.topic, &*e.key, e.meta)).collect();
        let mut listed = BTreeSet::new();
        for topic in TOPICS {
            for (key, metas) in self.state.list(topic) {
                assert_eq!(self.state.get_by_key(topic, key), metas);
                listed.extend(metas.into_iter().map(|meta| (topic, key, *meta)));
            }
        }
        assert_eq!(watched, listed);
    }

    /// All that a node knows and shows, in order.
    fn content(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let lists = TOPICS.map(|topic| format!("{:?}", self.state.list(topic)));
        (self.state.extract(|_| true), self.state.clocks(), lists)
    }
}

struct Cluster {
    nodes: [Node; NODES],
    /// All deltas and transfers that were sent, lost or not.
    sent: Vec<Delta<u8, u32>>,
    /// Counts metas and restarts.
    count: u32,
}

impl Cluster {
    fn run(ops: Vec<(usize, Op)>) -> Self {
        let mut cluster = Self {
            nodes: ["a", "b", "c"].map(|name| Node::new(replica(name, 1))),
            sent: Vec::new(),
            count: 1,
        };
        for (at, peer) in pairs() {
            cluster.up(at, peer);
        }
        for (at, op) in ops {
            cluster.step(at, op);
            cluster.check_clocks();
        }
        cluster
    }

    /// A node that has an owner's clock has all entries of the owner: no loss goes unnoticed.
    fn check_clocks(&self) {
        for (at, owner) in pairs() {
            let at = &self.nodes[at].state;
            let owner = &self.nodes[owner].state;
            let clock = at.clocks().get(&owner.me).copied();
            if clock == Some(owner.clocks()[&owner.me]) {
                let of_owner = |replica: &Replica| *replica == owner.me;
                assert_eq!(at.extract(of_owner), owner.extract(of_owner));
            }
        }
    }

    fn replica(&self, of: usize) -> Replica {
        self.nodes[of].state.me.clone()
    }

    fn step(&mut self, at: usize, op: Op) {
        self.count += 1;
        let meta = self.count;
        let node = &mut self.nodes[at];
        let diff = match op {
            Op::Join(who) => {
                let joined = node.state.join(who.0, &who.1, &who.2, meta);
                assert_eq!(joined.is_err(), node.held.contains_key(&who));
                node.held.entry(who).or_insert(meta);
                joined.unwrap_or_default()
            }
            Op::Update(who) => {
                let updated = node.state.update(&who.0, &who.1, &who.2, |_| meta);
                assert_eq!(updated.is_ok(), node.held.contains_key(&who));
                if updated.is_ok() {
                    let newest = node.state.get_by_key(&who.1, &who.2).pop();
                    assert_eq!(newest, Some(&meta));
                    node.held.insert(who, meta);
                }
                updated.unwrap_or_default()
            }
            Op::Leave(who) => {
                let left = node.state.leave(&who.0, &who.1, &who.2);
                assert_eq!(left.is_empty(), node.held.remove(&who).is_none());
                left
            }
            Op::End(process) => {
                node.held.retain(|who, _| who.0 != process);
                node.state.leave_process(&process)
            }
            Op::Send(copies) => return self.send(at, copies),
            Op::Receive(_) if node.arrived.is_empty() => return,
            Op::Receive(which) => {
                let delta = node.arrived.swap_remove(which.index(node.arrived.len()));
                node.state.merge(&delta)
            }
            Op::Transfer(to) => return self.transfer(at, to),
            Op::Up(peer) => return self.up(at, peer),
            Op::Down(peer) => {
                let peer = self.replica(peer);
                self.nodes[at].state.replica_down(&peer)
            }
            Op::Remove(peer) => {
                let peer = self.replica(peer);
                self.nodes[at].state.remove_replica(&peer)
            }
            Op::Restart => {
                let incarnation = self.count.into();
                *node = Node::new(replica(&node.state.me.name, incarnation));
                return;
            }
        };
        self.nodes[at].watch(diff);
    }

    fn send(&mut self, from: usize, copies: [usize; NODES]) {
        if let Some(delta) = self.nodes[from].state.take_delta() {
            for (node, copies) in self.nodes.iter_mut().zip(copies) {
                node.arrived.extend(vec![delta.clone(); copies]);
            }
            self.sent.push(delta);
        }
    }

    fn transfer(&mut self, from: usize, to: usize) {
        let known = self.nodes[from].state.extract(|_| true);
        let diff = self.nodes[to].state.merge(&known);
        self.nodes[to].watch(diff);
        self.sent.push(known);
    }

    fn up(&mut self, at: usize, peer: usize) {
        let peer = self.replica(peer);
        let diff = self.nodes[at].state.replica_up(&peer);
        self.nodes[at].watch(diff);
    }

    /// A new node that knows all nodes and merges these deltas, in this order.
    fn observe<'a>(&self, deltas: impl IntoIterator<Item = &'a Delta<u8, u32>>) -> Node {
        let mut node = Node::new(replica("observer", 1));
        for peer in 0..NODES {
            node.state.replica_up(&self.replica(peer));
        }
        for delta in deltas {
            let diff = node.state.merge(delta);
            node.watch(diff);
            assert!(node.state.merge(delta).is_empty());
        }
        node
    }
}

proptest! {
    /// Requirement 171.
    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        ops in ops(),
        which in prop::array::uniform3(any::<Index>()),
    ) {
        let mut cluster = Cluster::run(ops);
        for node in 0..NODES {
            cluster.transfer(node, node);
        }
        let [x, y, z] = which.map(|i| &cluster.sent[i.index(cluster.sent.len())]);
        let xy = cluster.observe([x, y]);
        assert_eq!(xy.content(), cluster.observe([y, x]).content());
        assert_eq!(xy.content(), cluster.observe([x, y, x, y, y]).content());
        let yz = cluster.observe([y, z]).state.extract(|_| true);
        let xyz = cluster.observe([x, y, z]).content();
        assert_eq!(xyz, cluster.observe([x, &yz]).content());
    }

    #[test]
    fn all_deltas_in_any_order_amount_to_the_full_states(
        ops in ops(),
        order in vec(any::<Index>(), 0..100),
    ) {
        let mut cluster = Cluster::run(ops);
        for node in 0..NODES {
            cluster.send(node, [0; NODES]);
        }
        let sent = &cluster.sent;
        let some = order.iter().filter(|_| !sent.is_empty());
        let some = some.map(|i| &sent[i.index(sent.len())]);
        let deltas = cluster.observe(some.chain(sent.iter().rev()));
        let full = cluster.nodes.each_ref().map(|node| node.state.extract(|_| true));
        assert_eq!(deltas.content(), cluster.observe(&full).content());
    }

    /// Requirement 171.
    #[test]
    fn every_node_ends_with_the_union_of_what_the_owners_hold(ops in ops()) {
        let mut cluster = Cluster::run(ops);
        for (at, peer) in pairs() {
            cluster.up(at, peer);
            cluster.transfer(peer, at);
        }
        let held = cluster.nodes.iter().flat_map(|node| node.held.values().copied());
        let held: BTreeSet<u32> = held.collect();
        for node in &cluster.nodes {
            assert_eq!(node.content(), cluster.nodes[0].content());
            assert_eq!(node.watched.keys().copied().collect::<BTreeSet<_>>(), held);
            let mut own: Vec<_> = node.state.own.present.values().map(|e| e.meta).collect();
            own.sort_unstable();
            let mut held: Vec<_> = node.held.values().copied().collect();
            held.sort_unstable();
            assert_eq!(own, held);
        }
        for node in &mut cluster.nodes {
            for late in mem::take(&mut node.arrived) {
                assert!(node.state.merge(&late).is_empty());
            }
        }
    }

    #[test]
    fn clocks_are_a_set(
        added in vec((1..60_u64, 0..6_u64), 0..20),
    ) {
        let (mut clocks, mut model) = (Clocks::default(), BTreeSet::new());
        for (first, more) in added {
            clocks.insert(first, first + more);
            model.extend(first..=first + more);
            clocks.insert(first, first - 1);
        }
        for clock in 0..70 {
            assert_eq!(clocks.contains(clock), model.contains(&clock));
        }
        let all: Vec<_> = clocks.ranges().flat_map(|(first, last)| first..=last).collect();
        assert!(all.iter().eq(&model));
        let ranges: Vec<_> = clocks.ranges().collect();
        assert!(ranges.is_sorted_by(|(_, last), (first, _)| last + 1 < *first));
        assert_eq!(clocks.last(), model.last().copied().unwrap_or(0));
        let gap = (1..).find(|clock| !model.contains(clock));
        assert_eq!(Some(clocks.contiguous() + 1), gap);
    }
}
