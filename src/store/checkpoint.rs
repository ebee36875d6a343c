//! SQLite's write-ahead log, kept short without a commit that waits for it.
//!
//! A checkpoint copies pages from the log into the database file, tens of milliseconds for a few
//! megabytes. A thread with a connection of its own makes it while commits go on. It can never catch
//! up with a writer that goes on, and the log begins anew only when all of it is copied: so the
//! writer copies the few pages that are left, between two commits. A writer that is faster than the
//! disk waits for the thread.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Integer;

/// The log's length from which on it is copied, and to which its file shrinks then: to write over
/// pages that the system has at hand costs half of what new ones do.
pub(super) const LONG: u64 = 8_000_000;
/// The log's length at which the writer waits until it is copied, and empties it.
const TOO_LONG: u64 = 32_000_000;
/// How long that waits for another copy to end, each time.
const MOMENT: Duration = Duration::from_millis(500);
/// Pages that the writer may copy itself.
const FEW_PAGES: i32 = 200;
/// How often the thread copies what came meanwhile, and the writer tries to empty it.
const ROUNDS: u32 = 4;

/// The thread's other half, at the writer. The thread ends with it.
pub(super) struct Checkpointer {
    log: PathBuf,
    wake: SyncSender<()>,
    /// Says that the thread has copied nearly all.
    copied: Receiver<()>,
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
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let (wake, woken) = sync_channel(1);
        let (done, copied) = sync_channel(1);
        std::thread::spawn(move || copy_when_woken(connection, &woken, &done));
        Self {
            log: log.into(),
            wake,
            copied,
        }
    }

    /// After each commit, on the writer's connection.
    pub(super) fn committed(&self, connection: &mut SqliteConnection) -> QueryResult<()> {
        let length = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        if length > TOO_LONG {
            // The thread is not woken again, so that it comes to an end.
            return self.settle(connection);
        }
        if length > LONG {
            // Full: the thread is at it.
            let _ = self.wake.try_send(());
        }
        if self.copied.try_recv().is_ok() {
            copy(connection)?;
        }
        Ok(())
    }

    /// Copies all of it and empties the file, so that a copy of the database file alone is whole.
    pub(super) fn settle(&self, connection: &mut SqliteConnection) -> QueryResult<()> {
        for _ in 0..ROUNDS {
            if empty(connection)?.busy == 0 {
                break;
            }
            // The thread has an end; when somebody else is busy, a moment is all there is to give.
            let _ = self.copied.recv_timeout(MOMENT);
        }
        Ok(())
    }
}

fn copy_when_woken(mut connection: SqliteConnection, woken: &Receiver<()>, done: &SyncSender<()>) {
    while woken.recv().is_ok() {
        for _ in 0..ROUNDS {
            match copy(&mut connection) {
                Ok(progress) if progress.log - progress.checkpointed > FEW_PAGES => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "store.checkpoint.failed");
                    break;
                }
            }
        }
        // Full: the writer has not looked since the last time.
        let _ = done.try_send(());
    }
}

/// Copies what no reader still needs in the log, and waits for nobody.
fn copy(connection: &mut SqliteConnection) -> QueryResult<Progress> {
    diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(connection)
}

/// Copies all of it and empties the file. Waits for readers and for another copy.
fn empty(connection: &mut SqliteConnection) -> QueryResult<Progress> {
    diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result(connection)
}
