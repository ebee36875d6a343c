//! Nodes on a bus that gives no order, with a database in memory: every topic with a log is strict.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use futures_util::future::ready;
use serde_json::json;

use super::hears::Hears;
use super::{Cluster, ClusterOptions, SeenNode};
use crate::cluster::{Away, Bus, Events, NodeId, ProcessId, Sequencer, To};
use crate::lock::lock;
use crate::log::{
    ClusterEra, Entering, Epoch, Era, LoadError, LogRule, MessageId, MessageStore, Newest,
    OpenedRun, Pending, PlacedMessage, PlacedTogether, PlacingStore, Placings, Seq, SharedLogs,
    SharedStore, StoreFull, StoredEntry, Unplaced,
};
use crate::metrics::BusTotals;
use crate::pubsub::{Draft, Listener, PubSub};

const TOPIC: &str = "room:1";
const EPOCH: Epoch = Epoch::new(47);

/// The nodes of a bus.
#[derive(Default)]
struct Hub(Mutex<Vec<Arc<Port>>>);

/// One node's end of the bus.
struct Port {
    id: NodeId,
    hears: Hears,
    topics: Mutex<BTreeSet<String>>,
    is_up: AtomicBool,
}

struct HubBus(Arc<Hub>, Arc<Port>);

impl Port {
    fn turn(&self, up: bool) {
        self.is_up.store(up, Ordering::SeqCst);
        if !up {
            return self.hears.down();
        }
        self.hears.up(&ProcessId::new("hub"));
        let topics = lock(&self.topics).clone();
        topics.iter().for_each(|topic| self.hears.attached(topic));
    }
}

impl Bus for HubBus {
    fn name(&self) -> &'static str {
        "a hub"
    }

    fn attach(&self, topic: &str) {
        lock(&self.1.topics).insert(topic.to_owned());
        if self.is_up() {
            self.1.hears.attached(topic);
        }
    }

    fn detach(&self, topic: &str) {
        lock(&self.1.topics).remove(topic);
    }

    fn send(&self, to: To<'_>, message: Bytes) {
        let ports = lock(&self.0.0).clone();
        let living = ports
            .iter()
            .filter(|port| port.is_up.load(Ordering::SeqCst));
        for port in living.filter(|_| self.is_up()) {
            match to {
                To::All => port.hears.told(message.clone()),
                To::Node(id) if id == port.id => port.hears.told(message.clone()),
                To::Topic(topic) if lock(&port.topics).contains(topic) => {
                    port.hears.arrived(topic, None, message.clone());
                }
                To::Foreign(_) => port.hears.foreign(message.clone()),
                To::Node(_) | To::Topic(_) => {}
            }
        }
    }

    fn tell(&self, to: To<'_>, message: Bytes) -> BoxFuture<'static, Result<(), Away>> {
        let told = if self.is_up() { Ok(()) } else { Err(Away) };
        self.send(to, message);
        ready(told).boxed()
    }

    fn sequencer(&self) -> Option<&dyn Sequencer> {
        None
    }

    fn is_up(&self) -> bool {
        self.1.is_up.load(Ordering::SeqCst)
    }

    fn leave(&self) -> BoxFuture<'static, Result<(), Away>> {
        ready(Ok(())).boxed()
    }

    fn totals(&self) -> BusTotals {
        BusTotals::default()
    }

    fn is_alive(&self, _: NodeId) -> BoxFuture<'static, Result<bool, Away>> {
        ready(Ok(true)).boxed()
    }
}

/// The database: one topic.
#[derive(Default)]
struct Table {
    rows: Mutex<Vec<StoredEntry>>,
    /// The database takes nothing.
    is_away: AtomicBool,
    waiting: Mutex<Vec<Arc<Unplaced>>>,
}

type Read<T> = BoxFuture<'static, Result<T, LoadError>>;

impl Table {
    fn run(&self) -> OpenedRun {
        OpenedRun {
            epoch: EPOCH,
            head: Seq::new(lock(&self.rows).len() as i64),
            ..OpenedRun::default()
        }
    }

