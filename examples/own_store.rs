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
use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};
use slackir::log::{
    Change, Epoch, Flushed, LoadError, MessageId, MessageStore, Newest, OpenedRun, Pending, Seq,
    StoreFull, StoredEntry,
};
use slackir::prelude::*;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// More than the seqs that a run can have given to messages that were not stored.
const JUMP: i64 = 1 << 32;
/// The most rows that may wait for the file.
const ROOM: usize = 10_000;

/// A line of the file.
#[derive(Clone, Deserialize, Serialize)]
enum Line {
    /// A run of a topic begins. A seq is unique within its run: clients resume by epoch and seq.
    Run { topic: String, epoch: Epoch },
    /// The run has ended in order, so that the next start continues it.
    End { topic: String },
    /// A message; or an update or a deletion of the message `target`.
    Row {
        topic: String,
        seq: Seq,
        event: String,
        payload: String,
        target: Option<Seq>,
        updated: Option<String>,
        client_ref: Option<String>,
        at: SystemTime,
    },
}

/// The state of a topic.
#[derive(Default)]
struct Topic {
    epoch: Epoch,
    is_open: bool,
    rows: Vec<StoredEntry>,
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

    fn rows(&self, topic: &str) -> Vec<StoredEntry> {
        let state = lock(&self.state);
        state
            .topics
            .get(topic)
            .map_or_else(Vec::new, |topic| topic.rows.clone())
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
                seq,
                event,
                payload,
                target,
                updated,
                client_ref,
                at,
            } => {
                let rows = &mut self.topics.entry(topic).or_default().rows;
                match (target, updated) {
                    (None, _) => {}
                    (Some(target), None) => rows.retain(|row| row.seq != target),
                    (Some(target), Some(updated)) => {
                        rows.iter_mut()
                            .filter(|row| row.seq == target)
                            .for_each(|row| row.payload.clone_from(&updated));
                    }
                }
                rows.push(StoredEntry {
                    seq,
                    event,
                    payload,
                    target,
                    at,
                    client_ref,
                });
            }
        }
    }

    fn run(&mut self, topic: &str, strict: bool) -> OpenedRun {
        let (number, fresh) = (self.epochs + 1, Epoch::new(self.epochs + 1));
        let Some(topic) = self.topics.get(topic) else {
            self.epochs = number;
            return OpenedRun {
                epoch: fresh,
                next_epoch: Some(fresh),
                ..OpenedRun::default()
            };
        };
        let head = topic.rows.last().map_or(Seq::ZERO, |row| row.seq);
        if topic.is_open && !strict {
            // The process was killed in this run: clients may have seen messages that are not in the file.
            self.epochs = number;
            return OpenedRun {
                epoch: fresh,
                head: head.plus(JUMP),
                ..OpenedRun::default()
            };
        }
        OpenedRun {
            epoch: topic.epoch,
            next_epoch: Some(topic.epoch),
            head,
            ..OpenedRun::default()
        }
    }
}

/// The last rows: at most `limit` rows and `bytes` of payload, but at least one if there is any.
fn last(mut rows: Vec<StoredEntry>, limit: usize, bytes: usize) -> Vec<StoredEntry> {
    rows.reverse();
    let mut rows = first(rows, limit, bytes);
    rows.reverse();
    rows
}

fn first(rows: Vec<StoredEntry>, limit: usize, bytes: usize) -> Vec<StoredEntry> {
    let mut taken = 0;
    let fits = |(at, row): &(usize, StoredEntry)| {
        taken += row.payload.len();
        *at == 0 || taken <= bytes
    };
    rows.into_iter()
        .take(limit)
        .enumerate()
        .take_while(fits)
        .map(|(_, row)| row)
        .collect()
}

impl MessageStore for FileStore {
    fn append(&self, row: Pending) -> Result<(), StoreFull> {
        let mut state = lock(&self.state);
        if state.waiting >= ROOM {
            return Err(StoreFull {
                retry_after_ms: 1_000,
            });
        }
        state.waiting += 1;
        drop(state);
        let topic = row.topic().to_owned();
        if row.begins() {
            self.give(Task::Write(
                Line::Run {
                    topic: topic.clone(),
                    epoch: row.id().epoch,
                },
                None,
            ));
        }
        let line = Line::Row {
            topic,
            seq: row.seq(),
            event: row.event().to_owned(),
            payload: row.payload().get().to_owned(),
            target: row.change().map(Change::target),
            updated: row.updated_payload().map(|json| json.get().to_owned()),
            client_ref: row.client_ref().map(str::to_owned),
            at: row.at(),
        };
        self.give(Task::Write(line, Some(row)));
        Ok(())
    }

    fn open(&self, topic: &str, strict: bool) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        let (state, tasks, topic) = (
            Arc::clone(&self.state),
            self.tasks.clone(),
            topic.to_owned(),
        );
        Box::pin(async move {
            // Behind the messages that were published before.
            let (answer, written) = oneshot::channel();
            let _ = tasks.send(Task::Flush(answer));
            let _ = written.await;
            let run = lock(&state).run(&topic, strict);
            if run.next_epoch.is_none() {
                let _ = tasks.send(Task::Write(
                    Line::Run {
                        topic,
                        epoch: run.epoch,
                    },
                    None,
                ));
            }
            Ok(run)
        })
    }

    fn newest(
        &self,
        topic: &str,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Newest, LoadError>> {
        let all = self.rows(topic);
        let client_refs = all
            .iter()
            .filter_map(|row| Some((row.client_ref.clone()?, row.seq)))
            .collect();
        let messages = all
            .iter()
            .filter(|row| row.target.is_none())
            .cloned()
            .collect();
        let oldest = last(messages, limit, bytes)
            .first()
            .map_or(Seq::MAX, |row| row.seq);
        let entries = all.into_iter().filter(|row| row.seq >= oldest).collect();
        Box::pin(ready(Ok(Newest {
            entries,
            client_refs,
        })))
    }

    fn close(&self, topic: &str, _: MessageId) {
        self.give(Task::Write(
            Line::End {
                topic: topic.to_owned(),
            },
            None,
        ));
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Flushed> {
        Box::pin(async move {
            let (answer, written) = oneshot::channel();
            self.give(Task::Flush(answer));
            let _ = timeout(limit, written).await;
            let waiting = lock(&self.state).waiting;
            Flushed {
                waiting,
                at_risk: waiting,
            }
        })
    }

    fn page(
        &self,
        topic: &str,
        after: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let rows = self
            .rows(topic)
            .into_iter()
            .filter(|row| row.seq > after)
            .collect();
        Box::pin(ready(Ok(first(rows, limit, bytes))))
    }

    fn before(
        &self,
        topic: &str,
        before: Seq,
        limit: usize,
        bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredEntry>, LoadError>> {
        let is_older = |row: &StoredEntry| row.seq < before && row.target.is_none();
        let rows = self.rows(topic).into_iter().filter(is_older).collect();
        Box::pin(ready(Ok(last(rows, limit, bytes))))
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
