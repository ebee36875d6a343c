//! [`Eras`]: what gives the messages of relaxed topics their order, which is Redis, or the database while no node
//! reaches Redis.
//!
//! **Away.** A node that has been without Redis for 5 s asks the database to end Redis's era. The database does if no
//! living node has reached Redis for 4 s, and if all of them have saved their messages. From then on topics go on as
//! strict ones do, in a new run.
//!
//! **Back.** The nodes connect to Redis as soon as it is there, and it carries what they tell each other. Once all of
//! them reach it, or some have for 10 s, the era of the database ends. All nodes connect again: the names in Redis
//! contain the era, so a Redis that has kept its data has none of the new runs. They begin as after a restart of Redis.
//!
//! **Who is late.** A node that comes to Redis after 3 s without it asks the database for the era first, under the lock
//! that the end of an era takes. So either Redis's era goes on, or the node knows that it is over. And a run begins, in
//! the database or for Redis, only in its era: see `store::tables::era`. A node that does not reach the database goes
//! on in the era that it knows. What it publishes in a past one enters the history late.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::node::{Node, PATIENCE};
use crate::cluster::Entrance;
use crate::lock::lock;
use crate::log::{ClusterEra, Entering, Era, TopicLog};
use crate::metrics::show_order;
use crate::pubsub::Topic;

/// The time between two looks at the era.
const LOOK: Duration = Duration::from_millis(500);
/// Who comes to the bus after so long asks for the era. The database ends none sooner than a second later.
const UNSURE: Duration = Duration::from_secs(3);
/// How long to ask. Without the database the known era goes on.
const ASKING: Duration = Duration::from_secs(2);
/// The pause between two questions.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the bus must stay up before it may give the order again.
const STEADY: Duration = Duration::from_secs(1);
/// From then on nodes that are late are not waited for.
const LONGEST: Duration = Duration::from_secs(10);

/// The era that a node knows, and how it stands with the bus.
#[derive(Default)]
pub(super) struct Eras {
    /// The name of the cluster in the database; `None` if this node shows itself to nobody there. Then no era ends.
    cluster: Option<Arc<str>>,
    era: AtomicI64,
    /// The database has told the era once.
    is_told: AtomicBool,
    reach: Mutex<Reach>,
}

/// How a node stands with the bus.
#[derive(Default)]
struct Reach {
    /// Since when it is up.
    up_since: Option<Instant>,
    /// When it was last about to come up, and did not; or was lost.
    away_since: Option<Instant>,
    /// How often it was about to come up.
    entrances: i64,
    /// It is about to come up.
    enters: bool,
}

impl Eras {
    pub(super) fn new(cluster: Option<String>) -> Self {
        Self {
            cluster: cluster.map(Arc::from),
            reach: Mutex::new(Reach {
                away_since: Some(Instant::now()),
                ..Reach::default()
            }),
            ..Self::default()
        }
    }

    pub(super) fn era(&self) -> Era {
        Era::new(self.era.load(Ordering::Acquire))
    }

    /// The era as the database knows it; `None` without a seat there.
    pub(super) fn of_cluster(&self) -> Option<ClusterEra> {
        let cluster = Arc::clone(self.cluster.as_ref()?);
        let era = self.era();
        Some(ClusterEra { cluster, era })
    }

    /// The bus is up.
    pub(super) fn up(&self) {
        let mut reach = lock(&self.reach);
        (reach.up_since, reach.away_since) = (Some(Instant::now()), None);
    }

    /// The bus is down.
    pub(super) fn down(&self) {
        let mut reach = lock(&self.reach);
        (reach.up_since, reach.away_since) = (None, Some(Instant::now()));
    }

    /// How long the bus has been away for certain, and the number of the last attempt to come to it.
    fn away_for(&self) -> (Duration, i64) {
        let reach = lock(&self.reach);
        let since = reach.away_since.filter(|_| !reach.enters);
        (
            since.map_or(Duration::ZERO, |it| it.elapsed()),
            reach.entrances,
        )
    }

    /// What this node wants of its era; `None`: that it goes on.
    fn wish(&self) -> Option<Wish> {
        let up = lock(&self.reach).up_since.map(|since| since.elapsed());
        let (away, _) = self.away_for();
        wish(self.era(), up, away)
    }
}

/// The end of an era. `patient`: later, if some nodes are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    patient: bool,
}

/// What a node wants of an era that has been up or away for so long.
fn wish(era: Era, up: Option<Duration>, away: Duration) -> Option<Wish> {
    let (time, least) = match (era.is_of_database(), up) {
        (true, Some(up)) => (up, STEADY),
        (false, None) => (away, PATIENCE),
        _ => return None,
    };
    let patient = time < LONGEST;
    (time >= least).then_some(Wish { patient })
}

/// A node that is about to come to the bus, until it is dropped.
struct Enters(Weak<Node>);

impl Drop for Enters {
    fn drop(&mut self) {
        let Some(node) = self.0.upgrade() else { return };
        let mut reach = lock(&node.eras.reach);
        reach.enters = false;
        if reach.up_since.is_none() {
            reach.away_since = Some(Instant::now());
        }
    }
}

impl Node {
    /// How long this node has been without the bus for certain, and how often it was about to come to it.
    pub(super) fn away_for(&self) -> (Duration, i64) {
        self.eras.away_for()
    }