    /// Gives a message its place, unless it is stored.
    fn commit(&self, draft: &Arc<Unplaced>) {
        let (Some(owner), Some(message)) = (draft.owner(), &draft.message) else {
            return;
        };
        let mut rows = lock(&self.rows);
        let is_same = |row: &&StoredEntry| row.client_ref.as_deref() == Some(&*message.client_ref);
        let mut placings = Placings::default();
        if let Some(first) = rows.iter().find(is_same) {
            let first = MessageId::new(EPOCH, first.seq);
            placings.found.push((Arc::clone(draft), first));
        } else {
            let prev = Seq::new(rows.len() as i64);
            let id = MessageId::new(EPOCH, prev.next());
            let payload = message.payload_of(id);
            owner.committing(&[Arc::clone(&draft.topic)]);
            rows.push(StoredEntry {
                seq: id.seq,
                event: message.event.to_string(),
                payload: payload.to_string(),
                target: None,
                at: draft.at,
                client_ref: Some(message.client_ref.to_string()),
            });
            placings.placed.push(PlacedTogether {
                topic: Arc::clone(&draft.topic),
                epoch: EPOCH,
                prev,
                head: id.seq,
                messages: vec![PlacedMessage {
                    seq: id.seq,
                    payload,
                    draft: Arc::clone(draft),
                }],
                erasure: None,
            });
        }
        drop(rows);
        owner.committed(placings);
    }
}

/// The table, for one node.
struct TableStore(Arc<Table>);

impl MessageStore for TableStore {
    fn append(&self, _: Pending) -> Result<(), StoreFull> {
        panic!("the database gives all places")
    }

    fn open(&self, _: &str, _: bool) -> Read<OpenedRun> {
        panic!("the run is shared")
    }

    fn newest(&self, _: &str, limit: usize, _: usize) -> Read<Newest> {
        let rows = lock(&self.0.rows);
        let entries = rows[rows.len().saturating_sub(limit)..].to_vec();
        let newest = Newest {
            entries,
            client_refs: Vec::new(),
        };
        ready(Ok(newest)).boxed()
    }

    fn close(&self, _: &str, _: MessageId) {}

    fn page(&self, _: &str, after: Seq, limit: usize, _: usize) -> Read<Vec<StoredEntry>> {
        let rows = lock(&self.0.rows);
        let later = rows.iter().filter(|row| row.seq > after);
        ready(Ok(later.take(limit).cloned().collect())).boxed()
    }

    fn before(&self, _: &str, _: Seq, _: usize, _: usize) -> Read<Vec<StoredEntry>> {
        ready(Ok(Vec::new())).boxed()
    }
}

impl PlacingStore for TableStore {
    fn place(&self, draft: Arc<Unplaced>) -> Result<(), StoreFull> {
        if self.0.is_away.load(Ordering::SeqCst) {
            lock(&self.0.waiting).push(draft);
        } else if draft.take() {
            self.0.commit(&draft);
        }
        Ok(())
    }

    fn withdraw(&self, draft: &Unplaced) -> bool {
        draft.withdraw()
    }

    fn open_placing(&self, _: &str, _: Option<ClusterEra>) -> Read<OpenedRun> {
        ready(Ok(self.0.run())).boxed()
    }

    fn heads(&self, topics: Vec<String>, _: bool) -> Read<Vec<(String, Seq)>> {
        let head = self.0.run().head;
        ready(Ok(topics.into_iter().map(|topic| (topic, head)).collect())).boxed()
    }
}

impl SharedStore for TableStore {
    fn reserve(&self, _: usize) -> Result<(), StoreFull> {
        Ok(())
    }

    fn release(&self, _: usize) {}

    fn put(&self, _: Pending, _: usize) {
        panic!("the database gives all places")
    }

    fn begin_run(&self, _: &str, _: Option<ClusterEra>) -> Read<OpenedRun> {
        panic!("a strict run never ends")
    }

    fn begun(&self, _: &str, _: &OpenedRun) {}

