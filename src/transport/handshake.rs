//! The part of a handshake that both transports share: from a request to an accepted client, with the
//! checks in Phoenix's order.

use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, http::header};
use futures_util::FutureExt;
use serde_json::{Map, Value};
use tracing::field::display;

use super::head::Head;
use super::origin::CheckOrigin;
use super::refusal::{Refusal, banned};
use super::{cookie, forwarded, origin, query};
use crate::admission::{Admitted, ClientAddress};
use crate::assigns::Assigns;
use crate::client::{Client, log_client};
use crate::deflate::Window;
use crate::flow::Flow;
use crate::metrics::connection_metrics;
use crate::outbox::Outbox;
use crate::pubsub::PubSub;
use crate::serializer::Serializer;
use crate::session::{CookieStore, SessionOptions};
use crate::socket::{
    Activity, ConnectInfo, ConnectRefused, Connection, Params, Served, Sign, Sockets, UriInfo,
};
use crate::token::Term;
use crate::trace::{Span, Traced, begin_connect};

/// The parameter in which a page sends the CSRF token of its session, whatever the key of the token in the
/// session. No path variable can set it: path variables whose name begins with `_` are not passed on.
const CSRF_TOKEN: &str = "_csrf_token";

/// A part of the request that `connect` may see. The application gets no other part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectInfoKey {
    /// The other end of the TCP connection.
    PeerData,
    /// `traceparent` and `tracestate`.
    TraceContextHeaders,
    /// Every header whose name begins with `x-`.
    XHeaders,
    /// Every header whose name begins with `sec-websocket-`.
    SecWebsocketHeaders,
    /// Scheme, host, port, path and query.
    Uri,
    /// The `User-Agent` header.
    UserAgent,
}

/// The header in which a proxy, or a client other than a browser, sends its place in a trace.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Makes the response to a client that `connect` has refused with a reason. Phoenix: `error_handler`.
pub type ErrorHandler = Arc<dyn Fn(&ConnectRefused) -> HttpResponse + Send + Sync>;

/// Copies data from a request into the assigns. See [`Mount::on_request`](crate::Mount::on_request).
pub(crate) type RequestHook = Arc<dyn Fn(&HttpRequest, &mut Assigns) + Send + Sync>;

/// The options for the handshakes of one mounted socket.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct HandshakeOptions {
    /// Which pages may open the socket. Default: [`CheckOrigin::OwnAddress`].
    pub check_origin: CheckOrigin,
    /// The parts of the request that `connect` may see. Default: none.
    pub connect_info: Vec<ConnectInfoKey>,
    /// Names of further headers that `connect` may see, in lower case. Default: none.
    pub headers: Vec<String>,
    /// Whether [`ConnectInfo::auth_token`] gets the client's `authToken` (phoenix.js 1.8). Default: no.
    pub auth_token: bool,
    /// How to read the session cookie of a Phoenix application, for [`ConnectInfo::session`]. Default: no
    /// cookie is read.
    pub session: Option<SessionOptions>,
    /// WebSocket subprotocols of the server, the preferred first. The first of them that the client offers
    /// is chosen. Default: none; the client's offer is ignored.
    pub subprotocols: Vec<String>,
    /// The versions of the Phoenix protocol that the mount accepts. Default: all.
    pub serializers: Serializers,
    /// Whether messages and long-poll answers of 512 bytes and more are compressed for clients that support it, and
    /// whether clients may compress their messages. WebSocket connections agree on `permessage-deflate` under
    /// [`Endpoint::serve`](crate::Endpoint::serve) and [`direct::serve`](super::direct::serve), not in an `HttpServer`.
    /// Default: no. The length of a compressed message can betray a secret in it to whoever reads the network and
    /// can add text to the same message. Phoenix: `compress`.
    pub compress: bool,
    /// Makes the response to a refused WebSocket connection. Default: 403, or 503, without a body.
    pub error_handler: Option<ErrorHandler>,
}

setters!(HandshakeOptions {
check_origin: CheckOrigin,
    connect_info: Vec<ConnectInfoKey>,
    headers: Vec<String>,
    auth_token: bool,
    subprotocols: Vec<String>,
    serializers: Serializers,
    compress: bool,
} some {
    session: SessionOptions,
    error_handler: ErrorHandler,
});

/// The versions of the Phoenix protocol that a mount accepts. A client of another version is refused with
/// 403. Phoenix: the transport's option `serializer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serializers {
    /// Both.
    #[default]
    All,
    /// vsn 1.0.0 only: phoenix.js up to 1.2.
    V1,
    /// vsn 2.0.0 only: phoenix.js from 1.3 on.
    V2,
}

impl Serializers {
    fn include(self, serializer: Serializer) -> bool {
        match self {
            Self::All => true,
            Self::V1 => serializer == Serializer::V1,
            Self::V2 => serializer != Serializer::V1,
        }
    }
}

