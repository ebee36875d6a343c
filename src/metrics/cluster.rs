//! The metrics of a cluster's node.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, counter, describe_counter};

use super::{described_counter, described_gauge};

/// What a node has done on the bus since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BusTotals {
    /// Messages that were sent without an order.
    pub(crate) sent: u64,
    /// Messages that have a place.
    pub(crate) published: u64,
    /// Messages that arrived.
    pub(crate) received: u64,
    /// Messages that were dropped because the bus was away, or too many bytes waited.
    pub(crate) dropped: u64,
    /// Messages of which nobody can know whether they were taken.
    pub(crate) unconfirmed: u64,
    /// Messages that the bus had no room for.
    pub(crate) refused: u64,
    /// How often the bus was lost.
    pub(crate) disconnects: u64,
    /// Answers to publishes, and the microseconds that they took together.
    pub(crate) replies: u64,
    pub(crate) reply_micros: u64,
    /// Bytes that wait for the bus.
    pub(crate) waiting_bytes: u64,
}

struct ClusterMetrics {
    up: Gauge,
    nodes: Gauge,
    database_order: Gauge,
    waiting_bytes: Gauge,
    lag: Gauge,
    disconnects: Counter,
    refused: Counter,
    /// Sent, published, received.
    messages: [Counter; 3],
    /// Dropped, unconfirmed.
    lost: [Counter; 2],
    passed_over: Counter,
    /// By [`BridgeEvent`].
    bridge: [Counter; 4],
}

/// What becomes of a message that could cross the bridge to a Phoenix application.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BridgeEvent {
    /// It came from the application, and is for members here.
    Received,
    /// It was handed over for the application.
    Sent,
    /// It came from the application, and a room here saves its event.
    Stored,
    /// It has no counterpart on the other side.
    Untranslatable,
}

impl BridgeEvent {
    /// Counts one message.
    pub(crate) fn count(self) {
        CLUSTER_METRICS.bridge[self as usize].increment(1);
    }
}

static CLUSTER_METRICS: LazyLock<ClusterMetrics> = LazyLock::new(|| ClusterMetrics {
    up: described_gauge(
        "slackir_cluster_up",
        "Whether the node reaches the cluster's bus: 1 or 0; 0 for a server alone",
    ),
    nodes: described_gauge(
        "slackir_cluster_nodes",
        "Nodes that this one hears, itself included; 0 for a server alone",
    ),
    database_order: described_gauge(
        "slackir_cluster_database_order",
        "Whether the database gives saved messages their order, because no node reaches Redis: 1 or 0",
    ),
    waiting_bytes: described_gauge(
        "slackir_cluster_waiting_bytes",
        "Bytes of messages that wait for the cluster's bus",
    ),
    lag: described_gauge(
        "slackir_cluster_lag_seconds",
        "Time from sending a message to its place, on average over the last seconds",
    ),
    disconnects: described_counter(
        "slackir_cluster_disconnects_total",
        "Times that the node lost the cluster's bus",
    ),
    refused: described_counter(
        "slackir_cluster_refused_total",
        "Stored messages that the cluster's bus had no room for: its memory or the topic's journal is full",
    ),
    messages: ["sent", "published", "received"]
        .map(|direction| counter!("slackir_cluster_messages_total", "direction" => direction)),
    lost: ["dropped", "unconfirmed"]
        .map(|reason| counter!("slackir_cluster_lost_total", "reason" => reason)),
    passed_over: counter!("slackir_cluster_lost_total", "reason" => "slow"),
    bridge: ["received", "sent", "stored", "untranslatable"]
        .map(|result| counter!("slackir_cluster_bridge_total", "result" => result)),
});

/// A message of another node, which no log keeps, is not sent to the members here: a worker has too much to send.
pub(crate) fn count_passed_over() {
    CLUSTER_METRICS.passed_over.increment(1);
}

/// Shows whether the database gives messages the order that the bus gives otherwise.
pub(crate) fn show_order(is_of_database: bool) {
    let value = f64::from(u8::from(is_of_database));
    CLUSTER_METRICS.database_order.set(value);
}

/// Shows what the node sees and has done. `lag`: the average of the last answers, in seconds.
pub(crate) fn show_cluster(is_up: bool, nodes: usize, totals: BusTotals, lag: f64) {
    let metrics = &*CLUSTER_METRICS;
    metrics.up.set(f64::from(u8::from(is_up)));
    metrics.nodes.set(nodes as f64);
    metrics.waiting_bytes.set(totals.waiting_bytes as f64);
    metrics.lag.set(lag);
    metrics.disconnects.absolute(totals.disconnects);
    metrics.refused.absolute(totals.refused);
    let messages = [totals.sent, totals.published, totals.received];
    for (counter, total) in metrics.messages.iter().zip(messages) {
        counter.absolute(total);
    }
    let lost = [totals.dropped, totals.unconfirmed];
    for (counter, total) in metrics.lost.iter().zip(lost) {
        counter.absolute(total);
    }
}

/// Registers all of them.
pub(super) fn describe() {
    LazyLock::force(&CLUSTER_METRICS);
    describe_counter!(
        "slackir_cluster_messages_total",
        "Messages between nodes, and with a Phoenix application: sent at most once, published with a place, received"
    );
    describe_counter!(
        "slackir_cluster_bridge_total",
        "Messages that could cross the bridge to a Phoenix application: received, sent, or dropped because a room \
         stores the event or the other side has no counterpart"
    );
    describe_counter!(
        "slackir_cluster_lost_total",
        "Messages between nodes that were dropped, of which nobody can know whether they were taken, or that came \
         while a worker was too slow"
    );
}
