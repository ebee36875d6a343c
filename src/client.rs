//! [`Client`]: identifies the client of a connection in log lines.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{DisplayValue, display};

use crate::admission::ClientAddress;

/// The client of a connection. It is stored in the outbox, which every sender to the client holds.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The number of the connection, from 1 in this process.
    number: NonZeroU64,
    address: Option<ClientAddress>,
    /// The socket's id.
    id: Option<Box<str>>,
}

impl Client {
    /// The client of a new connection. `address` is `None` if the client has no network address.
    pub(crate) fn new(address: Option<ClientAddress>, id: Option<&str>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NonZeroU64::MIN.saturating_add(NEXT.fetch_add(1, Ordering::Relaxed)),
            address,
            id: id.map(Box::from),
        }
    }

    pub(crate) fn number(&self) -> NonZeroU64 {
        self.number
    }

    /// The address of the client itself: behind a trusted proxy, the one that the proxy names.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }

    /// The other end of the TCP connection, as a log field.
    pub(crate) fn peer(&self) -> Option<DisplayValue<SocketAddr>> {
        self.address.map(|address| display(address.peer()))
    }

    /// The client's address according to a trusted proxy, as a log field.
    pub(crate) fn forwarded(&self) -> Option<DisplayValue<IpAddr>> {
        self.address
            .and_then(|address| address.forwarded())
            .map(display)
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// Writes a log line with the fields that identify a client: `log_client!(info, client, topic,
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
