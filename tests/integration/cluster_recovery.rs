//! How soon a cluster is whole again after a cut and with another Redis, and how long a join waits for Redis. Each test
//! prints what it measured. The bounds are wide, because tests share their machine with others; docs/BENCHMARKS.md has the
//! figures of an optimized server, and the command.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use crate::support::bus::Engine;
use crate::support::cluster::{Cut, Nodes};
use crate::support::node::until;
use crate::support::swarm::Member;

const TOPICS: usize = 10;
/// What may take a second or two on a quiet machine.
const BOUND: Duration = Duration::from_secs(15);
/// Messages a second in all topics together.
const RATE: u32 = 1_000;

/// In each topic somebody who talks at the first node, and somebody who listens at the second.
struct Rooms {
    talkers: Vec<Member>,
    listeners: Vec<Member>,
    /// When each message was said, in turn of the rooms.
    said: Vec<Instant>,
}

impl Rooms {
    async fn of(nodes: &Nodes) -> Self {
        let mut rooms = Self {
            talkers: Vec::new(),
            listeners: Vec::new(),
            said: Vec::new(),
        };
        for n in 0..TOPICS {
            let topic = format!("random:{n}");
            rooms
                .talkers
                .push(Member::join(address(nodes, 0), &topic).await);
            rooms
                .listeners
                .push(Member::join(address(nodes, 1), &topic).await);
        }
        rooms
    }

    /// The rooms talk for so long.
    fn talk(mut self, time: Duration) -> JoinHandle<Self> {
        tokio::spawn(async move {
            let mut pace = interval(Duration::from_secs(1) / RATE);
            let begun = Instant::now();
            while begun.elapsed() < time {
                pace.tick().await;
                let number = self.said.len();
                self.said.push(Instant::now());
                self.talkers[number % TOPICS].shout(number as u64).await;
            }
            self
        })
    }

    /// When the second node's members had heard all that was said before `end`: each message once, in order.
    async fn heard_all_before(&mut self, end: Instant) -> Instant {
        let mut last = end;
        for (room, listener) in self.listeners.iter_mut().enumerate() {
            let said = self.said.iter().enumerate().skip(room).step_by(TOPICS);
            let said: Vec<_> = said.collect();
            listener.wait_for(said.len()).await;
            let heard = listener.live();
            let ids = heard.iter().map(|heard| heard.id as usize);
            assert!(ids.eq(said.iter().map(|(id, _)| *id)), "room {room}");
            let before = said.iter().filter(|(_, at)| **at < end).count();
            last = last.max(heard[before - 1].at);
        }
        last
    }

    /// When a room had heard something after `back`, and when each room of both nodes had.
    async fn heard_after(&self, back: Instant) -> (Instant, Instant) {
        let all = || self.talkers.iter().chain(&self.listeners);
        let first = |member: &Member| {
            let heard = member.live().into_iter();
            heard.map(|heard| heard.at).find(|at| *at > back)
        };
        until("everybody hears the new run", || {
            all().all(|member| first(member).is_some())
        })
        .await;
        let times = || all().filter_map(first);
        times().min().zip(times().max()).expect("there are rooms")
    }
}

fn address(nodes: &Nodes, number: usize) -> SocketAddr {
    nodes.addresses.lock().expect("no panic")[number].expect("it runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_exact_soon_after_a_cut_of_five_seconds() {
    let nodes = Nodes::start(Engine::Redis, 2, &[]).await;
    let talk = Rooms::of(&nodes).await.talk(Duration::from_secs(7));
    sleep(Duration::from_secs(1)).await;
    nodes.nodes[1].to_bus.cut(Cut::Reset);
    sleep(Duration::from_secs(5)).await;
    nodes.nodes[1].to_bus.cut(Cut::Whole);
    let mended = Instant::now();
    let mut rooms = talk.await.expect("they talk to the end");
    let took = rooms.heard_all_before(mended).await - mended;
    println!("exact {} ms after a cut of 5 s", took.as_millis());
    assert!(took < BOUND, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_redis_has_the_first_message_soon() {
    let mut nodes = Nodes::start(Engine::Redis, 2, &[]).await;
    let talk = Rooms::of(&nodes).await.talk(Duration::from_secs(8));
    sleep(Duration::from_secs(1)).await;
    nodes.kill_bus();
    sleep(Duration::from_secs(1)).await;
    nodes.restart_bus();
    let back = Instant::now();
    let rooms = talk.await.expect("they talk to the end");
    let (one, all) = rooms.heard_after(back).await;
    let (one, all) = (one - back, all - back);
    println!("a room talks {one:.1?} after the new Redis, all rooms of both nodes after {all:.1?}");
    assert!(all < BOUND, "{all:?}");
}

/// A topic that the node does not have takes two round trips to Redis, one that it has takes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_waits_for_two_round_trips_at_most() {
    const ONE_WAY: Duration = Duration::from_millis(300);
    let nodes = Nodes::start(Engine::Redis, 2, &[]).await;
    let _there = Member::join(address(&nodes, 0), "random:far").await;
    nodes.nodes[1].to_bus.cut(Cut::Delay(ONE_WAY));
    for (join, trips) in [("first", 2.0), ("second", 0.0)] {
        let begun = Instant::now();
        let _member = Member::join(address(&nodes, 1), "random:far").await;
        let took = begun.elapsed().as_secs_f64() / (2.0 * ONE_WAY.as_secs_f64());
        println!("the {join} join took {took:.2} round trips");
        assert!(took < trips + 0.9, "{join}: {took} trips");
    }
}
