//! [`Checkpointer`]: keeps SQLite's write-ahead log (WAL) short, without a delay of the commits.
//!
//! A checkpoint copies pages from the WAL into the database file: tens of milliseconds for a few megabytes. A
//! thread with a connection of its own copies while commits go on. It never catches up with a busy writer, and the
//! WAL starts over only once all of it is copied. So the writer copies the last few pages itself, between two
//! commits. A writer that is faster than the disk waits for the thread.
//!
//! A reader that holds the WAL for long (a report, a backup, a shell) blocks nobody. The WAL grows until this reader
//! ends. A warning in the log tells the operator, and metrics show the WAL's size and the reader's age.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::Integer;

use crate::metrics::metrics;
use crate::store::backend::sqlite;
use crate::store::backend::url;

/// Start checkpointing at 8 MB, and keep the file that size: reusing cached pages is cheaper than new ones.
pub(in crate::store) const LONG: u64 = 8_000_000;
/// From this size on the writer waits for the thread, and truncates the WAL if no reader holds it.
const TOO_LONG: u64 = 32_000_000;
/// The longest wait of the writer for the thread.
const PATIENCE: Duration = Duration::from_secs(2);
/// The wait for another connection's checkpoint, before each new attempt of [`Checkpointer::tidy`].
const MOMENT: Duration = Duration::from_millis(500);
/// Pages that the writer may copy itself.
const FEW_PAGES: i32 = 200;
/// The most attempts: of the thread to copy all pages, and of [`Checkpointer::tidy`] to truncate the WAL.
const ATTEMPTS: u32 = 4;
/// The time between two checks of a WAL that a reader holds.
const HELD_CHECK: Duration = Duration::from_secs(1);
/// The time between two warnings.
const HELD_WARNING: Duration = Duration::from_secs(60);

/// The writer's half of the thread. The thread ends with it.
pub(in crate::store) struct Checkpointer {
    log: PathBuf,
    database: PathBuf,
    wake: SyncSender<()>,
    /// The thread's answers, one to each wake.
    copied: Receiver<Copied>,
    /// The thread is awake, and its answer has not been read. Only one connection can copy at a time, so the writer
    /// copies only while this is false.
    awake: bool,
    reader: Option<WalReader>,
}

/// How far the thread has copied the WAL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copied {
    /// All but a few pages.
    Nearly,
    /// Up to this page: a reader needs the later ones.
    Held(i32),
    /// The thread is slower than the writer.
    Behind,
}

/// A reader that holds the WAL.
struct WalReader {
    /// The last page of the WAL that it reads.
    page: i32,
    since: Instant,
    looked: Instant,
    warned: Option<Instant>,
}

/// The answer of `PRAGMA wal_checkpoint`.
#[derive(QueryableByName)]
struct CheckpointResult {
    /// Another connection was checkpointing, or needed the WAL.
    #[diesel(sql_type = Integer)]
    busy: i32,
    #[diesel(sql_type = Integer)]
    log: i32,
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

impl Checkpointer {
    pub(in crate::store) fn start(database: &Path, connection: SqliteConnection) -> Self {
        let (wake, woken) = sync_channel(1);
        let (done, copied) = sync_channel(1);
        std::thread::spawn(move || copy_when_woken(connection, &woken, &done));
        Self {
            log: url::beside(database, "-wal"),
            database: database.to_owned(),
            wake,
            copied,
            awake: false,
            reader: None,
        }
    }

