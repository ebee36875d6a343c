//! [`TellTask`]: makes batches of notices and sends them, one at a time.
//!
//! The messages come from the database behind a cursor, which moves when the backend has taken them: each is told at
//! least once. The notices about members come from the [`Teller`], and are lost with the process. A batch has the
//! oldest of both.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use super::notice::WrittenNotice;
use super::teller::Teller;
use crate::message::RawJson;
use crate::metrics::told_metrics;
use crate::server::hook::{CallFailure, Hook, WrittenBatch};
use crate::store::{Feed, RowCursor};

/// The most notices of a batch.
const MAX_NOTICES: usize = 100;
/// The most bytes of the notices of a batch; but one notice of any size.
const MAX_BATCH_BYTES: usize = 1_000_000;
/// How long a batch is collected.
const WINDOW: Duration = Duration::from_millis(250);
/// The wait after the first failure of a batch, which doubles up to the last one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// The same for reads of the database.
const FIRST_READ_PAUSE: Duration = Duration::from_millis(50);
const LAST_READ_PAUSE: Duration = Duration::from_secs(10);
/// The last wait for rows that may come without a commit of this server.
const MISSING_PAUSE: Duration = Duration::from_secs(1);
/// The time between two log lines about failures.
const QUIET: Duration = Duration::from_secs(60);
/// How often the lag is measured while a batch waits.
const TICK: Duration = Duration::from_secs(1);

/// The running sender. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct TellTask {
    task: JoinHandle<()>,
    teller: Arc<Teller>,
    timeout: Duration,
}

impl TellTask {
    /// Starts on the current thread's runtime. `feed`: the messages to tell, if a room tells messages.
    pub(crate) fn start(teller: Arc<Teller>, hook: Arc<Hook>, feed: Option<Feed>) -> Self {
        let timeout = hook.timeout();
        let sender = BatchSender {
            teller: Arc::clone(&teller),
            hook,
            feed,
            next_read: None,
            read_pause: FIRST_READ_PAUSE,
            failing: QuietLog::default(),
            unread: QuietLog::default(),
        };
        Self {
            task: actix_rt::spawn(sender.run()),
            teller,
            timeout,
        }
    }

    /// Tells what is queued, for at most the timeout of a call, and ends.
    pub(crate) async fn finish(mut self) {
        self.teller.end();
        // The notices about members that are left are lost; messages are told after the next start.
        let _ = timeout(self.timeout, &mut self.task).await;
    }
}

impl Drop for TellTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct BatchSender {
    teller: Arc<Teller>,
    hook: Arc<Hook>,
    feed: Option<Feed>,
    /// The database is not read before.
    next_read: Option<Instant>,
    read_pause: Duration,
    failing: QuietLog,
    unread: QuietLog,
}

/// A batch, and what moves when the backend has taken it.
struct ToldBatch {
    written: WrittenBatch,
    kinds: Vec<&'static str>,
    oldest: SystemTime,
    cursor: Option<RowCursor>,
}

impl BatchSender {
    async fn run(mut self) {
        loop {
            let is_ending = self.collect().await;
            let can_read = self.read(is_ending).await;
            match self.next_batch(is_ending) {
                Some(batch) => self.send(batch).await,
                None if is_ending && !(can_read && self.is_behind()) => break,
                None => {}
            }
        }
        if let Some(feed) = &mut self.feed {
            feed.store();
        }
    }

