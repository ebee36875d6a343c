//! [`Expiry`]: the time at which a connection ends, which its channels can move.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The end of a client's permission, such as the `exp` of its token. [`Socket::connect`](super::Socket::connect)
/// assigns it, and the channels of the connection find it in their assigns. At this time the server closes the
/// connection with the code 1008 and the reason `token expired`, so that phoenix.js connects again and calls its
/// `params` function for a new token. A client that polls gets 410.
///
/// Clones are the same expiry.
///
/// ```
/// use std::time::Duration;
///
/// use slackir::Assigns;
/// use slackir::prelude::*;
/// use slackir::socket::Expiry;
///
/// struct UserSocket;
///
/// impl Socket for UserSocket {
///     async fn connect(
///         &self,
///         _: &Params,
///         _: &ConnectInfo,
///         assigns: &mut Assigns,
///     ) -> Result<(), ConnectRefused> {
///         assigns.insert(Expiry::after(Duration::from_secs(900)));
///         Ok(())
///     }
/// }
///
/// struct Room;
///
/// impl Channel for Room {
///     type Info = ();
///
///     async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
///         Ok(Join::ok(Room))
///     }
///
///     async fn handle_in(
///         &mut self,
///         event: &str,
///         _: Payload,
///         ctx: &mut Context<Self>,
///     ) -> HandleInResult {
///         // A real channel verifies a new token first.
///         if event == "access_token"
///             && let Some(expiry) = ctx.assigns().get::<Expiry>()
///         {
///             expiry.set(Some(Duration::from_secs(900)));
///         }
///         Ok(HandleIn::NoReply)
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Expiry(watch::Sender<Option<Instant>>);

impl Expiry {
    /// A connection that ends this long after now, unless the time is moved.
    pub fn after(time: Duration) -> Self {
        Self(watch::Sender::new(Instant::now().checked_add(time)))
    }

    /// A connection that does not end by itself, until a time is set.
    pub fn never() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Moves the end to this long after now. `None`: the connection does not end by itself.
    pub fn set(&self, time: Option<Duration>) {
        let at = time.and_then(|time| Instant::now().checked_add(time));
        self.0.send_replace(at);
    }

    /// Completes at the time, wherever it is moved before.
    pub(super) fn passed(&self) -> impl Future<Output = ()> + use<> {
        let mut end = self.0.subscribe();
        async move {
            loop {
                let at = *end.borrow_and_update();
                let moved = end.changed();
                let moved = match at {
                    None => moved.await,
                    Some(at) => match timeout_at(at, moved).await {
                        Ok(moved) => moved,
                        Err(_) => return,
                    },
                };
                // Nobody is left to move it.
                if moved.is_err() {
                    return match at {
                        Some(at) => sleep_until(at).await,
                        None => pending().await,
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_can_be_moved_in_both_directions() {
        const STEP: Duration = Duration::from_millis(20);
        let start = Instant::now();
        let expiry = Expiry::after(STEP);
        let passed = expiry.passed();
        expiry.set(Some(5 * STEP));
        passed.await;
        assert!(start.elapsed() >= 5 * STEP);

        let expiry = Expiry::never();
        let mover = expiry.clone();
        let moving = async move {
            tokio::time::sleep(STEP).await;
            mover.set(Some(STEP));
        };
        let passed = expiry.passed();
        drop(expiry);
        tokio::join!(passed, moving);
        assert!(start.elapsed() >= 7 * STEP);
    }
}
