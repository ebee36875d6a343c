//! [`Params`] and [`ConnectInfo`]: what an application learns of a client that connects.

use std::net::SocketAddr;

use serde_json::{Map, Value};

use crate::token::Term;

/// The parameters of a connection: its query, decoded as Plug does. Values are strings, objects
/// (`a[b]=1`) or lists (`l[]=1`).
///
/// ```
/// use slackir::socket::Params;
///
/// fn locale(params: &Params) -> &str {
///     params.get("locale").unwrap_or("en")
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Map<String, Value>);

impl Params {
    pub(crate) fn new(values: Map<String, Value>) -> Self {
        Self(values)
    }

    /// A parameter, if it is a string.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// All parameters, nested ones included.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// The facts of a connection besides its parameters, as far as the mount lets them through.
/// Phoenix: `connect_info`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectInfo {
    /// The other end of the TCP connection; behind a proxy, the proxy.
    pub peer_data: Option<SocketAddr>,
    /// `traceparent` and `tracestate`, as (name, value).
    pub trace_context_headers: Vec<(String, String)>,
    /// Headers that begin with `x-`, as (name, value).
    pub x_headers: Vec<(String, String)>,
    /// Headers that begin with `sec-websocket-`, as (name, value).
    pub sec_websocket_headers: Vec<(String, String)>,
    /// The URI of the request.
    pub uri: Option<UriInfo>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The headers that [`HandshakeOptions::headers`](crate::transport::HandshakeOptions::headers) names, as (name,
    /// value).
    pub headers: Vec<(String, String)>,
    /// The client's `authToken`, if the mount takes it.
    pub auth_token: Option<String>,
    /// The session of a Phoenix application, a map with string keys, if the mount reads it.
    /// `None` if the cookie or the CSRF token is missing or wrong.
    pub session: Option<Term>,
}

/// The parts of a request's URI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UriInfo {
    /// `http` or `https`.
    pub scheme: String,
    /// From the `Host` header, without the port.
    pub host: String,
    /// The port, or the scheme's own.
    pub port: Option<u16>,
    /// The path.
    pub path: String,
    /// The query, undecoded.
    pub query: String,
}
