//! Lists the open connections of an endpoint, and ends those that a filter selects. Each connection is asked when
//! somebody wants to know, and nothing is kept for it. Phoenix: `Phoenix.Debug.list_sockets/0`.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU64, ParseIntError};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::Addr;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::registry::{ASKED_AT_ONCE, Sockets};
use super::server::{Describe, DisconnectSelected, SocketServer};

/// The time for all answers. A connection is late if its worker thread is blocked.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of a connection. It is the field `connection` of its log lines, and unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(NonZeroU64);

impl ConnectionId {
    pub(crate) fn number(self) -> NonZeroU64 {
        self.0
    }
}

impl From<NonZeroU64> for ConnectionId {
    fn from(number: NonZeroU64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ConnectionId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The connections that are meant: those that have all that is set. The default selects every connection.
///
/// ```
/// use slackir::socket::ConnectionFilter;
///
/// let of_ada = ConnectionFilter::default().user("ada");
/// # let _ = of_ada;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionFilter {
    /// The one with this id.
    pub id: Option<ConnectionId>,
    /// Those of this user, as [`Socket::user`](super::Socket::user) names it.
    pub user: Option<String>,
    /// Those of this client address.
    pub address: Option<IpAddr>,
    /// Those that have joined this topic.
    pub topic: Option<String>,
}

setters!(ConnectionFilter {
} some {
    id: ConnectionId,
    user: impl Into<String>,
    address: IpAddr,
    topic: impl Into<String>,
});

/// One open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number.
    pub id: ConnectionId,
    /// The socket's id. Phoenix: `id/1`.
    pub socket_id: Option<String>,
    /// Its user, if [`Socket::user`](super::Socket::user) names one.
    pub user: Option<String>,
    /// The client's address. Behind a trusted proxy it is the one that the proxy names. `None` without a network.
    pub address: Option<IpAddr>,
    /// `websocket` or `longpoll`.
    pub transport: &'static str,
    /// When it began, in whole seconds.
    pub since: SystemTime,
    /// The topics that the client has joined. Phoenix: `Phoenix.Debug.list_channels/1`.
    pub topics: Vec<String>,
    /// The bytes that wait for the client.
    pub outbox_bytes: usize,
    /// The bytes of the client's messages.
    pub received_bytes: u64,
}

/// A list of open connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedSockets {
    /// The newest of them, the newest first.
    pub sockets: Vec<ConnectionInfo>,
    /// The number of all that the filter selects.
    pub total: usize,
    /// Whether all connections have answered in 5 seconds. Otherwise the list and its total have only those that did.
    pub is_complete: bool,
}

impl Sockets {
    /// The newest connections that the filter selects.
    pub(crate) async fn list(&self, filter: ConnectionFilter, limit: usize) -> ListedSockets {
        let deadline = Instant::now() + PATIENCE;
        let is_everybody = filter == ConnectionFilter::default();
        let mut listed = ListedSockets::default();
        let filter = Arc::new(filter);
        let all = async {
            let _one = self.one_listing().await;
            let mut last = None;
            loop {
                let wanted = if is_everybody {
                    limit - listed.sockets.len()
                } else {
                    ASKED_AT_ONCE
                };
                let most = ASKED_AT_ONCE.min(wanted);
                let Some(batch) = self.batch(&filter, &mut last, most) else {
                    break;
                };
                let answers = batch
                    .iter()
                    .map(|socket| socket.send(Describe(Arc::clone(&filter))));
                // An error: the connection has ended meanwhile.
                for info in join_all(answers)
                    .await
                    .into_iter()
                    .filter_map(|info| info.ok()?)
                {
                    listed.total += 1;
                    if listed.sockets.len() < limit {
                        listed.sockets.push(info);
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        let is_complete = timeout_at(deadline, all).await.is_ok();
        listed.is_complete = is_complete;
        if is_everybody {
            listed.total = listed.sockets.len().max(self.count());
        }
        listed
    }

    /// Ends the connections that the filter selects. Returns their number, as far as they answer in time; a late one
    /// ends later.
    pub(crate) async fn disconnect(&self, filter: ConnectionFilter) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let filter = Arc::new(filter);
        let (mut last, mut ended) = (None, 0);
        while let Some(batch) = self.batch(&filter, &mut last, ASKED_AT_ONCE) {
            let ask = |socket: &Addr<_>| socket.send(DisconnectSelected(Arc::clone(&filter)));
            let answers = batch.iter().map(|socket| timeout_at(deadline, ask(socket)));
            let answers = join_all(answers).await;
            ended += answers
                .iter()
                .filter(|answer| matches!(answer, Ok(Ok(true))))
                .count();
            tokio::task::yield_now().await;
        }
        ended
    }

    /// The next connections that may be selected, from the newest to the oldest: later ones are not among them.
    /// `None` if there are no more.
    fn batch(
        &self,
        filter: &ConnectionFilter,
        last: &mut Option<ConnectionId>,
        most: usize,
    ) -> Option<Vec<Addr<SocketServer>>> {
        if let Some(id) = filter.id {
            return match last.replace(id) {
                None => Some(vec![self.find(id)?]),
                Some(_) => None,
            };
        }
        let (oldest, sockets) = self.newest_before(*last, most)?;
        *last = Some(oldest);
        Some(sockets)
    }
}
