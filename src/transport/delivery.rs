//! [`Delivery`]: the result of writing an answer, from its writer to the keeper of its messages.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use futures_util::task::AtomicWaker;

/// Bytes of a body that are written at once.
const CHUNK: usize = 16 * 1024;

/// The states of an answer.
mod state {
    pub(super) const ON_ITS_WAY: u8 = 0;
    pub(super) const WRITTEN: u8 = 1;
    pub(super) const LOST: u8 = 2;
}

/// The writing side; the edge finds it in the answer's extensions. If the last `Delivery` is dropped before the
/// answer was written, the answer is lost.
#[derive(Clone)]
pub(super) struct Delivery {
    undecided: Arc<Undecided>,
    /// A reset after the answer says nothing about the client.
    ignores_resets: bool,
}

struct Undecided(Arc<AnswerFate>);

impl Drop for Undecided {
    fn drop(&mut self) {
        self.0.decide(state::ON_ITS_WAY, state::LOST);
    }
}

impl Delivery {
    /// Both sides of an answer that is on its way.
    pub(super) fn new() -> (Self, Arc<AnswerFate>) {
        let fate = Arc::<AnswerFate>::default();
        let delivery = Self {
            undecided: Arc::new(Undecided(Arc::clone(&fate))),
            ignores_resets: false,
        };
        (delivery, fate)
    }

    /// The same, to a proxy: it has read the whole answer when it resets an idle connection.
    pub(super) fn for_proxy(self) -> Self {
        Self {
            ignores_resets: true,
            ..self
        }
    }

    /// The kernel has taken the whole answer.
    pub(super) fn written(&self) {
        self.undecided.0.decide(state::ON_ITS_WAY, state::WRITTEN);
    }

    /// The connection was reset: the kernel had the whole answer, the client has not.
    pub(super) fn reset(&self) {
        if !self.ignores_resets {
            self.undecided.0.decide(state::WRITTEN, state::LOST);
        }
    }
}

/// The keeping side.
#[derive(Default)]
pub(super) struct AnswerFate {
    state: AtomicU8,
    keeper: AtomicWaker,
}

impl AnswerFate {
    fn decide(&self, from: u8, to: u8) {
        let decided = self
            .state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        if decided.is_ok() {
            self.keeper.wake();
        }
    }

    /// Ready once the answer is written or lost: `true` if the client has it.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<bool> {
        self.keeper.register(cx.waker());
        match self.state.load(Ordering::Acquire) {
            state::ON_ITS_WAY => Poll::Pending,
            state => Poll::Ready(state == state::WRITTEN),
        }
    }
}

/// A body that reports to its delivery, for servers that do not, as the edge does. It ends one turn behind its last
/// byte: by then the server has written that byte, or has failed and dropped the body.
pub(super) struct ToldBody {
    bytes: Bytes,
    delivery: Delivery,
    turn_given: bool,
}

impl ToldBody {
    pub(super) fn new(bytes: Bytes, delivery: Delivery) -> Self {
        Self {
            bytes,
            delivery,
            turn_given: false,
        }
    }
}

impl MessageBody for ToldBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if !self.bytes.is_empty() {
            let chunk = self.bytes.len().min(CHUNK);
            return Poll::Ready(Some(Ok(self.bytes.split_to(chunk))));
        }
        if !self.turn_given {
            self.turn_given = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.delivery.written();
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(fate: &AnswerFate) -> Poll<bool> {
        fate.poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_reset_loses_an_answer_unless_a_proxy_has_read_it() {
        for (by_proxy, has_it) in [(false, false), (true, true)] {
            let (mut delivery, fate) = Delivery::new();
            if by_proxy {
                delivery = delivery.for_proxy();
            }
            delivery.written();
            delivery.reset();
            assert_eq!(poll(&fate), Poll::Ready(has_it));
        }
    }

    #[test]
    fn an_answer_that_nobody_has_written_is_lost() {
        let (delivery, fate) = Delivery::new();
        let other = delivery.clone();
        drop(delivery);
        assert_eq!(poll(&fate), Poll::Pending);
        drop(other);
        assert_eq!(poll(&fate), Poll::Ready(false));
    }

    #[test]
    fn an_answer_is_written_unless_its_connection_is_reset() {
        let (delivery, fate) = Delivery::new();
        delivery.written();
        assert_eq!(poll(&fate), Poll::Ready(true));
        delivery.reset();
        assert_eq!(poll(&fate), Poll::Ready(false));
    }

    #[test]
    fn a_body_is_written_a_turn_after_its_last_byte() {
        let cx = &mut Context::from_waker(Waker::noop());
        for len in [1, CHUNK * 2 + 1] {
            let (delivery, fate) = Delivery::new();
            let mut body = ToldBody::new(vec![b'x'; len].into(), delivery);
            let mut sent = 0;
            while let Poll::Ready(Some(Ok(chunk))) = Pin::new(&mut body).poll_next(cx) {
                assert!(chunk.len() <= CHUNK);
                sent += chunk.len();
            }
            assert_eq!((sent, poll(&fate)), (len, Poll::Pending));
            assert_eq!(Pin::new(&mut body).poll_next(cx), Poll::Ready(None));
            assert_eq!(poll(&fate), Poll::Ready(true));
        }
    }
}
