//! Compares what clients have with what the database has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use tokio::time::Instant;

use super::faults::Counts;
use super::listener::{Listener, Segment};
use super::publisher::Publisher;

/// The rows of a topic: what each message is known by, by seq.
pub(crate) type Rows = BTreeMap<i64, String>;

/// What a test has done and found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) counts: Counts,
    pub(crate) messages: usize,
    pub(crate) rows: usize,
    pub(crate) deliveries: u64,
    pub(crate) reconnects: u64,
    pub(crate) resumed: u64,
    pub(crate) histories: u64,
    pub(crate) refused: HashMap<String, usize>,
    /// Rows that a client does not have, though it has later ones.
    pub(crate) gaps: usize,
    /// Messages that a client has got twice, by id.
    pub(crate) doubles: usize,
    /// Messages that a client has got twice, under two ids.
    pub(crate) repeated: usize,
    pub(crate) out_of_order: usize,
    /// Other messages than the table has under their id.
    pub(crate) differing: usize,
    pub(crate) acknowledged_lost: usize,
    pub(crate) stored_twice: usize,
    /// Messages that clients have got, and that the table has under no id.
    pub(crate) seen_not_stored: usize,
    /// Clients that have not got the last message.
    pub(crate) behind: usize,
    /// Publishers whose last message was never acknowledged.
    pub(crate) unanswered: usize,
    /// The first findings.
    pub(crate) examples: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub(crate) fn is_exact(&self) -> bool {
        let wrong = [
            self.gaps,
            self.doubles,
            self.repeated,
            self.out_of_order,
            self.differing,
            self.acknowledged_lost,
            self.stored_twice,
            self.seen_not_stored,
            self.behind,
            self.unanswered,
        ];
        wrong.iter().all(|count| *count == 0)
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < 40 {
            self.examples.push(text);
        }
    }

    /// Checks what a listener has.
    pub(crate) fn listened(&mut self, listener: &Listener, rows: &Rows, begun: Instant) {
        let stored: HashMap<&str, i64> = rows.iter().map(|(seq, r)| (r.as_str(), *seq)).collect();
        for segment in &listener.segments {
            self.segment(listener, segment, rows, &stored, begun);
        }
        let last = listener.segments.last();
        let last = last.map(|last| last.told.last().map_or(last.after, |told| told.seq));
        let end = rows.last_key_value().map(|(seq, _)| *seq);
        if end > last {
            self.behind += 1;
            let visits = listener.visits.iter().rev().take(4);
            let visits: Vec<_> = visits.map(|v| (v.node, v.note.as_str())).collect();
            let name = &listener.name;
            self.example(format!(
                "behind: {name} ends at {last:?} of {end:?}: {visits:?}"
            ));
        }
    }

    fn segment(
        &mut self,
        listener: &Listener,
        segment: &Segment,
        rows: &Rows,
        stored: &HashMap<&str, i64>,
        begun: Instant,
    ) {
        let (mut last, mut seqs) = (segment.after, HashSet::new());
        let mut marks = HashMap::new();
        let about = |at: usize| {
            let told = &segment.told[at];
            let visit = &listener.visits[told.visit];
            format!(
                "{} ({}) at {:.3} on visit {} of {:.3} to {} ({}): {} {}",
                listener.name,
                listener.topic,
                (told.at - begun).as_secs_f64(),
                told.visit,
                (visit.at - begun).as_secs_f64(),
                visit.node,
                visit.note,
                told.seq,
                told.mark
            )
        };
        for (at, told) in segment.told.iter().enumerate() {
            if seqs.contains(&told.seq) {
                self.doubles += 1;
                self.example(format!("double: {}", about(at)));
                continue;
            }
            if told.seq <= last {
                self.out_of_order += 1;
                self.example(format!("out of order after {last}: {}", about(at)));
            }
            seqs.insert(told.seq);
            if let Some(first) = marks.insert(told.mark.as_str(), at) {
                self.repeated += 1;
                self.example(format!("repeated: {}, first {}", about(at), about(first)));
            }
            for (seq, mark) in rows.range(last + 1..told.seq.max(last + 1)) {
                self.gaps += 1;
                self.example(format!("gap: {seq} {mark} after {last}: {}", about(at)));
            }
            last = last.max(told.seq);
            match (rows.get(&told.seq), stored.get(told.mark.as_str())) {
                (Some(row), _) if *row == told.mark => {}
                (Some(row), _) => {
                    self.differing += 1;
                    self.example(format!("differing: the table has {row}: {}", about(at)));
                }
                // A retry was sent again, and is stored under its first id.
                (None, Some(_)) => {}
                (None, None) => {
                    self.seen_not_stored += 1;
                    self.example(format!("seen and not stored: {}", about(at)));
                }
            }
        }
    }

    /// Checks what a publisher knows.
    pub(crate) fn published(&mut self, publisher: &Publisher, rows: &Rows) {
        self.messages += publisher.sent;
        for (reason, count) in &publisher.refused {
            *self.refused.entry(reason.clone()).or_default() += count;
        }
        for (mark, seq) in &publisher.acknowledged {
            if rows.get(seq) == Some(mark) {
                continue;
            }
            self.acknowledged_lost += 1;
            let elsewhere = rows.iter().find(|(_, row)| *row == mark);
            self.example(format!(
                "acknowledged and lost: {mark} at {seq}, stored at {elsewhere:?}"
            ));
        }
        if let Some(pending) = &publisher.pending {
            self.unanswered += 1;
            self.example(format!("unanswered: {pending}"));
        }
    }

    /// Checks the table.
    pub(crate) fn stored(&mut self, rows: &Rows) {
        self.rows += rows.len();
        let mut refs = HashSet::new();
        for (seq, mark) in rows {
            if !refs.insert(mark) {
                self.stored_twice += 1;
                self.example(format!("stored twice: {mark} at {seq}"));
            }
        }
    }
}

/// What `scripts/cluster_faults` prints.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            cuts,
            kills,
            stops,
            bus_kills,
            outages,
            flushes,
            script_flushes,
            database,
        } = self.counts;
        writeln!(f, "seed {}, {} s of faults", self.seed, self.seconds)?;
        writeln!(
            f,
            "  messages {}, rows {}, deliveries {}, connections {}, resumed {}, histories {}, refusals {:?}",
            self.messages,
            self.rows,
            self.deliveries,
            self.reconnects,
            self.resumed,
            self.histories,
            self.refused
        )?;
        writeln!(
            f,
            "  cuts {cuts}, kills {kills}, stops {stops}, kills of the bus {bus_kills}, outages {outages}, FLUSHALL {flushes}, \
             SCRIPT FLUSH {script_flushes}, pauses of the database {database}"
        )?;
        write!(
            f,
            "  gaps {}, doubles {}, repeated {}, out of order {}, differing {}, acknowledged and lost {}, \
             stored twice {}, seen and not stored {}, behind {}, unanswered {}",
            self.gaps,
            self.doubles,
            self.repeated,
            self.out_of_order,
            self.differing,
            self.acknowledged_lost,
            self.stored_twice,
            self.seen_not_stored,
            self.behind,
            self.unanswered
        )?;
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        Ok(())
    }
}