impl fmt::Debug for HandshakeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeOptions")
            .field("check_origin", &self.check_origin)
            .field("connect_info", &self.connect_info)
            .field("headers", &self.headers)
            .field("auth_token", &self.auth_token)
            .field("session", &self.session)
            .field("subprotocols", &self.subprotocols)
            .field("serializers", &self.serializers)
            .field("compress", &self.compress)
            .finish_non_exhaustive()
    }
}

/// One mounted socket, with all that its transports need.
pub(crate) struct Mounted {
    pub(crate) mount: Arc<Served>,
    pub(super) handshake: HandshakeOptions,
    /// Made from the session options of `handshake`.
    session: Option<CookieStore>,
    on_request: Option<RequestHook>,
    pub(super) pubsub: PubSub,
    sockets: Sockets,
}

/// The application's answer to a client that may connect.
struct Asked {
    assigns: Assigns,
    id: Option<String>,
}

/// An accepted client, before its connection is opened.
pub(crate) struct Accepted {
    asked: Asked,
    serializer: Serializer,
    address: Option<ClientAddress>,
    user_agent: Option<Box<str>>,
    admitted: Admitted,
    traced: Traced,
    /// The window of a client that takes compressed messages.
    window: Option<Window>,
}

impl Accepted {
    /// A client without a network, which counts against no limit.
    fn alone(asked: Asked, serializer: Serializer) -> Self {
        Self {
            asked,
            serializer,
            address: None,
            user_agent: None,
            admitted: Admitted::alone(),
            traced: Traced::default(),
            window: None,
        }
    }

    /// The same client, which takes compressed messages if it has a window.
    pub(super) fn with_window(self, window: Option<Window>) -> Self {
        Self { window, ..self }
    }

    /// The same client on a transport that carries only text.
    pub(super) fn text_only(self) -> Self {
        Self {
            serializer: self.serializer.text_only(),
            ..self
        }
    }
}

impl Mounted {
    /// # Panics
    /// If the session options are invalid, or neither `check_csrf` nor `check_origin` protects the session.
    pub(crate) fn new(
        mount: Served,
        handshake: HandshakeOptions,
        pubsub: PubSub,
        sockets: Sockets,
    ) -> Self {
        let session = handshake.session.as_ref().map(|options| {
            assert!(
                options.check_csrf || !matches!(handshake.check_origin, CheckOrigin::Off),
                "a session needs one of check_csrf and check_origin: without both any page could use it"
            );
            CookieStore::new(options).unwrap_or_else(|error| panic!("{error}"))
        });
        Self {
            mount: Arc::new(mount),
            handshake,
            session,
            on_request: None,
            pubsub,
            sockets,
        }
    }

    /// The same, with a hook that runs on each request before `connect`.
    pub(crate) fn with_hook(self, on_request: Option<RequestHook>) -> Self {
        Self { on_request, ..self }
    }

    /// Whether its handshakes must go through an `App`: the hook needs an `HttpRequest`.
    pub(crate) fn needs_app(&self) -> bool {
        self.on_request.is_some()
    }

    /// The query of a request as connection parameters.
    pub(super) fn params(req: &Head<'_>) -> Result<Map<String, Value>, Refusal> {
        query::parse(req.query_string()).map_err(|error| Refusal::BadRequest(error.to_string()))
    }

    pub(super) fn check_origin(&self, req: &Head<'_>) -> Result<(), Refusal> {
        if self.handshake.check_origin.allows(req) {
            return Ok(());
        }
        let (peer, forwarded) = self.address_fields(req);
        let origin = origin::shown(req);
        let setting = CheckOrigin::setting_for(&origin);
        tracing::info!(
            origin,
            setting,
            peer,
            forwarded,
            "transport.origin.refused: if it is the origin of your page, set public_host, or what \
             `setting` says"
        );
        Err(Refusal::Origin)
    }

    /// Logs a request that no transport can serve.
    pub(super) fn log_malformed(&self, req: &Head<'_>, reason: impl fmt::Display) {
        let (peer, forwarded) = self.address_fields(req);
        tracing::debug!(%reason, peer, forwarded, "transport.handshake.malformed");
    }