    fn known_run(&self, _: &str) -> Read<OpenedRun> {
        ready(Ok(self.0.run())).boxed()
    }

    fn era(&self, known: ClusterEra) -> Read<Era> {
        ready(Ok(known.era)).boxed()
    }

    fn enter(&self, _: Entering, known: ClusterEra) -> Read<Era> {
        ready(Ok(known.era)).boxed()
    }

    fn end_era(&self, era: ClusterEra, _: bool) -> Read<Era> {
        ready(Ok(era.era)).boxed()
    }
}

/// A node, and a listener to the topic.
struct Member {
    cluster: Cluster,
    port: Arc<Port>,
    pubsub: PubSub,
    listener: Listener,
}

impl Member {
    async fn new(hub: &Arc<Hub>, table: &Arc<Table>) -> Self {
        let store = SharedLogs(Arc::new(TableStore(Arc::clone(table))));
        let mut made = None;
        let options = ClusterOptions::new("hub").database(store);
        let cluster = Cluster::on_bus(options, None, |id, hears, _| {
            let port = Arc::new(Port {
                id,
                hears,
                topics: Mutex::default(),
                is_up: AtomicBool::new(false),
            });
            lock(&hub.0).push(Arc::clone(&port));
            made = Some(Arc::clone(&port));
            Arc::new(HubBus(Arc::clone(hub), port))
        });
        let (cluster, port) = cluster.ok().zip(made).expect("a thread");
        let rule = LogRule::new("room:*", &["shout"], 50, cluster.store());
        let pubsub = PubSub::with_logs(vec![rule]).in_cluster(&cluster);
        port.turn(true);
        let mut listener = Listener::new(&pubsub);
        listener.subscribe(TOPIC);
        pubsub.topic(TOPIC).load().await.expect("the bus is up");
        Self {
            cluster,
            port,
            pubsub,
            listener,
        }
    }

    async fn shout(&self, n: u64) -> MessageId {
        let draft = Draft::new("shout", json!({ "n": n }));
        let published = self.pubsub.publish(TOPIC, &draft).await;
        published.expect("it is stored").id.expect("it has a place")
    }

    async fn hear(&mut self) -> u64 {
        let heard = tokio::time::timeout(Duration::from_secs(10), self.listener.recv()).await;
        let heard = heard.expect("in time").expect("it is not slow");
        let crate::message::Payload::Json(json) = heard.payload() else {
            panic!("JSON");
        };
        let payload: serde_json::Value = serde_json::from_str(json.get()).expect("JSON");
        payload["n"].as_u64().expect("a number")
    }
}

async fn two() -> (Arc<Table>, Member, Member) {
    let (hub, table) = (Arc::default(), Arc::default());
    let (ann, bob) = (
        Member::new(&hub, &table).await,
        Member::new(&hub, &table).await,
    );
    (table, ann, bob)
}

#[actix_rt::test]
async fn both_nodes_show_the_order_of_the_database() {
    let (table, mut ann, mut bob) = two().await;
    for n in 0..50 {
        let member = if n % 3 == 0 { &ann } else { &bob };
        assert_eq!(member.shout(n).await.seq, Seq::new(n as i64 + 1));
    }
    for n in 0..50 {
        assert_eq!((ann.hear().await, bob.hear().await), (n, n));
    }
    let rows = lock(&table.rows);
    let shown = crate::log::of_client(rows[0].client_ref.clone());
    assert_eq!((rows.len(), shown), (50, None));
}

#[actix_rt::test]
async fn without_the_bus_a_node_looks_each_second_and_so_do_the_others() {
    let (_table, mut ann, mut bob) = two().await;
    bob.port.turn(false);
    ann.shout(1).await;
    assert_eq!((ann.hear().await, bob.hear().await), (1, 1));
    bob.shout(2).await;
    assert_eq!(bob.hear().await, 2);
    assert!(!bob.cluster.tells());
    // Ann's bus is up: she looks because a living node cannot tell.
    let bobs = SeenNode {
        id: 7,
        seen_at: 1,
        age: Duration::ZERO,
        tells: false,
        is_behind: false,
    };
    ann.cluster.see(&[bobs], false);
    assert_eq!(ann.hear().await, 2);
    bob.port.turn(true);
    ann.cluster.see(&[], false);
    ann.shout(3).await;
    assert_eq!((ann.hear().await, bob.hear().await), (3, 3));
}

