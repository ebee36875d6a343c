//! A message store of an application: it keeps messages in memory and as lines of JSON in a file, which it reads at
//! the start.
//!
//! ```sh
//! cargo run --example own_store     # keeps `room:*` in rooms.jsonl
//! ```

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::future::ready;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};
use slackir::log::{
    Epoch, Flushed, LoadError, MessageId, MessageStore, Newest, OpenedRun, Pending, Seq, StoreFull,
    StoredEntry, StoredRows,
};
use slackir::prelude::*;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The most rows that may wait for the file.
const ROOM: usize = 10_000;

/// A line of the file.
#[derive(Clone, Deserialize, Serialize)]
enum Line {
    /// A run of a topic begins. A seq is unique within its run: clients resume by epoch and seq.
    Run { topic: String, epoch: Epoch },
    /// The run has ended in order, so that the next start continues it.
    End { topic: String },
    /// A message; or an update or a deletion of another, with the new payload of an updated one.
    Row {
        topic: String,
        row: StoredEntry,
        updated: Option<String>,
    },
}

/// The state of a topic.
#[derive(Default)]
struct Topic {
    epoch: Epoch,
    is_open: bool,
    rows: StoredRows,
}

#[derive(Default)]
struct State {
    topics: HashMap<String, Topic>,
    epochs: i64,
    /// Passed to the thread, but not yet in the file.
    waiting: usize,
}

/// The work of the thread.
enum Task {
    Write(Line, Option<Pending>),
    /// Answered once everything before it is in the file.
    Flush(oneshot::Sender<()>),
}

impl Task {
    fn begin(topic: &str, epoch: Epoch) -> Self {
        let topic = topic.to_owned();
        Self::Write(Line::Run { topic, epoch }, None)
    }
}

/// What the store reads.
type Read<T> = BoxFuture<'static, Result<T, LoadError>>;

struct FileStore {
    state: Arc<Mutex<State>>,
    tasks: Sender<Task>,
}

impl FileStore {
    /// Reads the file, or creates it.
    fn open(path: &Path) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        let mut state = State::default();
        for line in BufReader::new(&file).lines() {
            state.take_in(serde_json::from_str(&line?)?);
        }
        let state = Arc::new(Mutex::new(state));
        let (tasks, work) = mpsc::channel();
        let shared = Arc::clone(&state);
        thread::spawn(move || write_all(&work, &file, &shared));
        Ok(Arc::new(Self { state, tasks }))
    }

    fn give(&self, task: Task) {
        // The thread ends with the store.
        let _ = self.tasks.send(task);
    }

    /// A page of the topic's rows.
    fn read<T: Send + 'static>(&self, topic: &str, page: impl FnOnce(&StoredRows) -> T) -> Read<T> {
        let state = lock(&self.state);
        let page = match state.topics.get(topic) {
            Some(topic) => page(&topic.rows),
            None => page(&StoredRows::default()),
        };
        Box::pin(ready(Ok(page)))
    }
}

