//! [`Resume`]: the messages between a known message and the head, from the journal and the database.

use crate::log::{Epoch, MessageId, Seq};

/// Where a topic is, read in one step.
#[derive(Clone, Debug)]
pub(crate) struct Position<M> {
    /// The epoch of the topic's run.
    pub(crate) epoch: Epoch,
    /// The last seq that was given.
    pub(crate) head: Seq,
    /// The messages that may not be in the database yet, in order of seq.
    pub(crate) journal: Vec<(Seq, M)>,
    /// No message has a seq after the first of these, up to the second: there, another run ends and this one begins.
    pub(crate) unused: Option<(Seq, Seq)>,
}

impl<M> Position<M> {
    /// The id of the head.
    pub(crate) fn id(&self) -> MessageId {
        MessageId::new(self.epoch, self.head)
    }
}

/// Merges the journal with pages of the database. The pages must be read after the position: a message that
/// was not in the journal then is in the database.
///
/// For a client that resumes:
/// 1. Read the position. Then make a `Resume` of the replica's `shown`, with the topic's lock held. If the
///    epochs of the two differ, try again once the replica is live.
/// 2. Send the client each page, until [`is_done`](Self::is_done).
/// 3. With the topic's lock held, send the client the messages of the tail after [`after`](Self::after), and
///    make it live. If the tail does not reach so far back, resume again from there.
///
/// A client may be ahead of the node to which it comes. It must not go live before `shown` has reached its
/// cursor, else it gets messages twice.
#[derive(Debug)]
pub(crate) struct Resume<M> {
    /// Everything up to this message was merged.
    cursor: Seq,
    /// The last message to merge.
    through: MessageId,
    position: Position<M>,
    /// The number of journal entries that were merged or do not belong here.
    merged: usize,
}

impl<M: Clone> Resume<M> {
    /// The messages after `cursor`, up to the position's head.
    pub(crate) fn new(cursor: MessageId, position: Position<M>) -> Self {
        let through = position.id();
        Self::between(cursor.seq, through, position)
    }

    #[cfg(test)]
    /// The messages after `cursor` that members have got, up to `shown` or the position's head. Later ones
    /// come from the tail.
    pub(crate) fn of_client(cursor: MessageId, position: Position<M>, shown: MessageId) -> Self {
        let head = position.id();
        let through = if shown.seq < head.seq { shown } else { head };
        Self::between(cursor.seq, through, position)
    }

    fn between(cursor: Seq, through: MessageId, position: Position<M>) -> Self {
        let journal = &position.journal;
        Self {
            cursor,
            through,
            merged: journal.partition_point(|(seq, _)| *seq <= cursor),
            position,
        }
    }

    /// The database's rows are needed after this seq.
    pub(crate) fn after(&self) -> Seq {
        self.cursor
    }

    /// The database's rows are needed up to this seq.
    pub(crate) fn through(&self) -> Seq {
        self.through.seq
    }

    /// The message up to which this is complete, in the end.
    pub(super) fn head(&self) -> MessageId {
        self.through
    }

    /// Whether everything was merged.
    pub(crate) fn is_done(&self) -> bool {
        self.cursor >= self.through.seq
    }

    /// Whether the journal lacks messages.
    pub(crate) fn needs_rows(&self) -> bool {
        let (cursor, through) = (self.cursor, self.through.seq);
        let unused = self.position.unused.map_or(0, |(from, to)| {
            to.min(through).distance_from(from.max(cursor))
        });
        let missing = through.distance_from(cursor) - unused;
        self.entries_through(through).len() < missing
    }

    /// Merges the next rows after [`after`](Self::after), in order of seq. `complete`: there are no more up
    /// to [`through`](Self::through). Returns the messages to send.
    pub(crate) fn page(
        &mut self,
        rows: Vec<(MessageId, M)>,
        complete: bool,
    ) -> Vec<(MessageId, M)> {
        let end = rows.last().map(|(id, _)| id.seq);
        let end = end.filter(|_| !complete).unwrap_or(self.through.seq);
        let epoch = self.position.epoch;
        let entries = self.entries_through(end).iter();
        let mut messages: Vec<_> = entries
            .map(|(seq, message)| (MessageId::new(epoch, *seq), message.clone()))
            .collect();
        self.merged += messages.len();
        messages.extend(rows);
        // Stable: the journal's entry stays in front of its row. It knows its author.
        messages.sort_by_key(|(id, _)| id.seq);
        messages.dedup_by_key(|(id, _)| id.seq);
        self.cursor = end;
        messages
    }

    /// The position, with the whole journal.
    pub(super) fn into_position(self) -> Position<M> {
        self.position
    }

    /// The journal's entries that were not merged, up to this seq.
    fn entries_through(&self, end: Seq) -> &[(Seq, M)] {
        let rest = &self.position.journal[self.merged..];
        &rest[..rest.partition_point(|(seq, _)| *seq <= end)]
    }
}
