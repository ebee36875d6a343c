//! [`World`]: nodes, their clients, and the bus between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::cluster::NodeId;
use crate::lock::lock;
use crate::presence::replication::{Peers, Replication};
use crate::presence::shared::Process;
use crate::presence::tracker::Rule;
use crate::presence::{Changes, Presence, Presences};
use crate::pubsub::{PubSub, SubscriberId};

pub(super) const NODES: usize = 3;
/// Two topics with lists, and one with numbers.
pub(super) const TOPICS: [&str; 3] = ["room:1", "room:2", "hall"];
pub(super) const HALL: usize = 2;

/// Splitmix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What the members of a node's topics have been told: topic, key, number of the meta.
#[derive(Default)]
pub(super) struct Picture {
    metas: BTreeSet<(String, String, u64)>,
    /// The keys that lost their last meta.
    pub(super) vanished: Vec<(String, String)>,
    pub(super) wrong: Option<String>,
}

impl Picture {
    fn told(&mut self, topic: &str, joins: &Presences, leaves: &Presences, now: &Presences) {
        for meta in metas(topic, joins) {
            if !self.metas.insert(meta.clone()) {
                self.wrong = Some(format!("{meta:?} joined twice"));
            }
        }
        for meta in metas(topic, leaves) {
            if !self.metas.remove(&meta) {
                self.wrong = Some(format!("{meta:?} left without having joined"));
            }
        }
        let gone = leaves.keys().filter(|&key| !now.contains_key(key));
        let gone = gone.map(|key| (topic.to_owned(), key.clone()));
        self.vanished.extend(gone);
        let told: BTreeSet<_> = self
            .metas
            .iter()
            .filter(|(of, ..)| of == topic)
            .cloned()
            .collect();
        if told != metas(topic, now).collect() {
            self.wrong = Some(format!("{topic}: {told:?} was told, {now:?} is there"));
        }
    }
}

fn metas(topic: &str, presences: &Presences) -> impl Iterator<Item = (String, String, u64)> {
    let keys = presences.iter();
    keys.flat_map(move |(key, presence)| {
        let metas = presence["metas"].as_array().expect("metas").iter();
        metas.map(move |meta| {
            (
                topic.to_owned(),
                key.clone(),
                meta["n"].as_u64().expect("n"),
            )
        })
    })
}

/// The messages that a node has sent since the world looked.
#[derive(Default)]
struct Sent(Mutex<Vec<(Option<NodeId>, Bytes)>>);

impl Peers for Sent {
    fn to_all(&self, message: Bytes) {
        lock(&self.0).push((None, message));
    }

    fn to_node(&self, node: NodeId, message: Bytes) {
        lock(&self.0).push((Some(node), message));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// Messages are lost, and the node does not know.
    Hung,
    Down,
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) presence: Presence,
    pub(super) replication: Replication,
    pub(super) picture: Arc<Mutex<Picture>>,
    pub(super) link: Link,
    pub(super) leaving: bool,
    sent: Arc<Sent>,
    /// When a message arrives, from whom.
    arriving: VecDeque<(Duration, NodeId, Bytes)>,
}

/// A client under a key, and the node where it is present.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) topic: usize,
    pub(super) key: String,
    pub(super) at: Option<(usize, Process, u64)>,
    /// When it came there, or went.
    pub(super) since: Duration,
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) random: Random,
    pub(super) nodes: [Option<Node>; NODES],
    pub(super) clients: Vec<Client>,
    /// Once in how many times a message is lost on its way to one node.
    pub(super) loss: Option<u64>,
    /// Nothing arrives; nothing is lost.
    pub(super) stopped: bool,
    pub(super) rule: Option<Rule>,
    count: u64,
}

impl World {
    /// A world with these keys in each topic; nobody is present.
    pub(super) fn new(seed: u64, keys: usize, rule: Option<Rule>) -> Self {
        let client = |n: usize| Client {
            topic: n % TOPICS.len(),
            key: format!("k{}", n / TOPICS.len()),
            at: None,
            since: Duration::ZERO,
        };
        let mut world = Self {
            now: Duration::from_secs(1),
            random: Random::new(seed),
            nodes: [const { None }; NODES],
            clients: (0..keys * TOPICS.len()).map(client).collect(),
            loss: None,
            stopped: false,
            rule,
            count: 0,
        };
        (0..NODES).for_each(|at| world.start(at));
        world
    }

