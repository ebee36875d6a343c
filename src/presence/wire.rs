//! [`Message`]: what nodes tell each other of presences, as bytes. Pure.
//!
//! A message begins with a version and a kind, a byte each. Numbers are LEB128, texts have their length before them.
//! A node skips versions and kinds that it does not know, so that nodes of two releases run side by side.
//!
//! Entries travel without the ids of their channels, which have no meaning on another node.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::shared::{Entry, Process, SHARDS};
use super::state::{self, Clock};
use crate::message::RawJson;

const VERSION: u8 = 1;

/// The sets that nodes keep equal. The first half are presences, the second half the numbers of keys in topics whose
/// members get no lists; each half has a set for each shard.
pub(super) const SETS: usize = 2 * SHARDS;

/// A message has at most this many bytes of entries, unless a single one has more.
const MAX_BYTES: usize = 64_000;
/// A message has at most this many entries.
const MAX_ENTRIES: usize = 1_000;
/// Most bytes of the numbers with an entry or a range.
const OVERHEAD: usize = 16;
/// A higher clock is refused. So the next clock can always be counted.
const MAX_CLOCK: Clock = Clock::MAX / 2;

pub(super) type Record = state::Record<Process, RawJson>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Heartbeat(Box<Heartbeat>),
    /// Changes of the sender, or all that it has in a set.
    Changes {
        set: usize,
        record: Record,
    },
    /// These entries of the sender stay, without a channel, until a successor joins.
    Ended {
        set: usize,
        clocks: Vec<Clock>,
    },
    /// Asks for all that the receiver has in these sets of its own.
    Request {
        sets: Vec<usize>,
    },
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heartbeat {
    /// The node's name, the same in every run.
    pub(super) name: Arc<str>,
    /// Grows with every restart.
    pub(super) incarnation: u64,
    /// The node stops in order.
    pub(super) leaving: bool,
    /// The node was not heard before, or missed messages: it wants a heartbeat in return.
    pub(super) hello: bool,
    /// The clock of its last change that was sent, for each set.
    pub(super) clocks: [Clock; SETS],
}

/// The bytes are no message of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a presence message of another node cannot be read")]
pub(super) struct Malformed;

impl Heartbeat {
    pub(super) fn encode(&self) -> Bytes {
        let mut to = PresenceWriter::new(0);
        to.text(&self.name);
        to.number(self.incarnation);
        to.number(u64::from(self.leaving) | u64::from(self.hello) << 1);
        self.clocks.iter().for_each(|&clock| to.number(clock));
        to.end()
    }
}

/// [`Message::Ended`], in as many messages as it needs.
pub(super) fn ended(set: usize, clocks: &[Clock]) -> impl Iterator<Item = Bytes> {
    clocks.chunks(MAX_BYTES / OVERHEAD).map(move |clocks| {
        let mut to = PresenceWriter::new(2);
        to.count(set);
        to.count(clocks.len());
        clocks.iter().for_each(|&clock| to.number(clock));
        to.end()
    })
}

/// [`Message::Request`].
pub(super) fn request(sets: &[usize]) -> Bytes {
    let mut to = PresenceWriter::new(3);
    to.count(sets.len());
    sets.iter().for_each(|&set| to.count(set));
    to.end()
}

/// [`Message::Changes`], in as many messages as it needs. Those with the highest clocks come first: the new meta of
/// an update joins before the old one leaves, even in separate messages.
pub(super) fn changes(set: usize, record: &Record) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut part = Part::default();
    let ranges: Vec<_> = record.seen.ranges().collect();
    for (first, mut last) in ranges.into_iter().rev() {
        for (&clock, entry) in record.present.range(first..=last).rev() {
            let bytes = entry.topic.len() + entry.key.len() + entry.meta.get().len() + OVERHEAD;
            if part.is_full(bytes) {
                if clock < last {
                    part.ranges.push((clock + 1, last));
                    last = clock;
                }
                messages.push(std::mem::take(&mut part).encode(set));
            }
            part.bytes += bytes;
            part.entries += 1;
            part.topics
                .entry(&entry.topic)
                .or_default()
                .push((clock, entry));
        }
        part.ranges.push((first, last));
        part.bytes += OVERHEAD;
        if part.is_full(0) {
            messages.push(std::mem::take(&mut part).encode(set));
        }
    }
    if !part.ranges.is_empty() {
        messages.push(part.encode(set));
    }
    messages
}

/// A part of a record that fits into a message.
#[derive(Default)]
struct Part<'a> {
    /// From the last to the first.
    ranges: Vec<(Clock, Clock)>,
    topics: BTreeMap<&'a str, Vec<(Clock, &'a Entry)>>,
    entries: usize,
    bytes: usize,
}