    /// The bus's server is reached: finds out in which era.
    pub(super) fn enter(self: &Arc<Self>) -> BoxFuture<'static, Entrance> {
        let node = Arc::clone(self);
        async move {
            let away = node.away_since().map(|since| since.elapsed());
            let entrances = {
                let mut reach = lock(&node.eras.reach);
                reach.enters = true;
                reach.entrances += 1;
                reach.entrances
            };
            let guard = Enters(Arc::downgrade(&node));
            let is_short = away.is_none_or(|away| away < UNSURE);
            let is_sure = is_short && node.eras.is_told.load(Ordering::Acquire);
            if !is_sure {
                node.ask_era(entrances).await;
            }
            Entrance::new(node.eras.era(), Some(Box::new(guard)))
        }
        .boxed()
    }

    /// Asks for the era, and tells the database that this node comes to the bus.
    async fn ask_era(self: &Arc<Self>, entrances: i64) {
        let begun = Instant::now();
        while let (Some(known), Some(store)) = (self.eras.of_cluster(), &self.store) {
            let node = Entering {
                node: self.id.get().cast_signed(),
                name: self.name.to_string(),
                entrances,
            };
            match tokio::time::timeout(ASKING, store.enter(node, known)).await {
                Ok(Ok(era)) => return self.hear_era(era),
                Ok(Err(error)) => tracing::debug!(%error, "cluster.era.unknown"),
                Err(_) => return,
            }
            if begun.elapsed() > ASKING {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Keeps the node in the present era, and ends one that should end, as long as the node lives.
    pub(super) async fn keep_era(node: Weak<Self>) {
        while let Some(node) = node.upgrade() {
            if !node.has_strict_rules_only() {
                node.look_at_era().await;
            }
            drop(node);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks at once: while this node stood still, its era may have ended.
    pub(super) fn check_era(self: &Arc<Self>) {
        let node = Arc::clone(self);
        self.spawn(async move { node.look_at_era().await });
    }

    async fn look_at_era(self: &Arc<Self>) {
        let (Some(known), Some(store)) = (self.eras.of_cluster(), &self.store) else {
            return;
        };
        let mut present = store.era(known.clone()).await;
        if let Ok(era) = present
            && era == known.era
            && let Some(wish) = self.eras.wish()
        {
            present = store.end_era(known, wish.patient).await;
        }
        match present {
            Ok(era) => self.hear_era(era),
            Err(error) => tracing::debug!(%error, "cluster.era.unknown"),
        }
    }

    /// The database tells the era.
    fn hear_era(self: &Arc<Self>, era: Era) {
        self.eras.is_told.store(true, Ordering::Release);
        self.learn_era(era);
    }

    /// An era is known to somebody. If it is later than this node's, all topics go on in it.
    pub(super) fn learn_era(self: &Arc<Self>, era: Era) {
        let before = self.eras.era.fetch_max(era.get(), Ordering::AcqRel);
        if before >= era.get() {
            return;
        }
        let bus = self.bus().map_or("", |bus| bus.name());
        show_order(era.is_of_database());
        if era.is_of_database() {
            tracing::warn!(
                bus, %era,
                "cluster.order.database: no node reaches the bus, so PostgreSQL gives saved messages their order; see \
                 that the server of redis_url runs"
            );
        } else {
            tracing::info!(bus, %era, "cluster.order.bus");
        }
        self.settle_taken();
        for topic in self.topics() {
            self.change_order(&topic);
        }
        if let Some(bus) = self.bus() {
            bus.change_era();
        }
    }

    /// The topic goes on after what members have, in the order of the present era.
    fn change_order(self: &Arc<Self>, topic: &Arc<Topic>) {
        let (Some(joint), Some(rule)) = (topic.joint(), topic.rule()) else {
            return;
        };
        if rule.is_strict() {
            return;
        }
        self.forget_silent(topic.name());
        {
            let mut state = topic.lock();
            self.rescue(&mut state);
            let shown = state.log.as_ref().map(TopicLog::head_id);
            state.replica = joint.replica(rule, shown);
            state.strict = joint.strict_follower(rule, shown.map(|id| id.seq));
        }
        topic.stands(false);
        if !self.is_up() {
            self.go_on_alone(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_era_ends_after_patience_and_without_it_after_ten_seconds() {
        let (redis, database) = (Era::new(2), Era::new(3));
        let secs = Duration::from_secs;
        let ends = |patient| Some(Wish { patient });
        for (era, up, away, wanted) in [
            (redis, None, secs(4), None),
            (redis, None, secs(5), ends(true)),
            (redis, None, secs(10), ends(false)),
            (redis, Some(secs(100)), secs(0), None),
            (database, None, secs(100), None),
            (database, Some(secs(0)), secs(0), None),
            (database, Some(secs(1)), secs(0), ends(true)),
            (database, Some(secs(10)), secs(0), ends(false)),
        ] {
            assert_eq!(wish(era, up, away), wanted, "{era} {up:?} {away:?}");
        }
    }

    #[test]
    fn who_is_about_to_come_up_is_not_away() {
        let eras = Eras::new(Some("slackir".to_owned()));
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60));
        lock(&eras.reach).away_since = long_ago;
        assert!(eras.away_for().0 >= Duration::from_secs(60));
        lock(&eras.reach).enters = true;
        assert_eq!(eras.away_for().0, Duration::ZERO);
        eras.up();
        lock(&eras.reach).enters = false;
        assert_eq!(eras.away_for().0, Duration::ZERO);
    }
}
