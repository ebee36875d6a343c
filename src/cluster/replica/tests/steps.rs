//! Single steps of a replica.

use std::time::Duration;

use super::super::{Action, Carried, Limits, Position, Replica, Resume, Ticket};
use crate::cluster::NodeId;
use crate::log::{Epoch, MessageId, Seq};

const ME: NodeId = NodeId::new(1);
const OTHER: NodeId = NodeId::new(2);

/// A message with its author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct By(Option<NodeId>);

const MINE: By = By(Some(ME));
const FOREIGN: By = By(Some(OTHER));
/// A row of the database.
const ROW: By = By(None);

impl Carried for By {
    fn author(&self) -> Option<NodeId> {
        self.0
    }
}

fn id(epoch: i64, seq: i64) -> MessageId {
    MessageId::new(Epoch::new(epoch), Seq::new(seq))
}

fn position(epoch: i64, head: i64, journal: &[(i64, By)]) -> Option<Position<By>> {
    let journal = journal
        .iter()
        .map(|(seq, message)| (Seq::new(*seq), *message));
    Some(Position {
        epoch: Epoch::new(epoch),
        head: Seq::new(head),
        journal: journal.collect(),
        unused: None,
    })
}

/// A replica, and what it says.
struct Driven {
    replica: Replica<By>,
    now: Duration,
}

impl Driven {
    /// Waits for its subscription.
    fn new() -> Self {
        let limits = Limits {
            resume: 5,
            buffer: 3,
        };
        Self {
            replica: Replica::new(ME, 1, limits),
            now: Duration::ZERO,
        }
    }

    /// Live in epoch 1.
    fn live_at(head: i64) -> Self {
        let mut driven = Self::new();
        let ticket = driven.attached();
        driven.position(ticket, position(1, head, &[]));
        assert!(driven.replica.is_live());
        driven
    }

    fn step(
        &mut self,
        step: impl FnOnce(&mut Replica<By>, Duration, &mut Vec<Action<By>>),
    ) -> Vec<Action<By>> {
        let mut out = Vec::new();
        step(&mut self.replica, self.now, &mut out);
        out
    }

    fn attached(&mut self) -> Ticket {
        let out = self.step(|replica, _, out| replica.attached(out));
        read_of(&out)
    }

    fn arrived(&mut self, id: MessageId, message: By) -> Vec<Action<By>> {
        self.step(|replica, now, out| replica.arrived(id, message, now, out))
    }

    fn position(&mut self, ticket: Ticket, position: Option<Position<By>>) -> Vec<Action<By>> {
        self.step(|replica, now, out| replica.position(ticket, position, now, out))
    }

    fn rows(&mut self, ticket: Ticket, rows: &[MessageId], complete: bool) -> Vec<Action<By>> {
        let rows = rows.iter().map(|id| (*id, ROW)).collect();
        self.step(|replica, now, out| replica.rows(ticket, rows, complete, now, out))
    }

    fn failed(&mut self, ticket: Ticket) -> Vec<Action<By>> {
        self.step(|replica, now, out| replica.failed(ticket, now, out))
    }

    fn retry(&mut self, ticket: Ticket) -> Vec<Action<By>> {
        self.step(|replica, _, out| replica.retry(ticket, out))
    }
}

/// The ticket of the only action, a read.
fn read_of(out: &[Action<By>]) -> Ticket {
    match out {
        [Action::Read(ticket)] => *ticket,
        other => panic!("not a read: {other:?}"),
    }
}

fn rows_of(ticket: Ticket, after: i64, through: i64) -> Action<By> {
    Action::Rows {
        ticket,
        after: Seq::new(after),
        through: Seq::new(through),
    }
}

