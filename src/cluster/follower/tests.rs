//! Random schedules against a model of the database and of the bus. Each rule is broken once, and the model notices.

use std::collections::BTreeMap;

use super::{Action, Bounds, Follower, Piece, Ticket};
use crate::log::{JUMP, Seq};

/// The rules of the module, to break them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// 1, its first half.
    ConfirmFirst,
    /// 1, its second half.
    FillAfterReconnection,
    /// 2.
    NoGap,
    /// 3.
    NeverTwice,
    /// 4.
    LookAgain,
    /// 5.
    HeadFirst,
    /// 6.
    Cross,
}

impl<M> Follower<M> {
    pub(super) fn is_broken_gap(&self) -> bool {
        self.broken == Some(Rule::NoGap)
    }

    pub(super) fn is_broken_again(&self) -> bool {
        self.broken == Some(Rule::LookAgain)
    }

    pub(super) fn is_broken_twice(&self) -> bool {
        self.broken == Some(Rule::NeverTwice)
    }

    pub(super) fn is_broken_crossing(&self) -> bool {
        self.broken == Some(Rule::Cross)
    }
}

/// Random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The database: the rows of the topic, and its last seq.
#[derive(Default)]
struct Database {
    rows: BTreeMap<Seq, u64>,
    head: Seq,
}

/// A question of the follower, as far as it is carried out.
enum Asked {
    Open(Ticket, Option<Seq>),
    Fill(Ticket, Seq, Option<Seq>, Option<Vec<(Seq, u64)>>),
    Wait(Ticket),
    Retry(Ticket),
}

/// One follower, and everything around it.
struct World {
    random: Random,
    broken: Option<Rule>,
    follower: Follower<u64>,
    database: Database,
    /// What other nodes have told and has not arrived.
    told: Vec<Piece<u64>>,
    asked: Vec<Asked>,
    is_up: bool,
    is_subscribed: bool,
    /// Calls to look that have not arrived.
    looks: usize,
    /// Members have everything up to it since the opening.
    shown: Option<Seq>,
    error: Option<String>,
}

const BOUNDS: Bounds = Bounds {
    resume: 10_000,
    buffer: 3,
};

