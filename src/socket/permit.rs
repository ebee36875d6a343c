//! [`Permit`]: whether a connection may go on.

use std::fmt;
use std::sync::Arc;

/// A condition of a connection that may end at any time, such as a token that can be revoked.
/// [`Socket::connect`](super::Socket::connect) assigns it.
/// [`Endpoint::check_permits`](crate::Endpoint::check_permits) asks the permits of all connections, on their
/// own threads; so does the server when a connection begins, so that no condition changes unnoticed meanwhile. A
/// connection whose permit does not hold is closed with the code 1008 and the reason `token revoked`, so that
/// phoenix.js connects again and calls its `params` function for a new token. A client that polls gets 410.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use slackir::Assigns;
/// use slackir::prelude::*;
/// use slackir::socket::Permit;
///
/// struct UserSocket {
///     is_open: Arc<AtomicBool>,
/// }
///
/// impl Socket for UserSocket {
///     async fn connect(
///         &self,
///         _: &Params,
///         _: &ConnectInfo,
///         assigns: &mut Assigns,
///     ) -> Result<(), ConnectRefused> {
///         let is_open = Arc::clone(&self.is_open);
///         assigns.insert(Permit::new(move || is_open.load(Ordering::Acquire)));
///         Ok(())
///     }
/// }
///
/// async fn close(endpoint: &slackir::Endpoint, is_open: &AtomicBool) {
///     is_open.store(false, Ordering::Release);
///     endpoint.check_permits().await;
/// }
/// ```
#[derive(Clone)]
pub struct Permit(Arc<dyn Fn() -> bool + Send + Sync>);

impl Permit {
    /// A permit that holds while `holds` returns true. It must not wait.
    pub fn new(holds: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    /// Whether the connection may go on.
    pub fn holds(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