    /// Negotiates the serializer and asks the application.
    pub(super) async fn connect(
        &self,
        req: &Head<'_>,
        mut params: Map<String, Value>,
        auth_token: Option<String>,
    ) -> Result<Accepted, Refusal> {
        let begun = Instant::now();
        if self.sockets.is_draining() {
            return Err(Refusal::Draining);
        }
        let address = self.client_address(req);
        let ip = address.map(|address| address.ip());
        if self.sockets.bans().refuses(None, ip) {
            return Err(self.refused(req, banned()));
        }
        if let Some(address) = address {
            let names_client = forwarded::names_client(req.headers());
            self.sockets.admission().note_address(address, names_client);
        }
        let admitted = self.sockets.admit(address).map_err(Refusal::Full)?;
        // Path variables win over the query.
        let variables = req.variables().filter(|(name, _)| !name.starts_with('_'));
        params.extend(variables.map(|(name, value)| (name.to_owned(), value.into())));
        // A `vsn` that is not a string counts as an unknown version, not as a missing one.
        let vsn = params
            .get("vsn")
            .map(|vsn| vsn.as_str().unwrap_or_default());
        let serializer = Serializer::negotiate(vsn)
            .filter(|known| self.handshake.serializers.include(*known))
            .ok_or_else(|| {
                let (peer, forwarded) = self.address_fields(req);
                tracing::info!(vsn, peer, forwarded, "transport.vsn.refused");
                Refusal::Version
            })?;
        let info = ConnectInfo {
            auth_token,
            session: self.session(req, &params),
            ..self.connect_info(req)
        };
        let mut span = begin_connect(&params, || text(req.headers(), &TRACEPARENT));
        let params = Params::new(params);
        let asked = async {
            let assigns = self.taken_over(req);
            self.ask(&params, &info, ip, assigns).await
        };
        let asked = span.within(AssertUnwindSafe(asked).catch_unwind()).await;
        connection_metrics().connect_seconds.record(begun.elapsed());
        describe(&mut span, &asked);
        match asked {
            Ok(Ok(asked)) => Ok(Accepted {
                traced: span.traced(),
                asked,
                address,
                user_agent: text(req.headers(), &header::USER_AGENT).map(Box::from),
                serializer,
                admitted,
                window: None,
            }),
            Ok(Err(refused)) => Err(self.refused(req, refused)),
            Err(_) => {
                let (peer, forwarded) = self.address_fields(req);
                let user_agent = text(req.headers(), &header::USER_AGENT);
                tracing::error!(
                    peer,
                    forwarded,
                    user_agent,
                    "socket.connect.panicked: the client was refused; mend the socket's connect"
                );
                Err(Refusal::Crashed)
            }
        }
    }

    /// Logs a refusal.
    fn refused(&self, req: &Head<'_>, refused: ConnectRefused) -> Refusal {
        let (peer, forwarded) = self.address_fields(req);
        let user_agent = text(req.headers(), &header::USER_AGENT);
        tracing::info!(%refused, peer, forwarded, user_agent, "socket.connect.refused");
        Refusal::Refused(refused)
    }

    /// Asks `connect` about a client without a network. The client counts against no limit.
    pub(crate) async fn accept(
        &self,
        serializer: Serializer,
        params: &Params,
        info: &ConnectInfo,
    ) -> Result<Accepted, ConnectRefused> {
        let asked = self.ask(params, info, None, Assigns::default()).await?;
        Ok(Accepted::alone(asked, serializer))
    }

    /// Like [`accept`](Self::accept), without asking `connect`.
    pub(crate) fn accept_as(&self, serializer: Serializer, assigns: Assigns) -> Accepted {
        let id = self.mount.socket.id(&assigns);
        Accepted::alone(Asked { assigns, id }, serializer)
    }

    /// The assigns that the mount's hook sets from the request.
    fn taken_over(&self, req: &Head<'_>) -> Assigns {
        let mut assigns = Assigns::default();
        if let (Some(hook), Some(request)) = (&self.on_request, req.routed()) {
            hook(request, &mut assigns);
        }
        assigns
    }

    /// Calls the application's `connect`, and refuses a user that is banned.
    async fn ask(
        &self,
        params: &Params,
        info: &ConnectInfo,
        ip: Option<IpAddr>,
        mut assigns: Assigns,
    ) -> Result<Asked, ConnectRefused> {
        self.mount
            .socket
            .connect(params, info, &mut assigns)
            .await?;
        let bans = self.sockets.bans();
        if bans.refuse_any() && bans.refuses(self.mount.socket.user(&assigns).as_deref(), ip) {
            return Err(banned());
        }
        let id = self.mount.socket.id(&assigns);
        Ok(Asked { assigns, id })
    }

    /// Opens the connection of an accepted client on this thread. The connection ends after `timeout`
    /// without a sign of life from the client.
    pub(crate) fn open(&self, accepted: Accepted, sign: Sign, timeout: Duration) -> Connection {
        let options = &self.mount.options;
        let client = Client::new(accepted.address, accepted.asked.id.as_deref());
        let (transport, serializer) = (sign.transport(), accepted.serializer);
        let user_agent = accepted.user_agent.as_deref();
        log_client!(
            info,
            &client,
            transport,
            ?serializer,
            user_agent,
            "socket.connected"
        );
        let outbox = Rc::new(Outbox::of(client, options.outbox).with_window(accepted.window));
        Connection {
            mount: Arc::clone(&self.mount),
            pubsub: self.pubsub.clone(),
            registration: self.sockets.registration(),
            _admitted: accepted.admitted,
            traced: accepted.traced,
            serializer: accepted.serializer,
            since: unix_seconds(),
            assigns: accepted.asked.assigns,
            flow: Flow::new(options.flow),
            activity: Activity::watch(sign, timeout, options.message_timeout, Rc::clone(&outbox)),
            outbox,
        }
    }