/// Runs on its own thread, so that only this thread waits for the disk. If the disk fails, the process ends:
/// clients would see messages that are not kept.
fn write_all(work: &Receiver<Task>, mut file: &File, state: &Mutex<State>) {
    while let Ok(task) = work.recv() {
        match task {
            Task::Write(line, row) => {
                let written = serde_json::to_string(&line).map_err(io::Error::other);
                let written = written
                    .and_then(|text| writeln!(file, "{text}"))
                    .and_then(|()| file.sync_data());
                if let Err(error) = written {
                    eprintln!("cannot save messages: {error}");
                    std::process::exit(1);
                }
                let mut state = lock(state);
                state.waiting -= usize::from(row.is_some());
                state.take_in(line);
                drop(state);
                if let Some(row) = row {
                    row.committed();
                }
            }
            Task::Flush(answer) => drop(answer.send(())),
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn take_in(&mut self, line: Line) {
        match line {
            Line::Run { topic, epoch } => {
                self.epochs = self.epochs.max(epoch.get());
                let topic = self.topics.entry(topic).or_default();
                (topic.epoch, topic.is_open) = (epoch, true);
            }
            Line::End { topic } => self.topics.entry(topic).or_default().is_open = false,
            Line::Row {
                topic,
                row,
                updated,
            } => {
                let topic = self.topics.entry(topic).or_default();
                topic.rows.store(row, updated);
            }
        }
    }

    fn open(&mut self, topic: &str, strict: bool) -> OpenedRun {
        let fresh = Epoch::new(self.epochs + 1);
        let run = match self.topics.get(topic) {
            None => OpenedRun::never_begun(fresh),
            // The process was killed in this run: clients may have seen messages that are not in the file.
            Some(topic) if topic.is_open && !strict => {
                OpenedRun::after_a_kill(fresh, topic.rows.last_seq())
            }
            Some(topic) => OpenedRun::continued(topic.epoch, topic.rows.last_seq()),
        };
        self.epochs = self.epochs.max(run.epoch.get());
        run
    }
}

impl MessageStore for FileStore {
    fn append(&self, row: Pending) -> Result<(), StoreFull> {
        let mut state = lock(&self.state);
        if state.waiting >= ROOM {
            return Err(StoreFull::retry_after(Duration::from_secs(1)));
        }
        state.waiting += 1;
        drop(state);
        let topic = row.topic().to_owned();
        if row.begins() {
            self.give(Task::begin(&topic, row.id().epoch));
        }
        let line = Line::Row {
            topic,
            row: row.to_stored(),
            updated: row.updated_payload().map(|json| json.get().to_owned()),
        };
        self.give(Task::Write(line, Some(row)));
        Ok(())
    }

    fn open(&self, topic: &str, strict: bool) -> Read<OpenedRun> {
        let (state, tasks) = (Arc::clone(&self.state), self.tasks.clone());
        let topic = topic.to_owned();
        Box::pin(async move {
            // Behind the messages that were published before.
            let (answer, written) = oneshot::channel();
            let _ = tasks.send(Task::Flush(answer));
            let _ = written.await;
            let run = lock(&state).open(&topic, strict);
            if run.next_epoch.is_none() {
                let _ = tasks.send(Task::begin(&topic, run.epoch));
            }
            Ok(run)
        })
    }

    fn close(&self, topic: &str, _: MessageId) {
        let topic = topic.to_owned();
        self.give(Task::Write(Line::End { topic }, None));
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Flushed> {
        Box::pin(async move {
            let (answer, written) = oneshot::channel();
            self.give(Task::Flush(answer));
            let _ = timeout(limit, written).await;
            Flushed::waiting(lock(&self.state).waiting)
        })
    }

    fn newest(&self, topic: &str, limit: usize, bytes: usize) -> Read<Newest> {
        self.read(topic, |rows| rows.newest(limit, bytes))
    }

    fn page(&self, topic: &str, after: Seq, limit: usize, bytes: usize) -> Read<Vec<StoredEntry>> {
        self.read(topic, |rows| rows.page(after, limit, bytes))
    }

    fn before(&self, topic: &str, seq: Seq, limit: usize, bytes: usize) -> Read<Vec<StoredEntry>> {
        self.read(topic, |rows| rows.before(seq, limit, bytes))
    }
}

struct Anyone;
impl Socket for Anyone {}

struct Room;

impl Channel for Room {
    type Info = ();

    async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
        Ok(Join::ok(Room).with_history(HistoryMode::MessagesHistory))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        ctx.broadcast(event, payload).await?;
        Ok(HandleIn::NoReply)
    }
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let store = FileStore::open(Path::new("rooms.jsonl"))?;
    let pubsub = PubSub::with_logs(vec![LogRule::new("room:*", &["say"], 50, store)]);
    let router = SocketRouter::new().channel::<Room>("room:*");
    let endpoint = Endpoint::builder(pubsub)
        .mount(Mount::new("/socket", Anyone, router))
        .build();
    slackir::serve(&endpoint, ("127.0.0.1", 4000)).await
}

#[cfg(test)]
mod tests {
    use slackir::testing::check_store;

    use super::*;

    #[actix_web::test]
    async fn it_keeps_what_a_store_promises() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("rooms.jsonl");
        check_store(async || FileStore::open(&path).expect("a sound file")).await;
    }
}
