//! [`Queue`]: frames in order. The first needs no allocation.
//!
//! Most queues hold a single frame when they are drained. With a plain `VecDeque` a broadcast to a thousand
//! connections would allocate and free a thousand times.

use std::collections::VecDeque;

use crate::frame::Frame;

#[derive(Default)]
pub(super) struct Queue {
    first: Option<Frame>,
    /// Empty if `first` is `None`.
    more: VecDeque<Frame>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn push(&mut self, frame: Frame) {
        if self.first.is_none() {
            self.first = Some(frame);
        } else {
            self.more.push_back(frame);
        }
    }

    pub(super) fn first(&self) -> Option<&Frame> {
        self.first.as_ref()
    }

    pub(super) fn take_first(&mut self) -> Option<Frame> {
        let first = self.first.take()?;
        self.first = self.more.pop_front();
        Some(first)
    }

    /// All frames, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.first.iter().chain(&self.more)
    }

    /// Drops all frames, and frees their memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
