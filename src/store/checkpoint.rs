//! SQLite's write-ahead log, kept short without a commit that waits for it.
//!
//! A checkpoint copies pages from the log into the database file, tens of milliseconds for a few
//! megabytes. A thread with a connection of its own makes it while commits go on. It can never catch
//! up with a writer that goes on, and the log begins anew only when all of it is copied: so the
//! writer copies the few pages that are left, between two commits. A writer that is faster than the
//! disk waits for the thread.
//!
//! Nobody waits for a reader. One that looks at the database for long (a report, a backup, a shell)
//! holds the log: it grows until that reader ends, the operator is warned, and metrics show the log's
//! size and the reader's age.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::Integer;

use super::{sqlite, url};
use crate::metrics::metrics;

/// The log's length from which on it is copied, and to which its file shrinks then: to write over
/// pages that the system has at hand costs half of what new ones do.
pub(super) const LONG: u64 = 8_000_000;
/// The log's length at which the writer waits for the thread, and empties it if no reader holds it.
const TOO_LONG: u64 = 32_000_000;
/// How long the writer waits for the thread.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the end of the server waits for another copy to end, each time.
const MOMENT: Duration = Duration::from_millis(500);
/// Pages that the writer may copy itself.
const FEW_PAGES: i32 = 200;
/// How often the thread copies what came meanwhile, and how often the end of the server tries to
/// empty the log.
const ROUNDS: u32 = 4;
/// How often a log that a reader holds is looked at.
const HELD_LOOK: Duration = Duration::from_secs(1);
/// The wait between two warnings of that.
const HELD_WARNING: Duration = Duration::from_secs(60);

/// The thread's other half, at the writer. The thread ends with it.
pub(super) struct Checkpointer {
    log: PathBuf,
    wake: SyncSender<()>,
    /// What the thread has come to.
    copied: Receiver<Copied>,
    reader: Option<Reader>,
}

/// How far the thread has copied the log.
#[derive(Clone, Copy)]
enum Copied {
    /// But for a few pages.
    Nearly,
    /// Up to this page, because a reader needs what comes after it.
    Held(i32),
    /// Not as fast as the writer writes.
    Behind,
}

/// Somebody who reads and so holds the log.
struct Reader {
    /// The log's page that it reads last.
    page: i32,
    since: Instant,
    looked: Instant,
    warned: Option<Instant>,
}

/// What `PRAGMA wal_checkpoint` answers.
#[derive(QueryableByName)]
struct Progress {
    /// Somebody else was at it, or needed the log.
    #[diesel(sql_type = Integer)]
    busy: i32,
    #[diesel(sql_type = Integer)]
    log: i32,
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

impl Checkpointer {
    pub(super) fn start(database: &Path, connection: SqliteConnection) -> Self {
        let (wake, woken) = sync_channel(1);
        let (done, copied) = sync_channel(1);
        std::thread::spawn(move || copy_when_woken(connection, &woken, &done));
        Self {
            log: url::beside(database, "-wal"),
            wake,
            copied,
            reader: None,
        }
    }

    /// After each commit, on the writer's connection.
    pub(super) fn committed(&mut self, connection: &mut SqliteConnection) -> QueryResult<()> {
        let length = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        metrics().sqlite_log_bytes.set(length as f64);
        if length <= LONG {
            self.release();
            return Ok(());
        }
        // Until then it may have been a short read, and what the thread says comes at once.
        let reader = self.reader.as_mut();
        let held = reader.filter(|reader| reader.since.elapsed() >= HELD_LOOK);
        let wait = if length > TOO_LONG && held.is_none() {
            PATIENCE
        } else {
            Duration::ZERO
        };
        if held.is_none_or(|reader| reader.is_due(HELD_LOOK))
            && let Err(TrySendError::Disconnected(())) = self.wake.try_send(())
        {
            // The thread has panicked: the writer does its work.
            copy(connection)?;
        }
        match self.copied.recv_timeout(wait) {
            Ok(Copied::Nearly) => {
                self.release();
                copy(connection)?;
                if length > TOO_LONG {
                    empty(connection)?;
                }
            }
            Ok(Copied::Held(page)) => self.note_reader(page, length),
            Ok(Copied::Behind) | Err(_) => {}
        }
        Ok(())
    }

    /// Copies all of it and empties the file, so that a copy of the database file alone is whole. A
    /// reader who holds the log keeps it.
    pub(super) fn settle(&mut self, connection: &mut SqliteConnection) -> QueryResult<()> {
        for _ in 0..ROUNDS {
            if empty(connection)?.busy == 0 {
                break;
            }
            // The thread has an end; when somebody else is busy, a moment is all there is to give.
            let _ = self.copied.recv_timeout(MOMENT);
        }
        Ok(())
    }

    /// Nobody holds the log.
    fn release(&mut self) {
        if self.reader.take().is_some() {
            metrics().sqlite_reader_age.set(0.0);
        }
    }

    /// Somebody reads what is in the log up to this page.
    fn note_reader(&mut self, page: i32, length: u64) {
        let now = Instant::now();
        let reader = match &mut self.reader {
            Some(reader) if reader.page == page => reader,
            other => other.insert(Reader {
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
            && age >= HELD_LOOK
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

impl Reader {
    /// Whether it is time for the next look; that counts as taken then.
    fn is_due(&mut self, wait: Duration) -> bool {
        let due = self.looked.elapsed() >= wait;
        if due {
            self.looked = Instant::now();
        }
        due
    }
}

impl Progress {
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
        match copy_in_rounds(&mut connection) {
            // Full: the writer has not looked since the last time.
            Ok(copied) => drop(done.try_send(copied)),
            Err(error) => tracing::warn!(%error, "store.checkpoint.failed"),
        }
    }
}

fn copy_in_rounds(connection: &mut SqliteConnection) -> QueryResult<Copied> {
    let mut last = None;
    for _ in 0..ROUNDS {
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

/// Copies what no reader still needs in the log, and waits for nobody.
fn copy(connection: &mut SqliteConnection) -> QueryResult<Progress> {
    diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(connection)
}

/// Copies all of it and empties the file, if nobody reads or copies just now.
fn empty(connection: &mut SqliteConnection) -> QueryResult<Progress> {
    sqlite::set_busy_timeout(connection, Duration::ZERO)?;
    let progress = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result(connection);
    sqlite::set_busy_timeout(connection, sqlite::BUSY_TIMEOUT)?;
    progress
}
