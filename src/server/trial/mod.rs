//! [`Trial`]: clients that talk to [`MemoryRooms`] by a script, and the frames that each of them gets.
//!
//! Everything runs on one thread, and the store commits only when the trial asks for it. So the output of a script is
//! the same at each run, but for times and random ids.

mod script;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use self::script::Action;
pub(crate) use self::script::{InvalidStep, Step, parse};
use crate::log::MemoryStore;
use crate::server::config::ServeConfig;
use crate::server::memory_rooms::MemoryRooms;
use crate::server::rooms::IdentityError;
use crate::socket::{ConnectInfo, Params};
use crate::transport::InProcess;

/// A step is over after this many pauses in a row without a frame.
const PAUSES: u32 = 3;
/// The time for work that is not on this thread, such as that of timers.
const PAUSE: Duration = Duration::from_millis(1);
/// How often the other tasks of this thread run before a pause.
const TURNS: u32 = 50;

/// The clients of a trial. It needs an actix runtime.
pub(crate) struct Trial {
    rooms: MemoryRooms,
    /// By their names.
    clients: BTreeMap<String, InProcess>,
}

/// The line of a client for which nothing was connected.
const NOT_CONNECTED: &str = "is not connected";

impl Trial {
    /// A trial of these settings, without clients.
    ///
    /// # Errors
    /// If the identity needs a secret and there is none.
    pub(crate) fn new(config: &ServeConfig) -> Result<Self, IdentityError> {
        Ok(Self {
            rooms: MemoryRooms::of(config, MemoryStore::without_thread())?,
            clients: BTreeMap::new(),
        })
    }

    /// Takes a step. Returns the lines of its output: the step, and what each client gets.
    pub(crate) async fn take(&mut self, step: Step<'_>) -> Vec<String> {
        let Step { text, action } = step;
        let mut lines = vec![text.to_owned()];
        match action {
            Action::Nothing => return lines,
            Action::Connect(client, params) => {
                lines.extend(self.connect(client, Params::new(params)).await);
            }
            Action::Close(client) => match self.clients.remove(client) {
                Some(connection) => {
                    connection.say_goodbye();
                    lines.extend(self.frames().await);
                    return lines;
                }
                None => lines.push(format!("{client} {NOT_CONNECTED}")),
            },
            Action::Send(client, message) => match self.clients.get(client) {
                Some(connection) => connection.send(message),
                None => lines.push(format!("{client} {NOT_CONNECTED}")),
            },
        }
        lines.extend(self.frames().await);
        lines
    }

    /// Connects a client. Returns the line that says why not.
    async fn connect(&mut self, client: &str, params: Params) -> Option<String> {
        if self.clients.contains_key(client) {
            return Some(format!("{client} is connected already"));
        }
        // MemoryRooms has mounted it.
        let mounted = self.rooms.endpoint().mounted(self.rooms.path())?;
        match InProcess::connect(mounted, &params, &ConnectInfo::default()).await {
            Ok(connection) => {
                self.clients.insert(client.to_owned(), connection);
                None
            }
            Err(refused) => Some(format!("{client} is refused (403): {}", refused.reason())),
        }
    }

    /// The frames that clients get until nothing happens any more, as lines, in the order of the clients' names.
    async fn frames(&mut self) -> Vec<String> {
        let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut pauses = 0;
        while pauses < PAUSES {
            let before: usize = received.values().map(Vec::len).sum();
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
                self.rooms.store().commit();
                self.drain(&mut received).await;
            }
            let after: usize = received.values().map(Vec::len).sum();
            if after > before {
                pauses = 0;
            } else {
                pauses += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
        received.into_values().flatten().collect()
    }

    /// Takes the frames that are there.
    async fn drain(&mut self, received: &mut BTreeMap<String, Vec<String>>) {
        let mut ended = Vec::new();
        for (name, connection) in &self.clients {
            let lines = received.entry(name.clone()).or_default();
            loop {
                let frame = poll_fn(|cx| Poll::Ready(connection.poll_frame(cx))).await;
                match frame {
                    Poll::Pending => break,
                    Poll::Ready(Some(frame)) => lines.push(format!("{name} <- {}", text(&frame))),
                    Poll::Ready(None) => {
                        lines.push(format!("{name} is disconnected by the server"));
                        ended.push(name.clone());
                        break;
                    }
                }
            }
        }
        self.clients.retain(|name, _| !ended.contains(name));
    }
}

/// A frame as text.
fn text(frame: &Bytes) -> String {
    String::from_utf8(frame.to_vec())
        .unwrap_or_else(|_| format!("a binary frame of {} bytes", frame.len()))
}
