//! One task for each thread runs the thread's actors.
//!
//! A task of its own costs an actor 240 bytes and more of the allocator's, because tokio aligns tasks to 128 bytes.
//!
//! **Who goes first.** When a thousand clients come back at once, those who stayed must not wait for all of them. So
//! what a new actor does goes on later, and so does the end of a connection: [`put_off`]. In each turn a few of these
//! run, behind the other actors with work. After each turn tokio looks for what has arrived.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use slab::Slab;
use tokio::task::yield_now;

use super::Marks;

/// The task polls so many actors in one turn; then the thread's other tasks have theirs. The actors of a turn share
/// tokio's budget of a task. An actor that finds it used up is woken at once, for the next turn.
const TURN: usize = 64;
/// How many of those that go on later it polls behind them: each may join channels, or leave them. One if others still
/// have work, so that the queue moves.
const LATER: usize = 8;
/// An actor is new for so long, but for so many turns at most: it starts, then clients join, then they talk.
const NEW: Tenths = 10;
const NEW_TURNS: u8 = 3;

type Life = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    /// The actors of this thread, for code outside their task.
    static ACTORS: Actors = Actors::default();
}

#[derive(Default)]
struct Actors {
    /// New ones, which the task has not taken in yet.
    arriving: RefCell<Vec<Life>>,
    /// All of them.
    count: Cell<usize>,
    /// What the running one has asked for.
    run: Cell<Run>,
    marks: Arc<Marks>,
}

/// An actor's turn.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Run {
    /// There is none.
    #[default]
    None,
    Running,
    PutOff,
}

/// Runs an actor on this thread, until it ends or its runtime does. Needs an actix runtime.
pub(super) fn spawn(life: Life) {
    ACTORS.with(|actors| {
        actors.arriving.borrow_mut().push(life);
        if actors.count.replace(actors.count.get() + 1) == 0 {
            actix_rt::spawn(Task::new(Arc::clone(&actors.marks)));
        }
        actors.marks.wake(None);
    });
}

/// The running actor has work for which nobody waits: if it returns now, it goes on behind actors that clients wait
/// for. `false` if no actor runs: then it must go on.
pub(crate) fn put_off() -> bool {
    let run = |actors: &Actors| {
        let runs = actors.run.get() != Run::None;
        if runs {
            actors.run.set(Run::PutOff);
        }
        runs
    };
    ACTORS.try_with(run).unwrap_or_default()
}

/// Tenths of a second since the task began.
type Tenths = u32;

/// The task. It ends with the last actor, or with its runtime.
struct Task {
    marks: Arc<Marks>,
    lives: Slab<(Life, Waker)>,
    /// The actors that were marked; those before `at` have had their turn, or are in `later`.
    marked: Vec<usize>,
    at: usize,
    later: VecDeque<usize>,
    /// By the indices of actors.
    standings: Vec<Standing>,
    began: Instant,
}

/// Whether an actor goes on later. All actors have one, so it is small.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// When it is no longer new, whatever its turns.
    new_until: Tenths,
    /// How many turns it is new for.
    new_turns: u8,
    /// It is in the queue.
    is_later: bool,
}

impl Task {
    fn new(marks: Arc<Marks>) -> Self {
        Self {
            marks,
            lives: Slab::new(),
            marked: Vec::new(),
            at: 0,
            later: VecDeque::new(),
            standings: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Takes in actors that were started, which have work.
    fn admit(&mut self, arriving: &RefCell<Vec<Life>>) {
        let arriving = arriving.take();
        if arriving.is_empty() {
            return;
        }
        let new_until = self.now().saturating_add(NEW);
        for life in arriving {
            let entry = self.lives.vacant_entry();
            let index = entry.key();
            entry.insert((life, self.marks.waker(index)));
            if self.standings.len() <= index {
                self.standings.resize(index + 1, Standing::default());
            }
            let standing = &mut self.standings[index];
            standing.new_until = new_until;
            standing.new_turns = NEW_TURNS;
            self.marked.push(index);
        }
    }

    fn now(&self) -> Tenths {
        // A `u32` lasts for 13 years.
        Tenths::try_from(self.began.elapsed().as_millis() / 100).unwrap_or(Tenths::MAX)
    }

    fn is_new(&self, standing: &Standing) -> bool {
        standing.new_turns > 0 && self.now() < standing.new_until
    }

    /// The next actor with work that does not go on later, if there is one.
    fn next(&mut self, arriving: &RefCell<Vec<Life>>) -> Option<usize> {
        loop {
            if self.at == self.marked.len() {
                self.at = 0;
                self.marked.clear();
                self.marks.take(&mut self.marked);
                self.admit(arriving);
            }
            let index = *self.marked.get(self.at)?;
            self.at += 1;
            match self.standings.get(index) {
                // The mark of an actor whose runtime has ended.
                None => {}
                Some(Standing { is_later: true, .. }) => {}
                Some(standing) if self.is_new(standing) => self.put_later(index),
                Some(_) => return Some(index),
            }
        }
    }

    /// Whether no actor that was marked waits for its turn, but for those that go on later.
    fn is_done(&self) -> bool {
        self.at == self.marked.len()
    }

    fn next_later(&mut self) -> Option<usize> {
        let Some(index) = self.later.pop_front() else {
            // After a storm, its memory is not needed until the next one.
            self.later.shrink_to(TURN);
            return None;
        };
        let standing = &mut self.standings[index];
        standing.is_later = false;
        standing.new_turns = standing.new_turns.saturating_sub(1);
        Some(index)
    }

    fn put_later(&mut self, index: usize) {
        self.standings[index].is_later = true;
        self.later.push_back(index);
    }

    /// Polls one actor.
    fn run(&mut self, index: usize, actors: &Actors) {
        let Some((life, waker)) = self.lives.get_mut(index) else {
            return;
        };
        let cx = &mut Context::from_waker(waker);
        actors.run.set(Run::Running);
        // The hook of the process has logged the panic.
        let polled = catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(cx)));
        let run = actors.run.take();
        if !matches!(polled, Ok(Poll::Pending)) {
            end(self.lives.remove(index).0);
            actors.count.set(actors.count.get() - 1);
        } else if run == Run::PutOff && !self.standings[index].is_later {
            self.put_later(index);
        }
    }
}

