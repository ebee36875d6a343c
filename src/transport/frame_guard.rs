//! Refuses a frame by its declared length, before it is buffered: for the driver whose frames
//! actix-http reads.
//!
//! actix-http compares a frame with its limit only once the whole frame has arrived, so a client
//! could make the server keep whatever it declares. The guard stands in front of that parser and
//! ends the stream at the first header that is refused. It sees every byte, so it also tells when
//! the client was last heard.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_core::Stream;

use super::frame_scanner::{RefusedFrame, Scanner};
use crate::socket::Activity;

/// The body of an upgraded request, with its frames bounded.
pub(super) struct FrameGuard<S> {
    body: S,
    scanner: Scanner,
    activity: Rc<Activity>,
    refused: Rc<Cell<Option<RefusedFrame>>>,
}

impl<S> FrameGuard<S> {
    /// Frames of `body` may have `max_frame_size` bytes, header included. What is refused is
    /// written to `refused`.
    pub(super) fn new(
        body: S,
        max_frame_size: usize,
        activity: Rc<Activity>,
        refused: Rc<Cell<Option<RefusedFrame>>>,
    ) -> Self {
        Self {
            body,
            scanner: Scanner::new(max_frame_size),
            activity,
            refused,
        }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for FrameGuard<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.refused.get().is_some() {
            return Poll::Ready(None);
        }
        let Some(mut chunk) = ready!(Pin::new(&mut self.body).poll_next(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        self.activity.touch();
        match self.scanner.scan(&chunk) {
            Ok(()) => Poll::Ready(Some(Ok(chunk))),
            Err((refusal, at)) => {
                self.refused.set(Some(refusal));
                chunk.truncate(at);
                Poll::Ready(Some(Ok(chunk)))
            }
        }
    }
}