#[test]
fn a_topic_is_attached_at_its_head() {
    let mut driven = Driven::new();
    assert_eq!(driven.replica.shown(), None);
    assert_eq!(driven.arrived(id(1, 6), FOREIGN), []);
    let ticket = driven.attached();
    assert_eq!(driven.arrived(id(1, 7), MINE), []);
    assert_eq!(driven.position(ticket, None), [Action::Open(ticket)]);

    let found = position(1, 6, &[(4, MINE), (6, FOREIGN)]);
    let journal = vec![(Seq::new(4), MINE), (Seq::new(6), FOREIGN)];
    let at = id(1, 6);
    let want = [
        Action::Watch(OTHER),
        Action::Settle(id(1, 4), MINE),
        Action::Begin { at, journal },
        Action::Show(id(1, 7), MINE),
        Action::Live(id(1, 7)),
    ];
    assert_eq!(driven.position(ticket, found), want);
    assert_eq!(driven.replica.shown(), Some(id(1, 7)));
}

#[test]
fn messages_are_shown_once_and_in_order() {
    let mut driven = Driven::live_at(3);
    assert_eq!(driven.arrived(id(1, 3), FOREIGN), []);
    let shown = [Action::Watch(OTHER), Action::Show(id(1, 4), FOREIGN)];
    assert_eq!(driven.arrived(id(1, 4), FOREIGN), shown);
    assert_eq!(driven.arrived(id(1, 4), FOREIGN), []);
    assert!(driven.replica.is_live());
    read_of(&driven.arrived(id(1, 6), FOREIGN));
    assert!(!driven.replica.is_live());
}

#[test]
fn a_journal_with_all_missed_messages_spares_the_database() {
    let mut driven = Driven::live_at(3);
    let ticket = read_of(&driven.arrived(id(1, 6), MINE));
    let out = driven.position(ticket, position(1, 5, &[(2, MINE), (4, MINE), (5, MINE)]));
    let want = [4, 5, 6].map(|seq| Action::Show(id(1, seq), MINE));
    assert_eq!(out[..3], want);
    assert_eq!(out[3..], [Action::Live(id(1, 6))]);
}

#[test]
fn pages_of_the_database_are_merged_with_the_journal() {
    let mut driven = Driven::live_at(3);
    driven.replica.down(driven.now);
    let ticket = driven.attached();
    let out = driven.position(ticket, position(1, 8, &[(5, MINE), (7, MINE)]));
    assert_eq!(out, [rows_of(ticket, 3, 8)]);
    let want = [
        Action::Show(id(1, 4), ROW),
        Action::Show(id(1, 5), MINE),
        rows_of(ticket, 5, 8),
    ];
    assert_eq!(driven.rows(ticket, &[id(1, 4), id(1, 5)], false), want);
    // The head is an erasure: nobody gets it.
    let want = [Action::Show(id(1, 7), MINE), Action::Live(id(1, 8))];
    assert_eq!(driven.rows(ticket, &[], true), want);
}

#[test]
fn a_new_epoch_continues_after_the_old_one() {
    let mut driven = Driven::live_at(3);
    let ticket = read_of(&driven.arrived(id(2, 102), FOREIGN));
    let out = driven.position(ticket, position(2, 101, &[(101, MINE)]));
    assert_eq!(out, [rows_of(ticket, 3, 101)]);
    let want = [
        Action::Show(id(1, 4), ROW),
        Action::Show(id(2, 101), MINE),
        Action::Watch(OTHER),
        Action::Show(id(2, 102), FOREIGN),
        Action::Live(id(2, 102)),
    ];
    assert_eq!(driven.rows(ticket, &[id(1, 4)], true), want);
}

#[test]
fn late_answers_are_ignored() {
    let mut driven = Driven::live_at(3);
    let first = read_of(&driven.arrived(id(1, 6), FOREIGN));
    driven.replica.down(driven.now);
    assert_eq!(driven.position(first, position(1, 6, &[])), []);
    let second = driven.attached();
    assert_eq!(driven.position(first, position(1, 6, &[])), []);
    assert_eq!(driven.failed(first), []);
    let out = driven.position(second, position(1, 6, &[]));
    assert_eq!(out, [rows_of(second, 3, 6)]);
    assert_eq!(driven.position(second, position(1, 6, &[])), []);
    assert_eq!(driven.rows(first, &[], true), []);
    assert_eq!(driven.retry(second), []);
    assert_eq!(driven.rows(second, &[], true), [Action::Live(id(1, 6))]);
    assert_eq!(driven.rows(second, &[], true), []);
    assert_eq!(driven.failed(second), []);
    assert!(driven.replica.is_live());
}

