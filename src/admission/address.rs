//! [`ClientAddress`]: the address of a client. [`TrustedProxies`]: the proxies that may name it. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

/// The text of an empty list.
const NONE: &str = "none";

/// The networks of the proxies that may name the client for whom they connect. A clone is cheap.
///
/// Default: loopback. It is parsed from a list such as `10.0.0.0/8, 192.0.2.7, ::1`, or from `none`.
///
/// ```
/// use slackir::admission::TrustedProxies;
///
/// let proxies: TrustedProxies = "10.0.0.0/8, ::1".parse()?;
/// assert!(proxies.contains("10.1.2.3".parse()?));
/// assert!(!TrustedProxies::default().contains("10.1.2.3".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// An entry in a list of proxies is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither an address nor a network; write a list such as 10.0.0.0/8,192.0.2.7,::1, or none"
)]
pub struct InvalidProxy(String);

impl Default for TrustedProxies {
    fn default() -> Self {
        "127.0.0.0/8,::1".parse().expect("both are networks")
    }
}

impl FromStr for TrustedProxies {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == NONE {
            return Ok(Self(Arc::default()));
        }
        let entries = text.split(',').map(str::trim);
        entries.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<IpNet, InvalidProxy> {
    let address = || text.parse().ok().map(|ip: IpAddr| ip.to_canonical().into());
    let network = text.parse().ok().or_else(address);
    network.ok_or_else(|| InvalidProxy(text.to_owned()))
}

impl TrustedProxies {
    /// Whether the address is that of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The address of a client, as far as the server knows it.
///
/// Displayed as `192.0.2.7:50123`, or as `203.0.113.9 by 127.0.0.1:41000` behind a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    peer: SocketAddr,
    forwarded: Option<IpAddr>,
    is_proxy: bool,
}

impl ClientAddress {
    /// The client of a TCP connection that has not sent a request yet.
    pub fn of_peer(peer: SocketAddr, proxies: &TrustedProxies) -> Self {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Self {
            peer,
            forwarded: None,
            is_proxy: proxies.contains(peer.ip()),
        }
    }

    /// The client that sent a request. `hops` are the addresses in the forwarding headers, from right to
    /// left; `None` for one that cannot be read. They count only if the peer is a trusted proxy. Then the
    /// client is the first hop that is no trusted proxy, because that client could invent all further hops.
    /// If all are proxies, the client is the last hop.
    pub fn of_request(
        peer: SocketAddr,
        hops: impl Iterator<Item = Option<IpAddr>>,
        proxies: &TrustedProxies,
    ) -> Self {
        let mut client = Self::of_peer(peer, proxies);
        for hop in hops {
            let (true, Some(address)) = (client.is_proxy, hop) else {
                break;
            };
            client.forwarded = Some(address);
            client.is_proxy = proxies.contains(address);
        }
        client
    }

    /// The other end of the TCP connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address that a trusted proxy has named.
    pub fn forwarded(&self) -> Option<IpAddr> {
        self.forwarded
    }

    /// The address of the client itself: the forwarded one, else the peer's.
    pub fn ip(&self) -> IpAddr {
        self.forwarded.unwrap_or(self.peer.ip())
    }

    /// Whether the client's address is that of a trusted proxy, which many clients may share.
    pub fn is_proxy(&self) -> bool {
        self.is_proxy
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.forwarded {
            Some(forwarded) => write!(f, "{forwarded} by {}", self.peer),
            None => self.peer.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, hops: &[&str]) -> ClientAddress {
        let proxies = "127.0.0.0/8,::1,10.0.0.0/8".parse().expect("networks");
        let peer = peer.parse().expect("an address");
        let hops = hops.iter().map(|hop| hop.parse().ok());
        ClientAddress::of_request(peer, hops, &proxies)
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let stranger = client("192.0.2.7:5000", &["203.0.113.9"]);
        assert_eq!(stranger.to_string(), "192.0.2.7:5000");
        assert!(!stranger.is_proxy());
    }

    #[test]
    fn the_client_is_the_first_hop_that_is_no_proxy() {
        for (hops, expected, is_proxy) in [
            (&[][..], "127.0.0.1:4100", true),
            (
                &["203.0.113.9", "1.1.1.1"],
                "203.0.113.9 by 127.0.0.1:4100",
                false,
            ),
            (
                &["10.1.1.1", "203.0.113.9"],
                "203.0.113.9 by 127.0.0.1:4100",
                false,
            ),
            (&["unknown", "1.1.1.1"], "127.0.0.1:4100", true),
            (
                &["10.0.0.7", "unknown", "1.1.1.1"],
                "10.0.0.7 by 127.0.0.1:4100",
                true,
            ),
            (
                &["10.0.0.7", "10.0.0.8"],
                "10.0.0.8 by 127.0.0.1:4100",
                true,
            ),
        ] {
            let client = client("127.0.0.1:4100", hops);
            assert_eq!(client.to_string(), expected, "{hops:?}");
            assert_eq!(client.is_proxy(), is_proxy, "{hops:?}");
        }
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let mapped = client("[::ffff:127.0.0.1]:4100", &["203.0.113.9"]);
        assert_eq!(mapped.to_string(), "203.0.113.9 by 127.0.0.1:4100");
        let proxies: TrustedProxies = "::ffff:192.0.2.7".parse().expect("an address");
        assert!(proxies.contains("192.0.2.7".parse().expect("an address")));
    }

    #[test]
    fn a_list_of_proxies_is_read_or_the_wrong_entry_named() {
        let none: TrustedProxies = "none".parse().expect("a word");
        assert!(!none.contains("127.0.0.1".parse().expect("an address")));
        for (text, wrong) in [
            ("", ""),
            ("10.0.0.0/8,proxy", "proxy"),
            ("10.0.0.0/33", "10.0.0.0/33"),
        ] {
            let error = text.parse::<TrustedProxies>().expect_err("a mistake");
            assert_eq!(error, InvalidProxy(wrong.to_owned()));
        }
    }
}