impl World {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let mut random = Random(seed);
        let (mut database, mut shown) = (Database::default(), None);
        if random.one_in(2) {
            // The topic was in another run, of which members have a part.
            let texts = (1..).map(|seq| (Seq::new(seq), seq.unsigned_abs() * 7));
            database.rows = texts.take(random.below(6)).collect();
            shown = Some(Seq::new(random.below(database.rows.len() + 1) as i64));
            database.head = Seq::new(database.rows.len() as i64).plus(JUMP);
        }
        let mut follower = Follower::after(shown, 1, BOUNDS);
        follower.broken = broken;
        let mut world = Self {
            random,
            broken,
            follower,
            database,
            told: Vec::new(),
            asked: Vec::new(),
            is_up: true,
            is_subscribed: false,
            looks: 0,
            shown,
            error: None,
        };
        if broken == Some(Rule::ConfirmFirst) {
            world.tell(Follower::attached);
        }
        world
    }

    fn tell(&mut self, step: impl FnOnce(&mut Follower<u64>, &mut Vec<Action<u64>>)) {
        let mut out = Vec::new();
        step(&mut self.follower, &mut out);
        for action in out {
            match action {
                Action::Show(seq, text) => self.check(seq, text),
                Action::Erase(seq) | Action::Reach(seq) => self.pass(seq),
                Action::Open(ticket) => self.asked.push(Asked::Open(ticket, None)),
                Action::Fill(ticket, after) => {
                    self.asked.push(Asked::Fill(ticket, after, None, None));
                }
                Action::Wait(ticket) => self.asked.push(Asked::Wait(ticket)),
                Action::Retry(ticket) => self.asked.push(Asked::Retry(ticket)),
                Action::Reset(seq) => self.error = Some(format!("reset to {seq}")),
                Action::Live => {}
            }
        }
    }

    /// Members get a message.
    fn check(&mut self, seq: Seq, text: u64) {
        let Some(shown) = self.shown else {
            return self.error = Some(format!("{seq} before the opening"));
        };
        let next = self.database.rows.range(shown.next()..).next();
        if next != Some((&seq, &text)) {
            self.error = Some(format!("{seq} after {shown}, and the next is {next:?}"));
        }
        self.shown = Some(seq);
    }

    fn pass(&mut self, seq: Seq) {
        let shown = self.shown.unwrap_or_default();
        if seq <= shown {
            self.error = Some(format!("{seq} after {shown}"));
        } else if self
            .database
            .rows
            .range(shown.next()..=seq)
            .next()
            .is_some()
        {
            self.error = Some(format!("rows between {shown} and {seq} are left out"));
        }
        self.shown = Some(seq);
    }

    /// A node commits some messages or an erasure, and tells of it, late or never.
    fn commit(&mut self) {
        let prev = self.database.head;
        let mut messages = Vec::new();
        for _ in 0..self.random.below(3) {
            let seq = self.database.head.next();
            let text = seq.get().unsigned_abs() * 7;
            messages.push((seq, text));
            self.database.rows.insert(seq, text);
            self.database.head = seq;
        }
        if messages.is_empty() {
            self.database.head = prev.next();
        }
        let head = self.database.head;
        let piece = Piece {
            prev,
            head,
            messages,
        };
        if self.random.one_in(8) {
            // Its author dies or loses the bus. Somebody calls to look, later.
            self.looks += 1;
        } else if self.is_subscribed {
            if self.random.one_in(6) {
                self.told.push(piece.clone());
            }
            self.told.push(piece);
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..=2 => self.commit(),
            3..=5 => self.arrive(),
            6..=8 => self.answer(),
            9 => self.look(),
            10 => self.confirm(),
            _ => {
                if self.random.one_in(4) {
                    self.cut();
                }
            }
        }
    }

    fn arrive(&mut self) {
        if self.told.is_empty() {
            return;
        }
        let at = self.random.below(self.told.len());
        let piece = self.told.swap_remove(at);
        self.tell(|follower, out| follower.arrived(piece, out));
    }

    fn look(&mut self) {
        if self.looks > 0 {
            self.looks -= 1;
            self.tell(Follower::look);
        } else if !self.is_up {
            let head = self.database.head;
            self.tell(|follower, out| follower.head(head, out));
        }
    }

    /// The bus confirms the subscription.
    fn confirm(&mut self) {
        let is_first = !self.follower.is_open();
        if self.is_subscribed {
            return;
        }
        (self.is_up, self.is_subscribed) = (true, true);
        let is_left_out = match self.broken {
            Some(Rule::FillAfterReconnection) => !is_first,
            Some(Rule::ConfirmFirst) => true,
            _ => false,
        };
        if !is_left_out {
            self.tell(Follower::attached);
        }
    }

    /// The bus is lost, and with it what is under way.
    fn cut(&mut self) {
        (self.is_up, self.is_subscribed) = (false, false);
        self.told.clear();
        if self.random.one_in(2) {
            self.tell(Follower::begin_alone);
        }
    }

    /// Carries out a step of a question.
    fn answer(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let at = self.random.below(self.asked.len());
        match self.asked.swap_remove(at) {
            Asked::Open(ticket, None) if self.random.one_in(8) => {
                self.tell(|follower, out| follower.failed(ticket, out));
            }
            Asked::Open(ticket, None) => {
                let head = self.database.head;
                self.asked.push(Asked::Open(ticket, Some(head)));
            }
            Asked::Open(ticket, Some(head)) => {
                self.shown.get_or_insert(head);
                self.tell(|follower, out| follower.opened(ticket, head, out));
            }
            Asked::Fill(ticket, after, head, rows) => self.fill(ticket, after, head, rows),
            Asked::Wait(ticket) => self.tell(|follower, out| follower.waited(ticket, out)),
            Asked::Retry(ticket) => self.tell(|follower, out| follower.retry(ticket, out)),
        }
    }

    fn fill(
        &mut self,
        ticket: Ticket,
        after: Seq,
        head: Option<Seq>,
        rows: Option<Vec<(Seq, u64)>>,
    ) {
        let head_first = self.broken != Some(Rule::HeadFirst);
        match (head, rows) {
            (None, None) if self.random.one_in(8) => {
                self.tell(|follower, out| follower.failed(ticket, out));
            }
            (None, rows) if head_first || rows.is_some() => {
                let head = Some(self.database.head);
                self.asked.push(Asked::Fill(ticket, after, head, rows));
            }
            (head, None) => {
                let next = self.database.rows.range(after.next()..);
                let rows = next.take(3).map(|(seq, text)| (*seq, *text));
                let rows = Some(rows.collect());
                self.asked.push(Asked::Fill(ticket, after, head, rows));
            }
            (Some(head), Some(mut rows)) => {
                let complete = rows.len() < 3 || rows[2].0 >= head;
                rows.retain(|(seq, _)| *seq <= head);
                self.tell(|follower, out| follower.rows(ticket, rows, (head, complete), out));
            }
            (None, Some(_)) => unreachable!("the arm for a missing head takes it"),
        }
    }

    /// Lets everything come to its end. The members must have every message then.
    fn rest(mut self) -> Result<(), String> {
        self.confirm();
        while !self.told.is_empty() || self.looks > 0 || !self.asked.is_empty() {
            match self.random.below(3) {
                0 => self.arrive(),
                1 => self.look(),
                _ => self.answer(),
            }
            if let Some(error) = self.error.take() {
                return Err(error);
            }
        }
        if !self.follower.is_open() {
            return Err("it is not open".to_owned());
        }
        let shown = self.shown.unwrap_or_default();
        let missing = self.database.rows.range(shown.next()..).next();
        missing.map_or(Ok(()), |(seq, _)| Err(format!("{seq} is missing")))
    }
}