#[test]
fn an_answer_to_an_earlier_replica_is_ignored() {
    let early = Driven::new().attached();
    let mut driven = Driven::new();
    driven.replica = Replica::new(ME, 2, driven.replica.limits);
    let ticket = driven.attached();
    assert_ne!(early, ticket);
    assert_eq!(driven.position(early, position(1, 6, &[])), []);
}

#[test]
fn a_full_buffer_is_dropped_and_filled() {
    let mut driven = Driven::live_at(0);
    let ticket = read_of(&driven.arrived(id(1, 2), MINE));
    // The third is one too many.
    for seq in 3..=5 {
        assert_eq!(driven.arrived(id(1, seq), MINE), []);
    }
    let out = driven.position(ticket, position(1, 2, &[(1, MINE), (2, MINE)]));
    let want = [1, 2].map(|seq| Action::Show(id(1, seq), MINE));
    assert_eq!(out[..2], want);
    let ticket = read_of(&out[2..]);
    let journal: Vec<_> = (3..=5).map(|seq| (seq, MINE)).collect();
    let out = driven.position(ticket, position(1, 5, &journal));
    let want = [3, 4, 5].map(|seq| Action::Show(id(1, seq), MINE));
    assert_eq!(out[..3], want);
    // Nobody knows what was dropped: read once more.
    let ticket = read_of(&out[3..]);
    let out = driven.position(ticket, position(1, 5, &journal));
    assert_eq!(out, [Action::Live(id(1, 5))]);
}

#[test]
fn too_many_missed_messages_end_the_channels() {
    let mut driven = Driven::live_at(2);
    driven.arrived(id(1, 3), MINE);
    let ticket = read_of(&driven.arrived(id(1, 10), MINE));
    let out = driven.position(ticket, position(1, 9, &[(3, MINE), (9, MINE)]));
    let at = id(1, 9);
    let journal = vec![(Seq::new(3), MINE), (Seq::new(9), MINE)];
    let want = [
        Action::Settle(id(1, 9), MINE),
        Action::Reset { at, journal },
        Action::Show(id(1, 10), MINE),
        Action::Live(id(1, 10)),
    ];
    assert_eq!(out, want);
}

#[test]
fn the_rows_of_a_new_epoch_are_counted() {
    let mut driven = Driven::live_at(3);
    driven.replica.down(driven.now);
    let ticket = driven.attached();
    let found = position(2, 103, &[(101, MINE), (103, MINE)]);
    assert_eq!(driven.position(ticket, found), [rows_of(ticket, 3, 103)]);
    let ids = [4, 5, 6].map(|seq| id(1, seq));
    let out = driven.rows(ticket, &ids, false);
    assert_eq!(out[3..], [rows_of(ticket, 6, 103)]);
    let out = driven.rows(ticket, &[id(1, 7), id(2, 101), id(2, 102)], false);
    let at = id(2, 103);
    let journal = vec![(Seq::new(101), MINE), (Seq::new(103), MINE)];
    let want = [
        Action::Settle(id(2, 101), MINE),
        Action::Settle(id(2, 103), MINE),
        Action::Reset { at, journal },
        Action::Live(at),
    ];
    assert_eq!(out, want);
    // The next fill counts anew.
    read_of(&driven.arrived(id(2, 105), FOREIGN));
}

#[test]
fn a_database_that_lost_the_runs_ends_the_channels() {
    let mut driven = Driven::live_at(300);
    driven.replica.down(driven.now);
    let ticket = driven.attached();
    let out = driven.position(ticket, position(2, 200, &[(200, MINE)]));
    let at = id(2, 200);
    let journal = vec![(Seq::new(200), MINE)];
    let want = [
        Action::Settle(at, MINE),
        Action::Reset { at, journal },
        Action::Live(at),
    ];
    assert_eq!(out, want);
}

