//! [`Client`]: who is at the other end of a connection, for the log lines about it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{DisplayValue, display};

use crate::admission::ClientAddress;

/// Who a connection belongs to. Its outbox carries it, which everything that speaks to the client holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// Counted from 1 in this process; 0 is nobody.
    number: u64,
    address: Option<ClientAddress>,
    /// The socket's id.
    id: Option<Box<str>>,
}

impl Client {
    /// The client of a new connection. `address` is `None` where no request has brought it.
    pub(crate) fn new(address: Option<ClientAddress>, id: Option<&str>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            address,
            id: id.map(Box::from),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The other end of its TCP connection, as a field.
    pub(crate) fn peer(&self) -> Option<DisplayValue<SocketAddr>> {
        self.address.map(|address| display(address.peer()))
    }

    /// The address that a trusted proxy has named, as a field.
    pub(crate) fn forwarded(&self) -> Option<DisplayValue<IpAddr>> {
        self.address
            .and_then(|address| address.forwarded())
            .map(display)
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// A log line about a client, with the fields that say who it is: `log_client!(info, client, topic,
/// "channel.joined")`.
macro_rules! log_client {
    ($level:ident, $client:expr, $($line:tt)+) => {{
        let client: &$crate::client::Client = $client;
        tracing::$level!(
            connection = client.number(),
            peer = client.peer(),
            forwarded = client.forwarded(),
            id = client.id(),
            $($line)+
        )
    }};
}

pub(crate) use log_client;
