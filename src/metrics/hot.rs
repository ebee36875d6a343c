//! What happens for each message or each delivery. A thread counts it in cells of its own, and adds them to the
//! metrics ten times a second: an addition without an atomic, on memory that no other core has.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Histogram, counter, describe_counter, histogram};

use super::described_histogram;

/// How often a thread adds its counts to the metrics.
const TICK: Duration = Duration::from_millis(100);
/// One message or broadcast in so many is timed.
const TIMED: u32 = 16;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hot {
    WebSocketFramesReceived,
    LongPollFramesReceived,
    WebSocketBytesReceived,
    LongPollBytesReceived,
    WebSocketFramesSent,
    LongPollFramesSent,
    WebSocketBytesSent,
    LongPollBytesSent,
    Heartbeats,
    Joins,
    Leaves,
    Pushes,
    BinaryPushes,
    Undecodable,
    Deliveries,
    DroppedClosed,
    DroppedSlow,
    DroppedWire,
    CompressionInput,
    CompressionOutput,
}

/// A metric's name, its label with the value, and its help.
type Described = (
    &'static str,
    Option<(&'static str, &'static str)>,
    &'static str,
);

/// The metric of each, in their order.
const COUNTED: [Described; 20] = {
    const FRAMES_IN: (&str, &str) = (
        "slackir_frames_received_total",
        "Messages of clients, by transport",
    );
    const BYTES_IN: (&str, &str) = (
        "slackir_received_bytes_total",
        "Bytes of the messages of clients, by transport",
    );
    const FRAMES_OUT: (&str, &str) = (
        "slackir_frames_sent_total",
        "Frames that clients were sent, by transport",
    );
    const BYTES_OUT: (&str, &str) = (
        "slackir_sent_bytes_total",
        "Bytes of the frames that clients were sent, by transport",
    );
    const MESSAGES: (&str, &str) = (
        "slackir_messages_received_total",
        "Messages of clients, by kind",
    );
    const DROPPED: (&str, &str) = (
        "slackir_deliveries_dropped_total",
        "Broadcasts that a member did not get, by reason",
    );
    const fn of(
        metric: (&'static str, &'static str),
        label: &'static str,
        value: &'static str,
    ) -> Described {
        (metric.0, Some((label, value)), metric.1)
    }
    [
        of(FRAMES_IN, "transport", "websocket"),
        of(FRAMES_IN, "transport", "longpoll"),
        of(BYTES_IN, "transport", "websocket"),
        of(BYTES_IN, "transport", "longpoll"),
        of(FRAMES_OUT, "transport", "websocket"),
        of(FRAMES_OUT, "transport", "longpoll"),
        of(BYTES_OUT, "transport", "websocket"),
        of(BYTES_OUT, "transport", "longpoll"),
        of(MESSAGES, "kind", "heartbeat"),
        of(MESSAGES, "kind", "join"),
        of(MESSAGES, "kind", "leave"),
        of(MESSAGES, "kind", "push"),
        of(MESSAGES, "kind", "binary"),
        of(MESSAGES, "kind", "undecodable"),
        (
            "slackir_deliveries_total",
            None,
            "Broadcasts that members got: messages times members is deliveries and dropped deliveries",
        ),
        of(DROPPED, "reason", "closed"),
        of(DROPPED, "reason", "slow_consumer"),
        of(DROPPED, "reason", "wire"),
        (
            "slackir_compression_input_bytes_total",
            None,
            "Bytes of frames and long-poll answers before their compression; a shared frame counts once",
        ),
        (
            "slackir_compression_output_bytes_total",
            None,
            "Bytes of the same frames and answers after their compression",
        ),
    ]
};

static COUNTERS: LazyLock<[Counter; COUNTED.len()]> = LazyLock::new(|| {
    COUNTED.map(|(name, label, help)| {
        describe_counter!(name, help);
        match label {
            Some((label, value)) => counter!(name, label => value),
            None => counter!(name),
        }
    })
});

/// All counts since the start of the process, without those that threads have not added yet.
static SUMS: [AtomicU64; COUNTED.len()] = [const { AtomicU64::new(0) }; COUNTED.len()];

static FANOUT: LazyLock<Histogram> = LazyLock::new(|| {
    described_histogram(
        "slackir_fanout_seconds",
        "Seconds from a broadcast to the outbox of the last member on a thread; of one broadcast in 16",
    )
});
static DELIVERY_LAG: LazyLock<Histogram> = LazyLock::new(|| {
    described_histogram(
        "slackir_delivery_lag_seconds",
        "Seconds from a broadcast until a thread has written what waits for its clients; of one broadcast in 16",
    )
});

/// When a thread last added its counts, in seconds since 1970; 0 while none does.
static SECOND: AtomicU64 = AtomicU64::new(0);