fn run(seed: u64, broken: Option<Rule>) -> Result<(), String> {
    let mut world = World::new(seed, broken);
    for _ in 0..80 {
        world.step();
        if let Some(error) = world.error {
            return Err(error);
        }
    }
    world.rest()
}

#[test]
fn members_get_every_message_once_and_in_order() {
    for seed in 0..20_000 {
        if let Err(error) = run(seed, None) {
            panic!("seed {seed}: {error}");
        }
    }
}

#[test]
fn each_rule_is_needed() {
    for rule in [
        Rule::ConfirmFirst,
        Rule::FillAfterReconnection,
        Rule::NoGap,
        Rule::NeverTwice,
        Rule::LookAgain,
        Rule::HeadFirst,
        Rule::Cross,
    ] {
        let failed = (0..20_000).filter(|seed| run(*seed, Some(rule)).is_err());
        assert!(failed.count() > 20, "without {rule:?} nothing goes wrong");
    }
}

#[test]
fn who_has_missed_too_much_begins_anew() {
    let bounds = Bounds {
        resume: 5,
        buffer: 9,
    };
    let mut follower: Follower<u64> = Follower::new(bounds);
    let mut out = Vec::new();
    follower.attached(&mut out);
    let Some(Action::Open(ticket)) = out.pop() else {
        panic!("it opens");
    };
    follower.opened(ticket, Seq::new(10), &mut out);
    assert_eq!(out, [Action::Live]);
    out.clear();
    follower.head(Seq::new(16), &mut out);
    let Some(Action::Fill(ticket, after)) = out.pop() else {
        panic!("it fills");
    };
    assert_eq!(after, Seq::new(10));
    follower.rows(ticket, Vec::new(), (Seq::new(16), true), &mut out);
    assert_eq!(out, [Action::Reset(Seq::new(16)), Action::Live]);
}

#[test]
fn who_has_missed_too_much_of_another_run_begins_anew() {
    let bounds = Bounds {
        resume: 2,
        buffer: 9,
    };
    let (shown, head) = (Seq::new(5), Seq::new(8).plus(JUMP));
    for (missed, action) in [(2, Action::Reach(head)), (3, Action::Reset(head))] {
        let mut follower: Follower<u64> = Follower::after(Some(shown), 7, bounds);
        let mut out = Vec::new();
        follower.begin_alone(&mut out);
        let Some(Action::Open(ticket)) = out.pop() else {
            panic!("it opens");
        };
        follower.opened(ticket, head, &mut out);
        let Some(Action::Fill(ticket, after)) = out.pop() else {
            panic!("it fills");
        };
        assert_eq!(after, shown);
        let rows = (6..6 + missed).map(|seq| (Seq::new(seq), 0)).collect();
        follower.rows(ticket, rows, (head, true), &mut out);
        assert_eq!(out[out.len() - 2..], [action, Action::Live]);
    }
}
