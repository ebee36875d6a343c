//! One task for each thread runs the thread's actors.
//!
//! A task of its own costs an actor 240 bytes and more of the allocator's, because tokio aligns tasks to 128 bytes.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::Marks;

/// The task polls so many actors in one turn; then the thread's other tasks have theirs. The actors of a turn share
/// tokio's budget of a task. An actor that finds it used up is woken at once, for the next turn.
const TURN: usize = 64;

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
    marks: Arc<Marks>,
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

/// The task. It ends with the last actor, or with its runtime.
struct Task {
    marks: Arc<Marks>,
    lives: Slab<(Life, Waker)>,
    /// The actors that were marked; those before `at` have been polled.
    marked: Vec<usize>,
    at: usize,
}

impl Task {
    fn new(marks: Arc<Marks>) -> Self {
        Self {
            marks,
            lives: Slab::new(),
            marked: Vec::new(),
            at: 0,
        }
    }

    /// The next actor with work, if there is one. New actors have work.
    fn next(&mut self, arriving: &RefCell<Vec<Life>>) -> Option<usize> {
        if self.at == self.marked.len() {
            self.at = 0;
            self.marked.clear();
            self.marks.take(&mut self.marked);
            for life in arriving.take() {
                let entry = self.lives.vacant_entry();
                self.marked.push(entry.key());
                let waker = self.marks.waker(entry.key());
                entry.insert((life, waker));
            }
        }
        let index = self.marked.get(self.at).copied();
        self.at += usize::from(index.is_some());
        index
    }

    /// Polls one actor. Returns whether it has ended.
    fn run(&mut self, index: usize) -> bool {
        let Some((life, waker)) = self.lives.get_mut(index) else {
            return false;
        };
        let cx = &mut Context::from_waker(waker);
        // The hook of the process has logged the panic.
        let polled = catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(cx)));
        if matches!(polled, Ok(Poll::Pending)) {
            return false;
        }
        end(self.lives.remove(index).0);
        true
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
                    if actors.count.get() == 0 {
                        return Poll::Ready(());
                    }
                    if task.marks.park(cx) {
                        return Poll::Pending;
                    }
                    continue;
                };
                if task.run(index) {
                    actors.count.set(actors.count.get() - 1);
                }
            }
            cx.waker().wake_by_ref();
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