/// The counts of one thread.
struct Counts {
    cells: [Cell<u64>; COUNTED.len()],
    untimed: Cell<u32>,
    /// The timed broadcast whose frames are in outboxes of this thread and not written yet.
    unwritten: Cell<Option<Instant>>,
    /// Whether the thread adds its counts to the metrics.
    ticks: Cell<bool>,
}

thread_local! {
    static COUNTS: Counts = const {
        Counts {
            cells: [const { Cell::new(0) }; COUNTED.len()],
            untimed: Cell::new(0),
            unwritten: Cell::new(None),
            ticks: Cell::new(false),
        }
    };
}

/// Counts something `n` times.
pub(crate) fn count(what: Hot, n: u64) {
    COUNTS.with(|counts| {
        let cell = &counts.cells[what as usize];
        cell.set(cell.get() + n);
    });
}

/// The time now for one call in 16 on this thread; for the others `None`.
pub(crate) fn time_some() -> Option<Instant> {
    COUNTS.with(|counts| {
        let untimed = counts.untimed.get();
        counts.untimed.set((untimed + 1) % TIMED);
        (untimed == 0).then(Instant::now)
    })
}

/// A timed broadcast is in the outboxes of all its members on this thread.
pub(crate) fn fanned_out(published: Instant) {
    FANOUT.record(published.elapsed());
    COUNTS.with(|counts| counts.unwritten.set(Some(published)));
}

/// What was in the outboxes of this thread was written.
pub(crate) fn written() {
    COUNTS.with(|counts| {
        if let Some(published) = counts.unwritten.take() {
            DELIVERY_LAG.record(published.elapsed());
        }
    });
}

/// Sums since the start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Joins that clients asked for.
    pub(crate) joins: u64,
    /// Messages of clients to channels.
    pub(crate) messages: u64,
    /// Broadcasts that members got.
    pub(crate) deliveries: u64,
    /// Broadcasts that members did not get.
    pub(crate) dropped: u64,
}

/// The sums of all threads, at most 0.1 s old.
pub(crate) fn totals() -> Totals {
    let sum = |what: Hot| SUMS[what as usize].load(Ordering::Relaxed);
    Totals {
        joins: sum(Hot::Joins),
        messages: sum(Hot::Pushes) + sum(Hot::BinaryPushes),
        deliveries: sum(Hot::Deliveries),
        dropped: sum(Hot::DroppedClosed) + sum(Hot::DroppedSlow) + sum(Hot::DroppedWire),
    }
}

/// The present in seconds since 1970. It costs one load while a thread keeps adding its counts, and is 0.1 s late at most,
/// unless all of them are blocked.
pub(crate) fn second() -> u64 {
    match SECOND.load(Ordering::Relaxed) {
        0 => clock(),
        second => second,
    }
}

fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Makes this thread add its counts to the metrics, and time itself, until its runtime ends. Needs an actix runtime.
pub(crate) fn keep_adding() {
    if COUNTS.with(|counts| counts.ticks.replace(true)) {
        return;
    }
    let running = Running;
    actix_rt::spawn(async move {
        let running = running;
        let stall = stall_of_this_thread();
        loop {
            let asleep = Instant::now();
            tokio::time::sleep(TICK).await;
            stall.record(asleep.elapsed().saturating_sub(TICK));
            running.add();
        }
    });
}

/// How late this thread comes to its work: a callback that blocks shows here.
fn stall_of_this_thread() -> Histogram {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    const NAME: &str = "slackir_worker_stall_seconds";
    // Threads of short-lived runtimes, as in tests, share the last label.
    let worker = NEXT.fetch_add(1, Ordering::Relaxed).min(256);
    histogram!(NAME, "worker" => worker.to_string())
}

/// The thread adds its counts while this lives.
struct Running;

impl Running {
    fn add(&self) {
        SECOND.store(clock(), Ordering::Relaxed);
        COUNTS.with(|counts| {
            for (index, cell) in counts.cells.iter().enumerate() {
                let count = cell.take();
                if count > 0 {
                    COUNTERS[index].increment(count);
                    SUMS[index].fetch_add(count, Ordering::Relaxed);
                }
            }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.add();
        // Another thread sets it again within a tick.
        SECOND.store(0, Ordering::Relaxed);
        COUNTS.with(|counts| counts.ticks.set(false));
    }
}

/// Registers all of them, so that every one shows up from the first scrape.
pub(super) fn describe() {
    LazyLock::force(&COUNTERS);
    LazyLock::force(&FANOUT);
    LazyLock::force(&DELIVERY_LAG);
    metrics::describe_histogram!(
        "slackir_worker_stall_seconds",
        "Seconds that a worker thread came late to a timer of 0.1 s: a callback that blocks"
    );
}
