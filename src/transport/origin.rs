//! Which pages may open a socket. Phoenix: `check_origin`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::header;
use url::{Host, Url};

use super::head::Head;

/// Decides about an origin. Phoenix: an MFA as `check_origin`.
pub type OriginCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The rule for the `Origin` header. Requests without one (no browser) always pass.
#[derive(Clone)]
pub enum CheckOrigin {
    /// The origin's host is the request's own, a loopback name, or one of these.
    OwnHostOr(Vec<String>),
    /// The origin matches one of these.
    List(Vec<OriginPattern>),
    /// The origin's host is this one; scheme and port do not matter. Phoenix: `true`.
    Host(String),
    /// The origin's scheme, host and port are the request's own. Phoenix: `:conn`.
    Conn,
    /// The application decides; it also sees origins without a host.
    Callback(OriginCheck),
    /// Every origin passes.
    Off,
}

impl Default for CheckOrigin {
    fn default() -> Self {
        Self::OwnHostOr(Vec::new())
    }
}

/// One allowed origin, `//example.com`, `https://example.com:8443` or `//*.example.com`: scheme
/// and port match anything where they are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: Option<String>,
    host: String,
    port: Option<u16>,
    subdomains: bool,
}

/// The text names no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: write https://example.com, //example.com or //*.example.com")]
pub struct InvalidOrigin(String);

/// The parts of an `Origin` header.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl CheckOrigin {
    /// Whether the request may open a socket; only its first `Origin` header counts.
    pub(super) fn allows(&self, req: &Head<'_>) -> bool {
        let Some(value) = req.headers().get(header::ORIGIN) else {
            return true;
        };
        let text = value.to_str().unwrap_or_default();
        match self {
            Self::Off => true,
            Self::Callback(allows) => allows(text),
            _ => Origin::parse(text).is_some_and(|origin| self.matches(&origin, req)),
        }
    }

    /// The setting that would let an origin in, which is its own: for whoever reads that it was refused.
    pub(super) fn setting_for(origin: &str) -> Option<String> {
        let host = Origin::parse(origin)?.host;
        Some(format!("check_origin: a list with //{host}"))
    }

    fn matches(&self, origin: &Origin<'_>, req: &Head<'_>) -> bool {
        match self {
            Self::Off | Self::Callback(_) => true,
            Self::Host(host) => origin.host == host,
            Self::Conn => {
                let (scheme, host, port) = own(req);
                origin.scheme.eq_ignore_ascii_case(scheme)
                    && origin.host == host
                    && origin.port == port
            }
            Self::List(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
            Self::OwnHostOr(hosts) => {
                origin.host == own(req).1
                    || is_loopback(origin.host)
                    || hosts.iter().any(|h| h == origin.host)
            }
        }
    }
}

/// The request's first `Origin` header, as far as it is text.
pub(super) fn shown(req: &Head<'_>) -> String {
    let value = req.headers().get(header::ORIGIN);
    let bytes = value.map(header::HeaderValue::as_bytes).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

impl<'a> Origin<'a> {
    /// `None` for an origin without a host, such as `null` or `file://`.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("//")?;
        let scheme = scheme.strip_suffix(':').unwrap_or(scheme);
        let authority = rest.split(['/', '?', '#']).next()?;
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (host, port) = split_port(authority);
        if host.is_empty() {
            return None;
        }
        Some(Self {
            scheme,
            host,
            port: port.or_else(|| default_port(scheme)),
        })
    }
}

impl OriginPattern {
    fn matches(&self, origin: &Origin<'_>) -> bool {
        let scheme = self
            .scheme
            .as_ref()
            .is_none_or(|s| s.eq_ignore_ascii_case(origin.scheme));
        let port = self.port.is_none_or(|port| Some(port) == origin.port);
        let host = origin.host == self.host
            || self.subdomains
                && origin
                    .host
                    .strip_suffix(&*self.host)
                    .is_some_and(|sub| sub.ends_with('.'));
        scheme && port && host
    }
}

impl FromStr for OriginPattern {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let origin = Origin::parse(text).ok_or_else(|| InvalidOrigin(text.to_owned()))?;
        let (host, subdomains) = match origin.host.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (origin.host, false),
        };
        let valid = Host::parse(host).is_ok() && !host.contains('*');
        if !valid {
            return Err(InvalidOrigin(text.to_owned()));
        }
        let scheme = Some(origin.scheme.to_ascii_lowercase()).filter(|scheme| !scheme.is_empty());
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port: origin.port,
            subdomains,
        })
    }
}

