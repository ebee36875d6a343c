//! From a request to a client that may connect: what both transports check, in Phoenix's order.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, http::header};
use futures_util::FutureExt;
use serde_json::{Map, Value};
use tracing::field::display;

use super::head::Head;
use super::origin::CheckOrigin;
use super::{cookie, forwarded, origin, query};
use crate::admission::{Admitted, ClientAddress, Full};
use crate::assigns::Assigns;
use crate::client::{Client, log_client};
use crate::flow::Flow;
use crate::outbox::Outbox;
use crate::pubsub::PubSub;
use crate::serializer::Serializer;
use crate::session::{CookieStore, SessionOptions};
use crate::socket::{
    Activity, ConnectInfo, ConnectRefused, Connection, Params, Served, Sign, Sockets, UriInfo,
};
use crate::token::Term;

/// The parameter in which a page sends the CSRF token of its session, whatever key that has there.
/// No path variable of this name is a parameter: it begins with `_`.
const CSRF_TOKEN: &str = "_csrf_token";

/// What `connect` may see of a request. Nothing else of it reaches the application.
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

/// Answers a client whose `connect` was refused with a reason. Phoenix: `error_handler`.
pub type ErrorHandler = Arc<dyn Fn(&ConnectRefused) -> HttpResponse + Send + Sync>;

/// Takes over what a request carries. See [`Mount::on_request`](crate::Mount::on_request).
pub(crate) type RequestHook = Arc<dyn Fn(&HttpRequest, &mut Assigns) + Send + Sync>;

/// How one mounted socket meets HTTP.
#[derive(Clone, Default)]
pub struct HandshakeOptions {
    /// Which pages may open the socket. Default: the request's own host and loopback.
    pub check_origin: CheckOrigin,
    /// What `connect` may see. Default: nothing.
    pub connect_info: Vec<ConnectInfoKey>,
    /// Whether the client's `authToken` (phoenix.js 1.8) is taken, as
    /// [`ConnectInfo::auth_token`]. Default: no.
    pub auth_token: bool,
    /// The session of a Phoenix application that `connect` may see, as [`ConnectInfo::session`].
    /// Default: none, and no cookie is read.
    pub session: Option<SessionOptions>,
    /// WebSocket subprotocols that the server speaks; the first that the client offers too is
    /// chosen. Default: none, the client's offer is ignored.
    pub subprotocols: Vec<String>,
    /// Which versions of the protocol are spoken. Default: all.
    pub serializers: Serializers,
    /// Answers a refused WebSocket connection. Default: 403 without a body.
    pub error_handler: Option<ErrorHandler>,
}

/// Which versions of the protocol a mount speaks; a client of another is refused with 403. Phoenix:
/// the transport's option `serializer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serializers {
    /// Both.
    #[default]
    All,
    /// vsn 1.0.0 alone: phoenix.js up to 1.2.
    V1,
    /// vsn 2.0.0 alone: phoenix.js from 1.3 on.
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
            .field("auth_token", &self.auth_token)
            .field("session", &self.session)
            .field("subprotocols", &self.subprotocols)
            .field("serializers", &self.serializers)
            .finish_non_exhaustive()
    }
}

/// One mounted socket, as its transports hold it.
pub(crate) struct Mounted {
    pub(crate) mount: Arc<Served>,
    pub(super) handshake: HandshakeOptions,
    /// Made from the handshake's session options.
    session: Option<CookieStore>,
    on_request: Option<RequestHook>,
    pubsub: PubSub,
    sockets: Sockets,
}

/// Why a request becomes no connection.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The transport has no such method.
    Method,
    /// The query is not UTF-8, or the request is no WebSocket handshake.
    BadRequest(String),
    /// The origin, the subprotocol, the `vsn` or the socket's id says no.
    Forbidden,
    /// The application says no.
    Refused(ConnectRefused),
    /// The server or the client's address has no room.
    Full(Full),
    /// The server is going down.
    Draining,
    /// The unread bodies of all clients leave no room for this one.
    NoRoom,
    /// `connect` panicked.
    Crashed,
}