    /// After each commit, on the writer's connection.
    pub(in crate::store) fn committed(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> QueryResult<()> {
        let length = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        metrics().database_wal_bytes.set(length as f64);
        let database = std::fs::metadata(&self.database).map_or(0, |file| file.len());
        metrics().database_bytes.set(database as f64);
        if length <= LONG {
            self.release();
            return Ok(());
        }
        // A younger reader may end soon, and does not prolong the wait: the thread answers at once.
        let reader = self.reader.as_mut();
        let held = reader.filter(|reader| reader.since.elapsed() >= HELD_CHECK);
        let wait = if length > TOO_LONG && held.is_none() {
            PATIENCE
        } else {
            Duration::ZERO
        };
        if !self.awake && held.is_none_or(|reader| reader.is_due(HELD_CHECK)) {
            self.awake = self.wake.send(()).is_ok();
            if !self.awake {
                // The thread has panicked: the writer copies.
                copy(connection)?;
            }
        }
        match self.progress(wait) {
            Some(Copied::Nearly) => {
                self.release();
                copy(connection)?;
                if length > TOO_LONG {
                    empty(connection)?;
                }
            }
            Some(Copied::Held(page)) => self.note_reader(page, length),
            Some(Copied::Behind) | None => {}
        }
        Ok(())
    }

    /// Copies everything and truncates the file, so that a copy of the database file alone is complete. Fails while
    /// a reader holds the WAL.
    pub(in crate::store) fn tidy(&mut self, connection: &mut SqliteConnection) -> QueryResult<()> {
        for _ in 0..ATTEMPTS {
            if empty(connection)?.busy == 0 {
                break;
            }
            // The other checkpoint gets a moment.
            if self.awake {
                self.progress(MOMENT);
            } else {
                std::thread::sleep(MOMENT);
            }
        }
        Ok(())
    }

    /// The thread's answer, if it is awake and answers within this time.
    fn progress(&mut self, wait: Duration) -> Option<Copied> {
        let copied = self.awake.then(|| self.copied.recv_timeout(wait))?;
        self.awake = copied == Err(RecvTimeoutError::Timeout);
        copied.ok()
    }

    /// No reader holds the WAL.
    fn release(&mut self) {
        if self.reader.take().is_some() {
            metrics().sqlite_reader_age.set(0.0);
        }
    }

    /// A reader holds the WAL up to this page.
    fn note_reader(&mut self, page: i32, length: u64) {
        let now = Instant::now();
        let reader = match &mut self.reader {
            Some(reader) if reader.page == page => reader,
            other => other.insert(WalReader {
                page,
                since: now,
                looked: now,
                warned: None,
            }),
        };
        let age = reader.since.elapsed();
        metrics().sqlite_reader_age.set(age.as_secs_f64());
        let warned = reader.warned;
        if length > TOO_LONG
            && age >= HELD_CHECK
            && warned.is_none_or(|warned| warned.elapsed() >= HELD_WARNING)
        {
            reader.warned = Some(now);
            tracing::warn!(
                bytes = length,
                seconds = age.as_secs(),
                "store.checkpoint.held: somebody else has been reading the database since then, and its \
                 write-ahead log grows until that reader ends"
            );
        }
    }
}

impl WalReader {
    /// Whether the next check is due. If so, it counts as done.
    fn is_due(&mut self, wait: Duration) -> bool {
        let due = self.looked.elapsed() >= wait;
        if due {
            self.looked = Instant::now();
        }
        due
    }
}

impl CheckpointResult {
    fn left(&self) -> i32 {
        self.log - self.checkpointed
    }
}

fn copy_when_woken(
    mut connection: SqliteConnection,
    woken: &Receiver<()>,
    done: &SyncSender<Copied>,
) {
    while woken.recv().is_ok() {
        let copied = copy_repeatedly(&mut connection).unwrap_or_else(|error| {
            tracing::warn!(
                %error,
                "store.checkpoint.failed: the write-ahead log grows; see that the disk has room"
            );
            Copied::Behind
        });
        if done.send(copied).is_err() {
            return;
        }
    }
}

fn copy_repeatedly(connection: &mut SqliteConnection) -> QueryResult<Copied> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let progress = copy(connection)?;
        if progress.busy != 0 {
            return Ok(Copied::Behind);
        }
        if progress.left() <= FEW_PAGES {
            return Ok(Copied::Nearly);
        }
        if last == Some(progress.checkpointed) {
            return Ok(Copied::Held(progress.checkpointed));
        }
        last = Some(progress.checkpointed);
    }
    Ok(Copied::Behind)
}

/// Copies the pages that no reader needs, without waiting.
fn copy(connection: &mut SqliteConnection) -> QueryResult<CheckpointResult> {
    diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(connection)
}

/// Copies everything and truncates the file, if no connection reads or checkpoints.
fn empty(connection: &mut SqliteConnection) -> QueryResult<CheckpointResult> {
    sqlite::set_busy_timeout(connection, Duration::ZERO)?;
    let progress = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result(connection);
    sqlite::set_busy_timeout(connection, sqlite::BUSY_TIMEOUT)?;
    progress
}