#[actix_rt::test]
async fn a_reconnection_and_the_death_of_a_node_are_looked_after() {
    let (_table, mut ann, bob) = two().await;
    bob.port.turn(false);
    bob.shout(1).await;
    // Bob dies before he can tell anybody.
    let bobs = SeenNode {
        id: 7,
        seen_at: 1,
        age: Duration::from_secs(6),
        tells: false,
        is_behind: false,
    };
    ann.cluster.see(&[bobs], false);
    assert_eq!(ann.hear().await, 1);
    bob.shout(2).await;
    // Back again, he calls everybody to look.
    bob.port.turn(true);
    assert_eq!(ann.hear().await, 2);
    let begun = Instant::now();
    while !bob.cluster.tells() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix_rt::test]
async fn a_publisher_that_waits_too_long_takes_its_message_back() {
    let (table, ann, _bob) = two().await;
    table.is_away.store(true, Ordering::SeqCst);
    let draft = Draft::new("shout", json!({}));
    let refused = ann.pubsub.publish(TOPIC, &draft).await;
    let full = matches!(refused, Err(crate::pubsub::PublishError::StoreFull(_)));
    assert!(full, "{refused:?}");
    let draft = lock(&table.waiting).pop().expect("it is queued");
    assert!(!draft.take(), "the store passes it over");
}

#[actix_rt::test]
async fn a_worker_that_is_too_slow_gets_the_rest_of_the_log_later() {
    let (_table, ann, bob) = two().await;
    let draft = Draft::new("shout", json!({ "text": "x".repeat(1_000_000) }));
    // Without a pause in which this thread, which is Bob's worker, could send something.
    let last = tokio::task::unconstrained(async {
        let mut last = None;
        for _ in 0..80 {
            let published = ann.pubsub.publish(TOPIC, &draft).await;
            last = published.expect("it is stored").id;
        }
        last.expect("a place")
    })
    .await;
    let topic = bob.pubsub.known(TOPIC).expect("he listens");
    assert!(topic.is_paused() && !topic.lock().has_shown(last));
    let begun = Instant::now();
    while topic.is_paused() || !topic.lock().has_shown(last) {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Else the first history would show it again.
#[actix_rt::test]
async fn what_is_erased_is_not_in_the_journal_of_a_beginning() {
    let (_table, ann, _bob) = two().await;
    let topic = ann.pubsub.known(TOPIC).expect("she listens");
    let joint = topic.joint().expect("it is in a cluster");
    joint.begin_with(Epoch::default(), Vec::new());
    assert!(joint.take_begun().is_some());
    assert!(joint.take_begun().is_none(), "once");
    joint.begin_with(Epoch::default(), Vec::new());
    topic.erase(&[Seq::new(1)], Seq::new(2));
    assert!(joint.take_begun().is_none());
}

#[actix_rt::test]
async fn a_publisher_does_not_get_its_own_message_though_it_is_shown_late() {
    let (_table, ann, bob) = two().await;
    bob.port.turn(false);
    let topic = bob.pubsub.known(TOPIC).expect("he listens");
    // Ann's message comes between, so that Bob's is held back until the database is read.
    ann.shout(1).await;
    let draft = Draft::new("shout", json!({ "n": 2 }));
    let sent = bob
        .pubsub
        .publish_to(&topic, &draft, Some(bob.listener.id()));
    let (published, _) = sent.await.expect("it is stored");
    assert_eq!(published.id.expect("a place").seq, Seq::new(2));
    ann.shout(3).await;
    let mut bob = bob;
    assert_eq!((bob.hear().await, bob.hear().await), (1, 3));
}