/// What the application makes of a client that may connect.
struct Asked {
    assigns: Assigns,
    id: Option<String>,
}

/// A client that may connect.
pub(crate) struct Accepted {
    asked: Asked,
    serializer: Serializer,
    address: Option<ClientAddress>,
    user_agent: Option<Box<str>>,
    admitted: Admitted,
}

impl Accepted {
    /// A client without a network.
    fn alone(asked: Asked, serializer: Serializer) -> Self {
        Self {
            asked,
            serializer,
            address: None,
            user_agent: None,
            admitted: Admitted::alone(),
        }
    }

    /// The same client on a transport that carries text only.
    pub(super) fn text_only(self) -> Self {
        Self {
            serializer: self.serializer.text_only(),
            ..self
        }
    }
}

impl Mounted {
    /// # Panics
    /// When the handshake's options cannot be kept.
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

    /// The same, with what is done with each request before `connect` is asked.
    pub(crate) fn with_hook(self, on_request: Option<RequestHook>) -> Self {
        Self { on_request, ..self }
    }

    /// Whether its handshakes must come by an App, which alone has a whole request.
    pub(crate) fn needs_app(&self) -> bool {
        self.on_request.is_some()
    }

    /// The query of a request, as connection parameters.
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
        tracing::info!(origin, setting, peer, forwarded, "transport.origin.refused");
        Err(Refusal::Forbidden)
    }

    /// Says of a request that it is none that the transports know.
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
        if self.sockets.is_draining() {
            return Err(Refusal::Draining);
        }
        let address = self.client_address(req);
        let admitted = self.sockets.admit(address).map_err(Refusal::Full)?;
        // Path variables win over the query.
        let variables = req.variables().filter(|(name, _)| !name.starts_with('_'));
        params.extend(variables.map(|(name, value)| (name.to_owned(), value.into())));
        // A `vsn` that is no string is a bad one, not a missing one.
        let vsn = params
            .get("vsn")
            .map(|vsn| vsn.as_str().unwrap_or_default());
        let serializer = Serializer::negotiate(vsn)
            .filter(|known| self.handshake.serializers.include(*known))
            .ok_or_else(|| {
                let (peer, forwarded) = self.address_fields(req);
                tracing::info!(vsn, peer, forwarded, "transport.vsn.refused");
                Refusal::Forbidden
            })?;
        let info = ConnectInfo {
            auth_token,
            session: self.session(req, &params),
            ..self.connect_info(req)
        };
        let params = Params::new(params);
        let asked = async {
            let assigns = self.taken_over(req);
            self.ask(&params, &info, assigns).await
        };
        let asked = AssertUnwindSafe(asked).catch_unwind();
        match asked.await {
            Ok(Ok(asked)) => Ok(Accepted {
                asked,
                address,
                user_agent: text(req.headers(), &header::USER_AGENT).map(Box::from),
                serializer,
                admitted,
            }),
            Ok(Err(refused)) => {
                let (peer, forwarded) = self.address_fields(req);
                let user_agent = text(req.headers(), &header::USER_AGENT);
                tracing::info!(%refused, peer, forwarded, user_agent, "socket.connect.refused");
                Err(Refusal::Refused(refused))
            }
            Err(_) => {
                let (peer, forwarded) = self.address_fields(req);
                let user_agent = text(req.headers(), &header::USER_AGENT);
                tracing::error!(peer, forwarded, user_agent, "socket.connect.panicked");
                Err(Refusal::Crashed)
            }
        }
    }

    /// Accepts a client without a network, which is counted nowhere.
    pub(crate) async fn accept(
        &self,
        serializer: Serializer,
        params: &Params,
        info: &ConnectInfo,
    ) -> Result<Accepted, ConnectRefused> {
        let asked = self.ask(params, info, Assigns::default()).await?;
        Ok(Accepted::alone(asked, serializer))
    }

    /// The same for one that `connect` is not asked about.
    pub(crate) fn accept_as(&self, serializer: Serializer, assigns: Assigns) -> Accepted {
        let id = self.mount.socket.id(&assigns);
        Accepted::alone(Asked { assigns, id }, serializer)
    }

    /// What the mount's hook takes from the request.
    fn taken_over(&self, req: &Head<'_>) -> Assigns {
        let mut assigns = Assigns::default();
        if let (Some(hook), Some(request)) = (&self.on_request, req.routed()) {
            hook(request, &mut assigns);
        }
        assigns
    }

    /// Asks the application whether the client may connect.
    async fn ask(
        &self,
        params: &Params,
        info: &ConnectInfo,
        mut assigns: Assigns,
    ) -> Result<Asked, ConnectRefused> {
        self.mount
            .socket
            .connect(params, info, &mut assigns)
            .await?;
        let id = self.mount.socket.id(&assigns);
        Ok(Asked { assigns, id })
    }

    /// The connection of an accepted client, on this thread. It ends when the client has given no
    /// sign for the timeout.
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
        let outbox = Rc::new(Outbox::of(client, options.outbox));
        Connection {
            mount: Arc::clone(&self.mount),
            pubsub: self.pubsub.clone(),
            registration: self.sockets.registration(),
            _admitted: accepted.admitted,
            serializer: accepted.serializer,
            assigns: accepted.asked.assigns,
            flow: Flow::new(options.flow),
            activity: Activity::watch(sign, timeout, options.message_timeout, Rc::clone(&outbox)),
            outbox,
        }
    }

    /// Who sends the request. `None` where the server does not listen on TCP.
    pub(super) fn client_address(&self, req: &Head<'_>) -> Option<ClientAddress> {
        let proxies = &self.sockets.admission().options().trusted_proxies;
        let peer = req.peer_addr()?;
        Some(forwarded::client_address(peer, req.headers(), proxies))
    }

    /// Who sends the request, as fields of a log line.
    fn address_fields(
        &self,
        req: &Head<'_>,
    ) -> (Option<impl tracing::Value>, Option<impl tracing::Value>) {
        let address = self.client_address(req);
        let peer = address.map(|address| display(address.peer()));
        let forwarded = address.and_then(|address| address.forwarded());
        (peer, forwarded.map(display))
    }

    /// The session of the page that asks, where the mount reads it.
    fn session(&self, req: &Head<'_>, params: &Map<String, Value>) -> Option<Term> {
        let store = self.session.as_ref()?;
        let cookie = cookie::find(req.headers(), store.key());
        let csrf_token = params.get(CSRF_TOKEN).and_then(Value::as_str);
        store
            .get(cookie, csrf_token)
            .inspect_err(|reason| tracing::debug!(%reason, "transport.session.none"))
            .ok()
    }

    /// The parts of the request that the mount lets through.
    fn connect_info(&self, req: &Head<'_>) -> ConnectInfo {
        let mut info = ConnectInfo::default();
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

/// The answer to a client for whom there is no room.
pub(super) fn full_status(full: Full) -> StatusCode {
    match full {
        Full::Server => StatusCode::SERVICE_UNAVAILABLE,
        Full::Address => StatusCode::TOO_MANY_REQUESTS,
    }
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

/// Name and value of the headers whose name is wanted and whose value is text; repeated ones
/// repeat.
fn headers(all: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let chosen = all.iter().filter(|(name, _)| wanted(name.as_str()));
    let pairs = chosen.filter_map(|(name, value)| Some((name.to_string(), utf8(value)?.into())));
    pairs.collect()
}

/// A header's value, which may hold more than ASCII.
fn utf8(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// From the request itself: what proxies add can be forged by anybody.
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