    /// Starts a run of a node.
    pub(super) fn start(&mut self, at: usize) {
        self.count += 1;
        let id = NodeId::new(self.count << 8 | at as u64);
        let picture = Arc::new(Mutex::new(Picture::default()));
        let told = Arc::clone(&picture);
        let presence = Presence::builder(PubSub::new())
            .changes(|topic| match topic == TOPICS[HALL] {
                true => Changes::Count,
                false => Changes::Diffs,
            })
            .handle_metas(move |topic, joins, leaves, now| {
                if topic != TOPICS[HALL] {
                    lock(&told).told(topic, joins, leaves, now);
                }
            })
            .build();
        let sent = Arc::new(Sent::default());
        let name = format!("node-{at}");
        let replication = presence.replicate(id, &name, Arc::clone(&sent) as Arc<dyn Peers>);
        replication.break_rule(self.rule);
        replication.up_at(self.now);
        self.nodes[at] = Some(Node {
            id,
            presence,
            replication,
            picture,
            link: Link::Up,
            leaving: false,
            sent,
            arriving: VecDeque::new(),
        });
        self.carry(at);
    }

    pub(super) fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("a node that runs")
    }

    /// The nodes that run, and do not stop.
    pub(super) fn open(&self) -> Vec<usize> {
        let open = |at: &usize| self.nodes[*at].as_ref().is_some_and(|node| !node.leaving);
        (0..NODES).filter(open).collect()
    }

    /// A client comes to a node.
    pub(super) fn come(&mut self, client: usize, at: usize) {
        self.count += 1;
        let n = self.count;
        let process = Process::Here(SubscriberId::next());
        let Client { topic, key, .. } = &self.clients[client];
        let shared = &self.node(at).presence.shared;
        let meta = json!({ "n": n }).into();
        let tracked = shared.track(process, TOPICS[*topic], key, meta);
        assert_eq!(tracked, Ok(()));
        self.clients[client].at = Some((at, process, n));
        self.clients[client].since = self.now;
    }

    /// A client's channel ends.
    pub(super) fn go(&mut self, client: usize) {
        if let Some((at, process, _)) = self.clients[client].at.take() {
            self.clients[client].since = self.now;
            let topic = TOPICS[self.clients[client].topic];
            self.node(at).presence.shared.leave_process(process, topic);
        }
    }

    /// A client changes its meta.
    pub(super) fn update(&mut self, client: usize) {
        self.count += 1;
        let n = self.count;
        let of = self.clients[client].clone();
        if let Some((at, process, _)) = of.at {
            let shared = &self.node(at).presence.shared;
            let meta = Ok(json!({ "n": n }).into());
            let updated = shared.update(process, TOPICS[of.topic], &of.key, |_| meta);
            assert_eq!(updated, Ok(()));
            self.clients[client].at = Some((at, process, n));
        }
    }

    /// A node ends with all its clients; nobody is told.
    pub(super) fn kill(&mut self, at: usize) {
        self.nodes[at] = None;
        for client in &mut self.clients {
            client.at.take_if(|(of, ..)| *of == at);
        }
    }

    pub(super) fn cut(&mut self, at: usize, link: Link) {
        if let Some(node) = &mut self.nodes[at]
            && node.link == Link::Up
        {
            node.link = link;
            node.arriving.clear();
            if link == Link::Down {
                node.replication.bus_down();
            }
        }
    }

    pub(super) fn heal(&mut self, at: usize) {
        let now = self.now;
        if let Some(node) = &mut self.nodes[at]
            && node.link != Link::Up
        {
            lock(&node.sent.0).clear();
            node.link = Link::Up;
            node.replication.bus_down();
            node.replication.up_at(now);
            self.carry(at);
        }
    }

    /// Time passes: messages arrive, and nodes do what is due.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        let first = self.random.below(NODES as u64) as usize;
        for turn in 0..NODES {
            let at = (first + turn) % NODES;
            let Some(node) = &mut self.nodes[at] else {
                continue;
            };
            let mut arrived = Vec::new();
            while !self.stopped
                && let Some(message) = node.arriving.pop_front_if(|(when, ..)| *when <= self.now)
            {
                arrived.push(message);
            }
            for (_, from, bytes) in arrived {
                self.node(at).replication.heard_at(self.now, from, &bytes);
                self.carry(at);
            }
            self.node(at).replication.tick_at(self.now);
            self.carry(at);
        }
    }

    /// Passes a longer time.
    pub(super) fn pass_seconds(&mut self, seconds: u64) {
        (0..seconds * 20).for_each(|_| self.pass(50));
    }

    /// The bus takes what a node has sent, and brings it to each node in the same order.
    pub(super) fn carry(&mut self, from: usize) {
        let node = self.node(from);
        let (id, link) = (node.id, node.link);
        let sent = std::mem::take(&mut *lock(&node.sent.0));
        if link != Link::Up {
            return;
        }
        for (to, bytes) in sent {
            for node in self.nodes.iter_mut().flatten() {
                let is_lost = self.loss.is_some_and(|times| self.random.once_in(times));
                let is_for = to.is_none_or(|to| to == node.id);
                if node.link == Link::Up && is_for && !is_lost {
                    let latency = Duration::from_millis(self.random.below(60));
                    let last = node.arriving.back().map_or(Duration::ZERO, |last| last.0);
                    let when = last.max(self.now + latency);
                    node.arriving.push_back((when, id, bytes.clone()));
                }
            }
        }
    }

    /// What each node must list: topic, key, number of the meta.
    fn truth(&self) -> BTreeSet<(String, String, u64)> {
        let clients = self.clients.iter().filter(|client| client.topic != HALL);
        let present = clients.filter_map(|client| {
            let (_, _, n) = client.at?;
            Some((TOPICS[client.topic].to_owned(), client.key.clone(), n))
        });
        present.collect()
    }

    /// The keys in the hall, node by node.
    fn number(&self) -> usize {
        let there = self.clients.iter().filter(|client| client.topic == HALL);
        let keys = there.filter_map(|client| Some((client.at?.0, &*client.key)));
        keys.collect::<BTreeSet<_>>().len()
    }

    /// All nodes list who is there, in the same order, and nobody else.
    pub(super) fn check(&self) -> Result<(), String> {
        let (truth, number) = (self.truth(), self.number());
        let mut lists = BTreeMap::new();
        for node in self.nodes.iter().flatten() {
            let topics = TOPICS.iter().take(HALL);
            let listed: Vec<_> = topics
                .map(|topic| (*topic, node.presence.list(topic)))
                .collect();
            let metas = listed.iter().flat_map(|(topic, list)| metas(topic, list));
            let metas: BTreeSet<_> = metas.collect();
            if metas != truth {
                return Err(format!(
                    "{} lists {metas:?}, but {truth:?} is there",
                    node.id
                ));
            }
            let counted = node.presence.count(TOPICS[HALL]);
            if counted != number {
                return Err(format!("{} counts {counted}, not {number}", node.id));
            }
            for (topic, list) in &listed {
                if node.presence.count(topic) != list.len() {
                    return Err(format!("{} miscounts {topic}", node.id));
                }
            }
            lists.insert(node.id.get(), json!(Value::from_iter(listed)).to_string());
        }
        let different: BTreeSet<_> = lists.values().collect();
        if different.len() > 1 {
            return Err(format!("different lists: {different:?}"));
        }
        self.check_pictures()
    }

    /// No node has told its members nonsense.
    pub(super) fn check_pictures(&self) -> Result<(), String> {
        for node in self.nodes.iter().flatten() {
            if let Some(wrong) = &lock(&node.picture).wrong {
                return Err(format!("{}: {wrong}", node.id));
            }
        }
        Ok(())
    }

    /// No node has told its members that one of these keys is gone.
    pub(super) fn check_stayed(&self, stays: impl Fn(&str) -> bool) -> Result<(), String> {
        for node in self.nodes.iter().flatten() {
            let picture = lock(&node.picture);
            let mut vanished = picture.vanished.iter();
            if let Some(gone) = vanished.find(|(_, key)| stays(key)) {
                return Err(format!("{}: {gone:?} was without metas", node.id));
            }
        }
        self.check_pictures()
    }
}