/// `off`, `host`, `conn`, or a comma-separated list of origins.
impl FromStr for CheckOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        match text {
            "off" => Ok(Self::Off),
            "host" => Ok(Self::default()),
            "conn" => Ok(Self::Conn),
            list => list
                .split(',')
                .map(|entry| entry.trim().parse())
                .collect::<Result<_, _>>()
                .map(Self::List),
        }
    }
}

impl fmt::Debug for CheckOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckOrigin({self})")
    }
}

impl fmt::Display for CheckOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnHostOr(_) => f.write_str("host"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::Conn => f.write_str("conn"),
            Self::Callback(_) => f.write_str("callback"),
            Self::Off => f.write_str("off"),
            Self::List(patterns) => write!(f, "{} origins", patterns.len()),
        }
    }
}

/// Scheme, host and port that the request was sent to, by the connection and the `Host` header
/// itself: what proxies add can be forged by anybody.
pub(super) fn own<'a>(req: &Head<'a>) -> (&'static str, &'a str, Option<u16>) {
    let secure = req.is_secure();
    let scheme = if secure { "https" } else { "http" };
    let host = req.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (host, port) = split_port(host);
    (scheme, host, port.or_else(|| default_port(scheme)))
}

/// Host and port of an authority; an IPv6 host keeps its brackets.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

fn is_loopback(host: &str) -> bool {
    match Url::parse(&format!("http://{host}"))
        .ok()
        .as_ref()
        .and_then(Url::host)
    {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn allows(check: &CheckOrigin, origin: &str) -> bool {
        let req = TestRequest::default()
            .insert_header((header::HOST, "chat.example.com:4000"))
            .insert_header((header::ORIGIN, origin))
            .to_http_request();
        check.allows(&Head::from(&req))
    }

    /// The table that was observed on Phoenix.
    /// Requirements 25, 26, 27, 29.
    #[test]
    fn a_list_matches_scheme_host_and_port_independently() {
        let list = "//example.com,https://secure.com,//*.wild.com,//port.com:81";
        let check: CheckOrigin = list.parse().expect("a list of origins");
        for origin in [
            "http://example.com",
            "https://example.com:8443",
            "ws://example.com",
            "//example.com",
            "http://user@example.com",
            "https://secure.com:443",
            "http://wild.com",
            "http://a.b.wild.com:99",
            "http://port.com:81",
        ] {
            assert!(allows(&check, origin), "{origin}");
        }
        for origin in [
            "http://sub.example.com",
            "http://secure.com",
            "https://secure.com:444",
            "http://awild.com",
            "http://port.com",
            "http://EXAMPLE.com",
            "null",
            "",
            "file://",
            "example.com",
        ] {
            assert!(!allows(&check, origin), "{origin}");
        }
    }

    /// Requirements 21, 24, 28, 29, 30.
    #[test]
    fn by_default_the_own_host_and_loopback_pass() {
        let check = CheckOrigin::OwnHostOr(vec!["slackir.test".into()]);
        for (origin, allowed) in [
            ("http://chat.example.com", true),
            ("https://chat.example.com:8443", true),
            ("http://localhost:3000", true),
            ("http://127.0.0.1:3000", true),
            ("http://[::1]:3000", true),
            ("http://slackir.test", true),
            ("http://evil.com", false),
            ("http://localhost.evil.com", false),
            ("null", false),
        ] {
            assert_eq!(allows(&check, origin), allowed, "{origin}");
        }
        assert!(allows(&CheckOrigin::Off, "null"));
        let host = CheckOrigin::Host("chat.example.com".into());
        assert!(allows(&host, "https://chat.example.com:1") && !allows(&host, "http://localhost"));
        let own = [
            "http://chat.example.com:4000",
            "https://chat.example.com:4000",
            "http://chat.example.com",
        ];
        assert_eq!(
            own.map(|origin| allows(&CheckOrigin::Conn, origin)),
            [true, false, false]
        );
        let callback = CheckOrigin::Callback(Arc::new(|origin| origin == "null"));
        assert!(allows(&callback, "null") && !allows(&callback, "http://chat.example.com"));
        assert!("nonsense".parse::<CheckOrigin>().is_err());
        assert!("//*".parse::<CheckOrigin>().is_err());
    }
}