#[test]
fn a_position_within_the_epoch_never_goes_back() {
    let mut driven = Driven::live_at(300);
    let ticket = driven.attached();
    let out = driven.position(ticket, position(1, 200, &[]));
    assert_eq!(out, [Action::Live(id(1, 300))]);
}

#[test]
fn reads_that_fail_are_repeated_and_the_database_has_five_seconds() {
    let mut driven = Driven::live_at(3);
    let mut ticket = read_of(&driven.arrived(id(1, 5), MINE));
    // Without the bus nothing can be decided.
    driven.now = Duration::from_secs(100);
    assert_eq!(driven.failed(ticket), [Action::Retry(ticket)]);
    for tenth in 0..=50 {
        assert_eq!(driven.failed(ticket), []);
        ticket = read_of(&driven.retry(ticket));
        assert_eq!(driven.retry(ticket), []);
        let found = position(1, 4, &[]);
        assert_eq!(driven.position(ticket, found), [rows_of(ticket, 3, 4)]);
        driven.now = Duration::from_secs(100) + Duration::from_millis(100 * tenth);
        let out = driven.failed(ticket);
        if tenth < 50 {
            assert_eq!(out, [Action::Retry(ticket)]);
            continue;
        }
        let (at, journal) = (id(1, 4), Vec::new());
        let want = [
            Action::Reset { at, journal },
            Action::Show(id(1, 5), MINE),
            Action::Live(id(1, 5)),
        ];
        assert_eq!(out, want);
    }
}

#[test]
fn a_read_of_the_database_that_succeeds_ends_the_count_of_seconds() {
    let mut driven = Driven::live_at(3);
    driven.replica.down(driven.now);
    let fill = |driven: &mut Driven, ticket| {
        driven.position(ticket, position(1, 8, &[]));
    };
    let ticket = driven.attached();
    fill(&mut driven, ticket);
    assert_eq!(driven.failed(ticket), [Action::Retry(ticket)]);
    let ticket = read_of(&driven.retry(ticket));
    fill(&mut driven, ticket);
    driven.now = Duration::from_secs(4);
    driven.rows(ticket, &[id(1, 4)], false);
    driven.now = Duration::from_secs(8);
    assert_eq!(driven.failed(ticket), [Action::Retry(ticket)]);
}

#[test]
fn messages_of_others_are_rescued_as_of_the_loss_of_the_connection() {
    let mut driven = Driven::new();
    let ticket = driven.attached();
    driven.position(ticket, position(1, 3, &[(2, MINE), (3, FOREIGN)]));
    driven.now = Duration::from_secs(10);
    driven.arrived(id(1, 4), FOREIGN);
    driven.arrived(id(1, 5), MINE);
    driven.arrived(id(1, 6), ROW);
    driven.now = Duration::from_secs(20);
    driven.replica.down(driven.now);
    driven.now = Duration::from_secs(100);
    driven.replica.down(driven.now);
    driven.replica.expire(driven.now);
    assert_eq!(driven.replica.rescue(), [(id(1, 4), FOREIGN)]);
    assert_eq!(driven.replica.rescue(), []);
}

#[test]
fn old_messages_need_no_rescue() {
    let mut driven = Driven::live_at(3);
    driven.arrived(id(1, 4), FOREIGN);
    driven.replica.expire(Duration::from_secs(15));
    driven.replica.expire(Duration::from_secs(16));
    assert_eq!(driven.replica.rescue(), []);
}

