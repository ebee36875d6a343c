//! [`Teller`]: the queue of notices about members, which rooms fill without waiting.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::notice::{ToldMember, WrittenNotice};
use super::occupancy::Occupancy;
use crate::lock::lock;
use crate::metrics::told_metrics;
use crate::server::language::{NoticeKind, Tell};

/// The most notices in the queue.
const MAX_QUEUE: usize = 10_000;
/// The most bytes of the notices in the queue.
const MAX_QUEUE_BYTES: usize = 16_000_000;
/// The time between two log lines about dropped notices.
const QUIET: Duration = Duration::from_secs(60);

/// Takes notices of all workers.
#[derive(Default)]
pub(crate) struct Teller {
    state: Mutex<TellerState>,
    /// A notice is queued, a grace has begun, or the server ends.
    changed: Notify,
}

named_debug!(Teller);

#[derive(Default)]
struct TellerState {
    queue: VecDeque<WrittenNotice>,
    bytes: usize,
    occupancy: Occupancy,
    is_ending: bool,
    /// Dropped notices since the last line.
    dropped: u64,
    last_line: Option<Instant>,
}

/// The state of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueState {
    pub(super) len: usize,
    /// When a topic's grace ends next.
    pub(super) deadline: Option<Instant>,
    /// The server ends: nothing waits any more.
    pub(super) is_ending: bool,
}

impl Teller {
    /// A member has joined a room that tells this.
    pub(crate) fn joined(&self, tell: Tell, member: ToldMember<'_>) {
        let at = SystemTime::now();
        let joined = tell.has(NoticeKind::Joined);
        let joined = joined.then(|| WrittenNotice::of_member(member, None, at));
        {
            let mut state = lock(&self.state);
            state.expire(Instant::now());
            let tells_vacated = tell.has(NoticeKind::Vacated);
            if tell.counts()
                && state.occupancy.enter(member.topic, tells_vacated)
                && tell.has(NoticeKind::Occupied)
            {
                let occupied = WrittenNotice::of_topic(NoticeKind::Occupied, member.topic, at);
                state.push(occupied);
            }
            if let Some(joined) = joined {
                state.push(joined);
            }
        }
        self.changed.notify_one();
    }

    /// A member that [`joined`](Self::joined) has left.
    pub(crate) fn left(&self, tell: Tell, member: ToldMember<'_>, reason: &str) {
        let at = SystemTime::now();
        let left = tell.has(NoticeKind::Left);
        let left = left.then(|| WrittenNotice::of_member(member, Some(reason), at));
        {
            let mut state = lock(&self.state);
            let now = Instant::now();
            state.expire(now);
            if let Some(left) = left {
                state.push(left);
            }
            if tell.counts() {
                state.occupancy.leave(member.topic, now, at);
            }
        }
        self.changed.notify_one();
    }

    /// Waits for a change since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn look(&self) -> QueueState {
        let mut state = lock(&self.state);
        state.expire(Instant::now());
        QueueState {
            len: state.queue.len(),
            deadline: state.occupancy.deadline(),
            is_ending: state.is_ending,
        }
    }

    /// The time and the bytes of the oldest notice.
    pub(super) fn first(&self) -> Option<(SystemTime, usize)> {
        let state = lock(&self.state);
        let first = state.queue.front()?;
        Some((first.at, first.json.get().len()))
    }

    pub(super) fn pop(&self) -> Option<WrittenNotice> {
        let mut state = lock(&self.state);
        let first = state.queue.pop_front()?;
        state.bytes -= first.json.get().len();
        Some(first)
    }

    /// The server ends: topics without members are vacated at once.
    pub(super) fn end(&self) {
        {
            let mut state = lock(&self.state);
            state.is_ending = true;
            while let Some((topic, at)) = state.occupancy.vacate() {
                state.push(WrittenNotice::of_topic(NoticeKind::Vacated, &topic, at));
            }
        }
        self.changed.notify_one();
    }
}

impl TellerState {
    fn expire(&mut self, now: Instant) {
        while let Some((topic, at)) = self.occupancy.expire(now) {
            self.push(WrittenNotice::of_topic(NoticeKind::Vacated, &topic, at));
        }
    }

    fn push(&mut self, notice: WrittenNotice) {
        let bytes = self.bytes + notice.json.get().len();
        if self.queue.len() < MAX_QUEUE && bytes <= MAX_QUEUE_BYTES {
            self.bytes = bytes;
            self.queue.push_back(notice);
            return;
        }
        let dropped = told_metrics().notices(notice.kind.name(), "dropped");
        dropped.increment(1);
        self.dropped += 1;
        if self.last_line.is_none_or(|last| last.elapsed() >= QUIET) {
            self.last_line = Some(Instant::now());
            let dropped = std::mem::take(&mut self.dropped);
            tracing::warn!(
                dropped,
                "hook.told.dropped: the newest notices about members are lost; the backend is \
                 away or too slow"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::value::{Error, SeqDeserializer};
    use serde_json::{Value, json};

    use super::*;

    fn tell(kinds: &[&'static str]) -> Tell {
        let kinds = SeqDeserializer::<_, Error>::new(kinds.iter().copied());
        Tell::deserialize(kinds).expect("known kinds")
    }

    fn member<'a>(topic: &'a str, user: &'a Value) -> ToldMember<'a> {
        ToldMember {
            topic,
            socket: "9b",
            user,
        }
    }

    fn kinds(teller: &Teller) -> Vec<&'static str> {
        let notices = std::iter::from_fn(|| teller.pop());
        notices.map(|notice| notice.kind.name()).collect()
    }

    #[test]
    fn a_room_tells_what_it_names_and_the_end_vacates_topics_at_once() {
        let (teller, user) = (Teller::default(), json!({"id": 7}));
        let (all, some) = (
            tell(&["joined", "left", "occupied", "vacated"]),
            tell(&["occupied"]),
        );
        teller.joined(all, member("a", &user));
        teller.joined(all, member("a", &user));
        teller.joined(some, member("b", &user));
        let first = teller.pop().expect("occupied").json;
        let first: Value = serde_json::from_str(first.get()).expect("JSON");
        assert_eq!(
            (&first["kind"], &first["topic"]),
            (&json!("occupied"), &json!("a"))
        );
        let joined = teller.pop().expect("joined").json;
        let mut joined: Value = serde_json::from_str(joined.get()).expect("JSON");
        assert!(joined["at"].take().is_u64());
        let expected =
            json!({"kind": "joined", "topic": "a", "socket": "9b", "user": {"id": 7}, "at": null});
        assert_eq!(joined, expected);
        assert_eq!(kinds(&teller), ["joined", "occupied"]);
        for (tell, topic) in [(all, "a"), (all, "a"), (some, "b")] {
            teller.left(tell, member(topic, &user), "left");
        }
        assert!(teller.look().deadline.is_some());
        teller.end();
        assert_eq!(kinds(&teller), ["left", "left", "vacated"]);
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let teller = Teller::default();
        let joined = tell(&["joined"]);
        for n in 0..=MAX_QUEUE {
            teller.joined(joined, member("a", &json!(n)));
        }
        let users = std::iter::from_fn(|| teller.pop()).map(|notice| {
            let notice: Value = serde_json::from_str(notice.json.get()).expect("JSON");
            notice["user"].as_u64()
        });
        assert!(users.eq((0..MAX_QUEUE as u64).map(Some)));
        let large = json!("x".repeat(MAX_QUEUE_BYTES / 2));
        for _ in 0..3 {
            teller.joined(joined, member("a", &large));
        }
        assert_eq!(teller.look().len, 1);
    }
}