impl Part<'_> {
    fn is_full(&self, more: usize) -> bool {
        self.bytes > 0 && (self.bytes + more > MAX_BYTES || self.entries >= MAX_ENTRIES)
    }

    fn encode(self, set: usize) -> Bytes {
        let mut to = PresenceWriter::new(1);
        to.count(set);
        to.count(self.ranges.len());
        let mut before = 0;
        for (first, last) in self.ranges.into_iter().rev() {
            to.number(first - before);
            to.number(last - first);
            before = last;
        }
        to.count(self.topics.len());
        for (topic, entries) in self.topics {
            to.text(topic);
            to.count(entries.len());
            for (clock, entry) in entries {
                to.number(clock);
                to.text(&entry.key);
                to.text(entry.meta.get());
            }
        }
        to.end()
    }
}

/// Reads a message. `topic` gives the name of a topic in a set, so that equal names can share their memory. `None`:
/// another version, or a kind that this one does not know.
pub(super) fn decode(
    bytes: &[u8],
    topic: impl Fn(usize, &str) -> Arc<str>,
) -> Result<Option<Message>, Malformed> {
    let (&version, rest) = bytes.split_first().ok_or(Malformed)?;
    if version != VERSION {
        return Ok(None);
    }
    let (&kind, rest) = rest.split_first().ok_or(Malformed)?;
    let mut from = PresenceReader(rest);
    let message = match kind {
        0 => Message::Heartbeat(Box::new(from.heartbeat()?)),
        1 => {
            let set = from.set()?;
            let record = from.record(|name| topic(set, name))?;
            Message::Changes { set, record }
        }
        2 => {
            let set = from.set()?;
            let clocks = from.many(PresenceReader::clock)?;
            Message::Ended { set, clocks }
        }
        3 => {
            let sets = from.many(PresenceReader::set)?;
            Message::Request { sets }
        }
        _ => return Ok(None),
    };
    from.0.is_empty().then_some(Some(message)).ok_or(Malformed)
}

struct PresenceWriter(Vec<u8>);

impl PresenceWriter {
    fn new(kind: u8) -> Self {
        Self(vec![VERSION, kind])
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn end(self) -> Bytes {
        self.0.into()
    }
}

struct PresenceReader<'a>(&'a [u8]);

impl<'a> PresenceReader<'a> {
    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn clock(&mut self) -> Result<Clock, Malformed> {
        let clock = self.number()?;
        (clock <= MAX_CLOCK).then_some(clock).ok_or(Malformed)
    }

    fn set(&mut self) -> Result<usize, Malformed> {
        let set = self.number()? as usize;
        (set < SETS).then_some(set).ok_or(Malformed)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Malformed)
    }

    /// A count, and as many items. Reserves nothing: a wrong count ends where the bytes end.
    fn many<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.number()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn heartbeat(&mut self) -> Result<Heartbeat, Malformed> {
        let name = self.text()?.into();
        let incarnation = self.number()?;
        let flags = self.number()?;
        let mut clocks = [0; SETS];
        for clock in &mut clocks {
            *clock = self.clock()?;
        }
        Ok(Heartbeat {
            name,
            incarnation,
            leaving: flags & 1 != 0,
            hello: flags & 2 != 0,
            clocks,
        })
    }

    fn record(&mut self, topic: impl Fn(&str) -> Arc<str>) -> Result<Record, Malformed> {
        let mut record = Record::default();
        let mut before = 0_u64;
        for _ in 0..self.number()? {
            let first = before.checked_add(self.clock()?).ok_or(Malformed)?;
            let last = first.checked_add(self.clock()?).ok_or(Malformed)?;
            if first <= before || last > MAX_CLOCK {
                return Err(Malformed);
            }
            record.seen.insert(first, last);
            before = last;
        }
        for _ in 0..self.number()? {
            let topic = topic(self.text()?);
            for _ in 0..self.number()? {
                let clock = self.clock()?;
                let entry = Entry {
                    process: Process::Elsewhere,
                    topic: Arc::clone(&topic),
                    key: self.text()?.into(),
                    meta: self.meta()?,
                };
                record.present.insert(clock, Arc::new(entry));
            }
        }
        Ok(record)
    }

    /// JSON text. It goes to clients as it is.
    fn meta(&mut self) -> Result<RawJson, Malformed> {
        let text = self.text()?;
        let json: &RawValue = serde_json::from_str(text).map_err(|_| Malformed)?;
        Ok(RawJson::trusted(json.get().into()))
    }
}

#[cfg(test)]
mod tests;
