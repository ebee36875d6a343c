//! [`Marks`]: which futures of one task have work.

use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use crate::lock::lock;

/// The futures with work, by their indices. Locked, because a [`Waker`] may go to any thread, though the futures
/// do not.
#[derive(Default)]
pub(crate) struct Marks(Mutex<Marked>);

#[derive(Default)]
struct Marked {
    /// An index may name a future that has ended.
    indices: Vec<usize>,
    /// Whether an index is among them.
    is_marked: Vec<bool>,
    /// The task, while it sleeps.
    task: Option<Waker>,
}

impl Marks {
    /// Marks a future, or none, and wakes the task.
    pub(crate) fn wake(&self, index: Option<usize>) {
        let mut marked = lock(&self.0);
        if let Some(index) = index {
            marked.add(index);
        }
        let task = marked.task.take();
        drop(marked);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// The waker of one future.
    pub(crate) fn waker(self: &Arc<Self>, index: usize) -> Waker {
        let marks = Arc::clone(self);
        Waker::from(Arc::new(Mark { index, marks }))
    }

    /// Swaps the marked indices for an empty list.
    pub(crate) fn take(&self, empty: &mut Vec<usize>) {
        let mut marked = lock(&self.0);
        std::mem::swap(&mut marked.indices, empty);
        for index in empty {
            marked.is_marked[*index] = false;
        }
    }

    /// Keeps the task's waker; `false` if something was marked meanwhile.
    pub(crate) fn park(&self, cx: &Context<'_>) -> bool {
        let mut marked = lock(&self.0);
        marked.task = Some(cx.waker().clone());
        marked.indices.is_empty()
    }
}

impl Marked {
    fn add(&mut self, index: usize) {
        if self.is_marked.len() <= index {
            self.is_marked.resize(index + 1, false);
        }
        if !std::mem::replace(&mut self.is_marked[index], true) {
            self.indices.push(index);
        }
    }
}

/// Wakes one future.
struct Mark {
    index: usize,
    marks: Arc<Marks>,
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.marks.wake(Some(self.index));
    }
}
