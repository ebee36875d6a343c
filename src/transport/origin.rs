//! The check of the `Origin` header: which pages may open a socket. Phoenix: `check_origin`.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::header;
use url::Host;

use super::head::Head;

/// Returns whether an origin may open a socket. Phoenix: an MFA as `check_origin`.
pub type OriginCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The rule for the `Origin` header. A request without the header always passes: it does not come from a
/// browser.
///
/// Anybody can make a name resolve to this server's address (DNS rebinding). A page of that name then sends
/// the name both as its origin and in the `Host` header. So a name passes only if it is configured:
/// [`CheckOrigin::Host`] or [`CheckOrigin::List`].
#[derive(Clone, Default)]
pub enum CheckOrigin {
    /// The origin's host equals that of the `Host` header and is an IP address or `localhost`, for which no
    /// name server is asked. The default, for a server that does not know its name.
    #[default]
    OwnAddress,
    /// Like [`CheckOrigin::OwnAddress`], and also allows every loopback origin, such as
    /// `http://localhost:3000`. For a server that listens on a loopback address only.
    OwnAddressOrLoopback,
    /// The origin matches one of these.
    List(Vec<OriginPattern>),
    /// The origin has this host, and any scheme and port. Phoenix: `true`.
    Host(HostName),
    /// The origin's scheme, host and port equal those of the request, taken from its `Host` header. No
    /// defence against DNS rebinding, unless a proxy forwards requests for its own names only. Phoenix:
    /// `:conn`.
    Conn,
    /// The application decides. It also gets origins without a host.
    Callback(OriginCheck),
    /// A rule that may change while the server runs.
    Shared(SharedOrigin),
    /// Every origin passes.
    Off,
}

/// A rule for origins that may change while the server runs: each handshake uses the present one. Clones share it.
#[derive(Clone)]
pub struct SharedOrigin(Arc<RwLock<Arc<CheckOrigin>>>);

named_debug!(SharedOrigin);

impl SharedOrigin {
    /// Begins with this rule.
    pub fn new(rule: CheckOrigin) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rule))))
    }

    /// Changes the rule for the handshakes to come.
    pub fn set(&self, rule: CheckOrigin) {
        // No code panics while it holds this lock.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rule);
    }

    fn rule(&self) -> Arc<CheckOrigin> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A host as browsers write it in an origin: in lower case and punycode, IPv6 in brackets.
///
/// ```
/// use slackir::transport::HostName;
///
/// let host: HostName = "Bücher.example.".parse().unwrap();
/// assert_eq!(host.to_string(), "xn--bcher-kva.example");
/// assert!("https://example.com".parse::<HostName>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

/// The text is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name: write chat.example.com, without scheme, port and path")]
pub struct InvalidHost(String);

/// One allowed origin: `//example.com`, `https://example.com:8443` or `//*.example.com`. Without a scheme
/// or port the pattern matches all of them. The host may be written in any way that a browser's address bar
/// accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: Option<String>,
    host: HostName,
    port: Option<u16>,
    subdomains: bool,
}

/// The text is no pattern of origins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin: write https://example.com, //example.com:8443 or //*.example.com, without a \
     path; or one of the words host, conn and off"
)]
pub struct InvalidOrigin(String);