    /// The client's address. `None` if the server does not listen on TCP.
    pub(super) fn client_address(&self, req: &Head<'_>) -> Option<ClientAddress> {
        let options = self.sockets.admission().options();
        let peer = req.peer_addr()?;
        let proxies = &options.trusted_proxies;
        Some(forwarded::client_address(peer, req.headers(), proxies))
    }

    /// Whether a trusted proxy has sent the request, and has named its client.
    pub(super) fn is_behind_proxy(&self, req: &Head<'_>) -> bool {
        let address = self.client_address(req);
        address.is_some_and(|address| address.forwarded().is_some())
    }

    /// The client's address as fields of a log line.
    fn address_fields(
        &self,
        req: &Head<'_>,
    ) -> (Option<impl tracing::Value>, Option<impl tracing::Value>) {
        let address = self.client_address(req);
        let peer = address.map(|address| display(address.peer()));
        let forwarded = address.and_then(|address| address.forwarded());
        (peer, forwarded.map(display))
    }

    /// The session in the request's cookie, if the mount reads sessions.
    fn session(&self, req: &Head<'_>, params: &Map<String, Value>) -> Option<Term> {
        let store = self.session.as_ref()?;
        let cookie = cookie::find(req.headers(), store.key());
        let csrf_token = params.get(CSRF_TOKEN).and_then(Value::as_str);
        store
            .get(cookie, csrf_token)
            .inspect_err(|reason| tracing::debug!(%reason, "transport.session.none"))
            .ok()
    }

    /// The parts of the request that the mount's options list.
    fn connect_info(&self, req: &Head<'_>) -> ConnectInfo {
        let wanted = &self.handshake.headers;
        let mut info = ConnectInfo {
            headers: headers(req.headers(), |name| {
                wanted.iter().any(|known| known == name)
            }),
            ..ConnectInfo::default()
        };
        for key in &self.handshake.connect_info {
            match key {
                ConnectInfoKey::PeerData => info.peer_data = req.peer_addr(),
                ConnectInfoKey::TraceContextHeaders => {
                    let is_trace = |name: &str| matches!(name, "traceparent" | "tracestate");
                    info.trace_context_headers = headers(req.headers(), is_trace);
                }
                ConnectInfoKey::XHeaders => {
                    info.x_headers = headers(req.headers(), |name| name.starts_with("x-"));
                }
                ConnectInfoKey::SecWebsocketHeaders => {
                    let is_ws = |name: &str| name.starts_with("sec-websocket-");
                    info.sec_websocket_headers = headers(req.headers(), is_ws);
                }
                ConnectInfoKey::Uri => info.uri = Some(uri(req)),
                ConnectInfoKey::UserAgent => {
                    info.user_agent = text(req.headers(), &header::USER_AGENT).map(str::to_owned);
                }
            }
        }
        info
    }
}

/// Adds the result of `connect` to its span.
fn describe<P>(span: &mut Span, asked: &Result<Result<Asked, ConnectRefused>, P>) {
    match asked {
        Ok(Ok(asked)) => {
            if let Some(id) = &asked.id {
                span.set("slackir.socket_id", id);
            }
        }
        Ok(Err(refused)) => span.set("slackir.refused", refused),
        Err(_) => span.fail("connect panicked"),
    }
}

/// The time, in seconds since 1970.
fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u32::try_from(since.unwrap_or_default().as_secs()).unwrap_or(u32::MAX)
}

/// The first value of a header, if it is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    utf8(headers.get(name)?)
}

/// All values of a header that are text.
pub(super) fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .collect()
}

/// Names and values of the wanted headers, if the value is UTF-8. A repeated header appears repeatedly.
fn headers(all: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let chosen = all.iter().filter(|(name, _)| wanted(name.as_str()));
    let pairs = chosen.filter_map(|(name, value)| Some((name.to_string(), utf8(value)?.into())));
    pairs.collect()
}

/// A header's value, if it is UTF-8.
fn utf8(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// The URI from the request itself: headers of proxies are ignored, because anybody can forge them.
fn uri(req: &Head<'_>) -> UriInfo {
    let (scheme, host, port) = origin::own(req);
    UriInfo {
        scheme: scheme.to_owned(),
        host: host.to_owned(),
        port,
        path: req.path().to_owned(),
        query: req.query_string().to_owned(),
    }
}