/// Drops an actor. If it panics, the hook of the process has logged it.
fn end(life: Life) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(life)));
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        ACTORS.with(|actors| {
            for _ in 0..TURN {
                let Some(index) = task.next(&actors.arriving) else {
                    break;
                };
                task.run(index, actors);
            }
            let later = if task.is_done() { LATER } else { 1 };
            for _ in 0..later {
                let Some(index) = task.next_later() else {
                    break;
                };
                task.run(index, actors);
            }
            if actors.count.get() == 0 {
                return Poll::Ready(());
            }
            let has_work =
                !task.is_done() || !task.later.is_empty() || !actors.arriving.borrow().is_empty();
            if has_work || !task.marks.park(cx) {
                // Unlike a wake, this lets tokio look for what has arrived first.
                let _ = pin!(yield_now()).poll(cx);
            }
            Poll::Pending
        })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Another runtime of this thread begins anew. A thread that ends has no actors left. An actor that starts
        // another while it is dropped must not start a task: the count is set last.
        let _ = ACTORS.try_with(|actors| {
            self.lives.drain().for_each(|(life, _)| end(life));
            let arrived = || actors.arriving.borrow_mut().pop();
            while let Some(life) = arrived() {
                end(life);
            }
            actors.count.set(0);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_new_actor_goes_on_behind_those_that_have_been_there() {
        let mut task = Task::new(Arc::default());
        let arriving = RefCell::new(vec![Box::pin(pending()) as Life, Box::pin(pending())]);
        assert_eq!(task.next(&arriving), None);
        task.marks.wake(Some(0));
        assert_eq!(task.next(&arriving), None, "it is in the queue already");
        let later = [(); 3].map(|()| task.next_later());
        assert_eq!(later, [Some(0), Some(1), None]);

        task.standings[0].new_until = 0;
        for index in [1, 0] {
            task.marks.wake(Some(index));
        }
        assert_eq!(task.next(&arriving), Some(0));
        assert_eq!(task.next(&arriving), None);
        assert_eq!(task.next_later(), Some(1));

        // Its third turn; from then on it is one of the others.
        task.marks.wake(Some(1));
        assert_eq!(task.next(&arriving), None);
        assert_eq!(task.next_later(), Some(1));
        task.marks.wake(Some(1));
        assert_eq!(task.next(&arriving), Some(1));
    }

    #[actix_rt::test]
    async fn what_is_put_off_goes_on_without_a_wake() {
        assert!(!put_off(), "no actor runs");
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        let life = poll_fn(move |_| {
            counted.set(counted.get() + 1);
            if counted.get() < 3 {
                assert!(put_off());
                return Poll::Pending;
            }
            Poll::Ready(())
        });
        spawn(Box::pin(life));
        all_end().await;
        assert_eq!(turns.get(), 3);
    }

    #[actix_rt::test]
    async fn an_actor_runs_that_another_has_started_in_the_last_turn() {
        let starts = poll_fn(|_| {
            spawn(Box::pin(async {}));
            Poll::Ready(())
        });
        spawn(Box::pin(starts));
        all_end().await;
    }

    /// Waits until no actor is left on this thread.
    async fn all_end() {
        let end = async {
            while ACTORS.with(|actors| actors.count.get()) > 0 {
                // Sleeps, so that only wakes bring the actors on.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), end).await;
        assert!(in_time.is_ok(), "an actor waits for its turn");
    }
}
