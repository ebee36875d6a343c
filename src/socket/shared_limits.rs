//! [`SharedLimits`]: the limits of a socket's clients that can change while they are connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::SocketOptions;
use super::limits::RateLimits;
use crate::rate::SharedRate;

/// The limits of a mounted socket that can change while clients are connected: the rates and the most channels of
/// a connection. Clones share them.
///
/// ```
/// use slackir::Mount;
/// use slackir::rate::Rate;
/// use slackir::socket::{RateLimits, Socket, SocketRouter};
///
/// struct Anyone;
/// impl Socket for Anyone {}
///
/// let mount = Mount::new("/socket", Anyone, SocketRouter::new());
/// let limits = mount.limits();
/// // Later, while the socket is served:
/// limits.set(RateLimits::default().joins(Rate::new(10, 100)), 20);
/// ```
#[derive(Clone, Debug)]
pub struct SharedLimits(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    joins: SharedRate,
    pushes: SharedRate,
    bytes: SharedRate,
    max_channels: AtomicUsize,
}

impl SharedLimits {
    /// Those of the options.
    pub(crate) fn of(options: &SocketOptions) -> Self {
        let RateLimits {
            joins,
            pushes,
            bytes,
        } = options.rates;
        Self(Arc::new(Limits {
            joins: SharedRate::new(joins),
            pushes: SharedRate::new(pushes),
            bytes: SharedRate::new(bytes),
            max_channels: AtomicUsize::new(options.max_channels),
        }))
    }

    /// Changes the limits of all connections, of those that are open, too. A connection that has more channels than
    /// `max_channels` keeps them.
    pub fn set(&self, rates: RateLimits, max_channels: usize) {
        self.0.joins.set(rates.joins);
        self.0.pushes.set(rates.pushes);
        self.0.bytes.set(rates.bytes);
        self.0.max_channels.store(max_channels, Ordering::Relaxed);
    }

    pub(super) fn rates(&self) -> RateLimits {
        RateLimits {
            joins: self.0.joins.get(),
            pushes: self.0.pushes.get(),
            bytes: self.0.bytes.get(),
        }
    }

    pub(super) fn max_channels(&self) -> usize {
        self.0.max_channels.load(Ordering::Relaxed)
    }
}