    /// Waits until a batch is due. Returns whether the server ends, which makes every batch due.
    async fn collect(&mut self) -> bool {
        let mut due = None;
        loop {
            self.measure(None);
            let (queue, now) = (self.teller.look(), Instant::now());
            if queue.is_ending {
                return true;
            }
            let reads = self.is_behind() && self.next_read.is_none_or(|at| at <= now);
            let read = self.feed.as_ref().map_or(0, Feed::len);
            let is_full = self
                .feed
                .as_ref()
                .is_some_and(|feed| reads && feed.has_rows(MAX_NOTICES));
            let has_any = reads || queue.len + read > 0;
            if has_any {
                let end = *due.get_or_insert(now + WINDOW);
                if now >= end || is_full || queue.len + read >= MAX_NOTICES {
                    return false;
                }
            }
            let retry = self.next_read.filter(|at| *at > now && self.is_behind());
            let wake = [due, queue.deadline, retry].into_iter().flatten().min();
            let (teller, feed) = (&self.teller, &mut self.feed);
            tokio::select! {
                () = teller.changed() => {}
                () = committed(feed) => {}
                () = until(wake) => {}
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.feed.as_ref().is_some_and(Feed::is_behind)
    }

    /// Reads the next messages, if all earlier ones are sent. Returns whether the database can be read.
    async fn read(&mut self, is_ending: bool) -> bool {
        let Some(feed) = &mut self.feed else {
            return false;
        };
        // At the end the notices of the queue come first, because they would be lost.
        let is_due = self.next_read.is_none_or(|at| at <= Instant::now());
        let waits = is_ending && self.teller.first().is_some();
        if !feed.is_empty() || !feed.is_behind() || !(is_due || is_ending) || waits {
            return true;
        }
        let last_pause = match feed.read(MAX_NOTICES, MAX_BATCH_BYTES).await {
            Ok(true) => {
                self.next_read = None;
                self.read_pause = FIRST_READ_PAUSE;
                self.unread.succeeded();
                return true;
            }
            Ok(false) => MISSING_PAUSE,
            Err(error) => {
                if let Some(failures) = self.unread.failed() {
                    let error = error.source;
                    tracing::warn!(
                        %error, failures,
                        "hook.told.unread: they wait and are told later; see that the database \
                         answers"
                    );
                }
                LAST_READ_PAUSE
            }
        };
        self.next_read = Some(Instant::now() + self.read_pause);
        self.read_pause = (2 * self.read_pause).min(last_pause);
        false
    }

    /// The oldest notices, as many as fit. At the end those of the queue come first.
    fn next_batch(&mut self, is_ending: bool) -> Option<ToldBatch> {
        let mut notices: Vec<WrittenNotice> = Vec::new();
        let (mut bytes, mut cursor) = (0, None);
        while notices.len() < MAX_NOTICES {
            let queued = self.teller.first();
            let read = self.feed.as_ref().and_then(Feed::first);
            let read = read.map(|message| (message.inserted_at, message.payload.get().len()));
            let takes_queued = match (queued, read) {
                (None, None) => break,
                (Some((queued, _)), Some((read, _))) => is_ending || queued <= read,
                (queued, _) => queued.is_some(),
            };
            let next = if takes_queued { queued } else { read };
            bytes += next.map_or(0, |(_, bytes)| bytes);
            if bytes > MAX_BATCH_BYTES && !notices.is_empty() {
                break;
            }
            if takes_queued {
                notices.extend(self.teller.pop());
            } else if let Some((row, message)) = self.feed.as_mut().and_then(Feed::pop) {
                cursor = Some(row);
                notices.push(message.into());
            }
        }
        let oldest = notices.iter().map(|notice| notice.at).min()?;
        let kinds = notices.iter().map(|notice| notice.kind.name()).collect();
        let notices: Vec<RawJson> = notices.into_iter().map(|notice| notice.json).collect();
        Some(ToldBatch {
            written: WrittenBatch::new(&notices),
            kinds,
            oldest,
            cursor,
        })
    }

    /// Sends a batch until the backend has taken it.
    async fn send(&mut self, batch: ToldBatch) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.measure(Some(batch.oldest));
            let sent = self.hook.deliver(&batch.written).await;
            let outcome = sent.as_ref().err().map_or("taken", CallFailure::kind);
            told_metrics().batches(outcome).increment(1);
            let (id, notices) = (&*batch.written.id, batch.kinds.len());
            tracing::debug!(id, notices, outcome, "hook.told.sent");
            let Err(error) = sent else {
                break;
            };
            if let Some(failures) = self.failing.failed() {
                tracing::warn!(
                    kind = outcome, id, %error, failures,
                    "hook.told.failing: the notices wait and are sent again; see that the backend \
                     runs, and what it logs"
                );
            }
            self.pause(pause, batch.oldest).await;
            pause = (2 * pause).min(LAST_PAUSE);
        }
        if self.failing.succeeded() {
            tracing::info!("hook.told.answering");
        }
        for kind in batch.kinds {
            told_metrics().notices(kind, "taken").increment(1);
        }
        if let Some((feed, cursor)) = self.feed.as_mut().zip(batch.cursor) {
            feed.taken(cursor);
        }
    }

    /// Waits for half of this time to all of it. At the end of the server for the first pause at most.
    async fn pause(&self, pause: Duration, oldest: SystemTime) {
        let random = getrandom::u32().unwrap_or_default();
        let since = Instant::now();
        loop {
            let most = if self.teller.look().is_ending {
                pause.min(FIRST_PAUSE)
            } else {
                pause
            };
            let end =
                since + most / 2 + most.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0);
            let now = Instant::now();
            if now >= end {
                return;
            }
            // A change may be the end of the server.
            let _ = timeout((end - now).min(TICK), self.teller.changed()).await;
            self.measure(Some(oldest));
        }
    }

    /// Sets the lag. `sending`: the time of the oldest notice of the batch that is out.
    fn measure(&self, sending: Option<SystemTime>) {
        let queued = self.teller.first().map(|(at, _)| at);
        let read = self.feed.as_ref().and_then(Feed::first);
        let read = read.map(|message| message.inserted_at);
        let oldest = [sending, queued, read].into_iter().flatten().min();
        let lag = oldest.and_then(|oldest| oldest.elapsed().ok());
        told_metrics()
            .lag
            .set(lag.unwrap_or_default().as_secs_f64());
    }
}

async fn committed(feed: &mut Option<Feed>) {
    match feed {
        Some(feed) => feed.committed().await,
        None => std::future::pending().await,
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

/// Says when a failure is worth a log line: the first one, and then once a minute.
#[derive(Default)]
struct QuietLog {
    /// Since the last line.
    failures: u64,
    last_line: Option<Instant>,
}

impl QuietLog {
    /// The number of failures since the last line, if it is time for one.
    fn failed(&mut self) -> Option<u64> {
        self.failures += 1;
        if self.last_line.is_some_and(|last| last.elapsed() < QUIET) {
            return None;
        }
        self.last_line = Some(Instant::now());
        Some(std::mem::take(&mut self.failures))
    }

    /// Whether this is the first success after a failure.
    fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.last_line.take().is_some()
    }
}