#[test]
fn a_client_resumes_up_to_what_members_have() {
    let found = position(1, 9, &[(5, FOREIGN), (7, FOREIGN), (8, FOREIGN)]);
    let mut resume = Resume::of_client(id(1, 3), found.expect("a position"), id(1, 7));
    assert!(resume.needs_rows() && !resume.is_done());
    assert_eq!(
        (resume.after(), resume.through()),
        (Seq::new(3), Seq::new(7))
    );
    let page = resume.page(vec![(id(1, 4), ROW)], false);
    assert_eq!(page, [(id(1, 4), ROW)]);
    let page = resume.page(vec![(id(1, 6), ROW), (id(1, 7), ROW)], true);
    let want = [(id(1, 5), FOREIGN), (id(1, 6), ROW), (id(1, 7), FOREIGN)];
    assert_eq!(page, want);
    assert!(resume.is_done());
    assert_eq!(resume.after(), Seq::new(7));
}

#[test]
fn a_client_that_has_everything_resumes_at_once() {
    let ahead = Resume::of_client(id(1, 8), position(1, 9, &[]).expect("a position"), id(1, 7));
    assert!(ahead.is_done());
    assert_eq!(ahead.after(), Seq::new(8));
    let behind = Resume::of_client(
        id(1, 8),
        position(1, 9, &[]).expect("a position"),
        id(1, 12),
    );
    assert_eq!(behind.through(), Seq::new(9), "later ones are in the tail");
    assert!(!behind.is_done());
}

#[test]
fn what_is_lost_during_a_fill_is_read_after_it() {
    let mut driven = Driven::live_at(2);
    let ticket = read_of(&driven.step(|replica, _, out| replica.look(out)));
    let asked = driven.position(ticket, position(1, 4, &[]));
    assert_eq!(asked, [rows_of(ticket, 2, 4)]);
    // Messages 5 and 6 were lost meanwhile.
    assert_eq!(driven.step(|replica, _, out| replica.look(out)), []);
    let shown = driven.rows(ticket, &[id(1, 3), id(1, 4)], true);
    assert!(!driven.replica.is_live());
    let Some(Action::Read(again)) = shown.last() else {
        panic!("not read again: {shown:?}");
    };
    let asked = driven.position(*again, position(1, 6, &[]));
    assert_eq!(asked, [rows_of(*again, 4, 6)]);
}

#[test]
fn a_replica_goes_on_where_the_database_gave_the_order() {
    let mut driven = Driven::new();
    driven.replica = Replica::after(Some(id(1, 7)), (ME, 2), driven.replica.limits);
    let earlier = Driven::new().attached();
    let ticket = driven.attached();
    assert!(driven.replica.has_asked(ticket) && !driven.replica.has_asked(earlier));
    // The run begins behind the last message of the database's, of which this node lacks one.
    let out = driven.position(ticket, position(2, 9, &[]));
    let (after, through) = (Seq::new(7), Seq::new(9));
    let asked = Action::Rows {
        ticket,
        after,
        through,
    };
    assert_eq!(out, [asked]);
    let out = driven.rows(ticket, &[id(1, 8)], true);
    assert_eq!(out, [Action::Show(id(1, 8), ROW), Action::Live(id(2, 9))]);
    let out = driven.arrived(id(2, 10), FOREIGN);
    assert_eq!(
        out,
        [Action::Watch(OTHER), Action::Show(id(2, 10), FOREIGN)]
    );
}

#[test]
fn between_two_runs_no_rows_are_read_where_no_message_is() {
    let limits = Driven::new().replica.limits;
    let begun_behind = |stored| {
        let mut driven = Driven::new();
        driven.replica = Replica::after(Some(id(1, 7)), (ME, 2), limits);
        let ticket = driven.attached();
        let position = position(2, 1_001, &[(1_001, FOREIGN)]).map(|position| Position {
            unused: Some((Seq::new(stored), Seq::new(1_000))),
            ..position
        });
        driven.position(ticket, position)
    };
    let out = begun_behind(7);
    let shown = Action::Show(id(2, 1_001), FOREIGN);
    assert!(
        out.contains(&shown) && out.contains(&Action::Live(id(2, 1_001))),
        "{out:?}"
    );
    let out = begun_behind(8);
    assert!(
        matches!(out[..], [.., Action::Rows { .. }]),
        "there is one that members lack: {out:?}"
    );
}
