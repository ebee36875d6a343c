//! Gives actix-ws one frame at a time, and refuses a frame by its declared length, before it is buffered.
//!
//! actix-http compares a frame with its limit only once the whole frame has arrived, so a client
//! could make the server keep whatever it declares. And actix-ws decodes all that has arrived at once: its
//! error comes before the messages that stood before the violation, and those behind it would follow.
//! The guard stands in front of that parser and ends the stream at the first header that is refused. It
//! sees every byte, so it also tells when the client was last heard.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_core::Stream;

use super::frame_scanner::{RefusedFrame, Scanner};
use super::unfinished::Unfinished;
use crate::socket::Activity;

/// What the guard tells the reader of its frames.
#[derive(Default)]
pub(super) struct Told {
    /// Why the stream ends.
    pub(super) refused: Cell<Option<RefusedFrame>>,
    /// The guard is pending behind a whole frame: the parser is to be polled again, nobody wakes it.
    pub(super) has_paused: Cell<bool>,
}

/// The body of an upgraded request, with its frames bounded and apart.
pub(super) struct FrameGuard<S> {
    body: S,
    /// What has arrived behind the frame that was given last.
    rest: Bytes,
    scanner: Scanner,
    /// A whole frame was given, and the parser has not seen the pause behind it.
    is_whole: bool,
    activity: Rc<Activity>,
    unfinished: Unfinished,
    told: Rc<Told>,
}

impl<S> FrameGuard<S> {
    /// Frames of `body` may have `max_frame_size` bytes, header included.
    pub(super) fn new(
        body: S,
        max_frame_size: usize,
        activity: Rc<Activity>,
        told: Rc<Told>,
    ) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            scanner: Scanner::new(max_frame_size),
            is_whole: false,
            unfinished: Unfinished::new(Rc::clone(&activity)),
            activity,
            told,
        }
    }

    /// Takes what has arrived of the current frame; `None` when it is refused.
    fn take(&mut self) -> Option<Bytes> {
        let mut input = &self.rest[..];
        loop {
            match self.scanner.next(&mut input) {
                Ok(Some(_)) if !self.scanner.is_between_frames() => {}
                Ok(_) => break,
                Err(refusal) => {
                    self.told.refused.set(Some(refusal));
                    return None;
                }
            }
        }
        let (begun, arrived) = (self.scanner.begun(), self.scanner.arrived());
        if let Err(no_room) = self.unfinished.note(begun, arrived) {
            self.told.refused.set(Some(no_room.into()));
            return None;
        }
        self.is_whole = self.scanner.is_between_frames();
        let taken = self.rest.len() - input.len();
        Some(self.rest.split_to(taken))
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for FrameGuard<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.is_whole) {
            self.told.has_paused.set(true);
            return Poll::Pending;
        }
        if self.told.refused.get().is_some() {
            return Poll::Ready(None);
        }
        if self.rest.is_empty() {
            let Some(chunk) = ready!(Pin::new(&mut self.body).poll_next(cx)).transpose()? else {
                return Poll::Ready(None);
            };
            self.activity.touch();
            self.rest = chunk;
        }
        Poll::Ready(self.take().map(Ok))
    }
}