/// The parts of an `Origin` header.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl CheckOrigin {
    /// Whether the request may open a socket. Only its first `Origin` header counts.
    pub(super) fn allows(&self, req: &Head<'_>) -> bool {
        let Some(value) = req.headers().get(header::ORIGIN) else {
            return true;
        };
        let text = value.to_str().unwrap_or_default();
        match self {
            Self::Off => true,
            Self::Callback(allows) => allows(text),
            Self::Shared(shared) => shared.rule().allows(req),
            _ => Origin::parse(text).is_some_and(|origin| self.matches(&origin, req)),
        }
    }

    /// The setting that would allow an origin, for the log line of its refusal.
    pub(super) fn setting_for(origin: &str) -> Option<String> {
        let host = Origin::parse(origin)?.host;
        Some(format!("check_origin: a list with //{host}"))
    }

    fn matches(&self, origin: &Origin<'_>, req: &Head<'_>) -> bool {
        match self {
            Self::Off | Self::Callback(_) | Self::Shared(_) => true,
            Self::Host(host) => origin.host == host.0,
            Self::Conn => {
                let (scheme, host, port) = own(req);
                origin.scheme.eq_ignore_ascii_case(scheme)
                    && origin.host == host
                    && origin.port == port
            }
            Self::List(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
            Self::OwnAddress => is_own_address(origin.host, req),
            Self::OwnAddressOrLoopback => {
                is_loopback(origin.host) || is_own_address(origin.host, req)
            }
        }
    }
}

/// The request's first `Origin` header, with replacement characters for bytes that are not UTF-8.
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

impl FromStr for HostName {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.to_owned());
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.contains('*') {
            return Err(invalid());
        }
        let host = Host::parse(name).map_err(|_| invalid())?;
        Ok(Self(host.to_string()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl OriginPattern {
    /// Whether it allows pages of this host, of some scheme and port.
    #[cfg(feature = "server")]
    pub(crate) fn has_host(&self, host: &HostName) -> bool {
        let origin = Origin {
            scheme: self.scheme.as_deref().unwrap_or_default(),
            host: &host.0,
            port: self.port,
        };
        self.matches(&origin)
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        let scheme = self
            .scheme
            .as_ref()
            .is_none_or(|s| s.eq_ignore_ascii_case(origin.scheme));
        let port = self.port.is_none_or(|port| Some(port) == origin.port);
        let host = origin.host == self.host.0
            || self.subdomains
                && origin
                    .host
                    .strip_suffix(&*self.host.0)
                    .is_some_and(|sub| sub.ends_with('.'));
        scheme && port && host
    }

    /// Parses a pattern. `None` if a part of it could not match any origin.
    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("//")?;
        let scheme = match scheme {
            "" => None,
            named => Some(named.strip_suffix(':')?.to_ascii_lowercase()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let (host, subdomains) = match host.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (host, false),
        };
        Some(Self {
            host: host.parse().ok()?,
            port: port.or_else(|| default_port(scheme.as_deref()?)),
            scheme,
            subdomains,
        })
    }
}

impl FromStr for OriginPattern {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        Self::read(text).ok_or_else(|| InvalidOrigin(text.to_owned()))
    }
}

/// `off`, `host`, `conn`, or a comma-separated list of origins.
impl FromStr for CheckOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        match text {
            "off" => Ok(Self::Off),
            "host" => Ok(Self::OwnAddress),
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
            Self::OwnAddress => f.write_str("own address"),
            Self::OwnAddressOrLoopback => f.write_str("own address or loopback"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::Conn => f.write_str("conn"),
            Self::Callback(_) => f.write_str("callback"),
            Self::Off => f.write_str("off"),
            Self::List(patterns) => write!(f, "{} origins", patterns.len()),
            Self::Shared(shared) => shared.rule().fmt(f),
        }
    }
}

/// Scheme, host and port to which the request was sent, from the connection and the `Host` header. Headers
/// of proxies are ignored, because anybody can forge them.
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

/// Whether the host is the request's own, and an IP address or `localhost`, which needs no name server.
fn is_own_address(host: &str, req: &Head<'_>) -> bool {
    let is_address = || matches!(Host::parse(host), Ok(Host::Ipv4(_) | Host::Ipv6(_)));
    host == own(req).1 && (is_address() || is_loopback(host))
}

fn is_loopback(host: &str) -> bool {
    match Host::parse(host) {
        Ok(Host::Ipv4(ip)) => ip.is_loopback(),
        Ok(Host::Ipv6(ip)) => ip.is_loopback(),
        Ok(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
