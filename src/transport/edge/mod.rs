//! The HTTP edge: serves HTTP on accepted TCP connections by calling an actix-web `App`.
//!
//! actix-http parses the requests and the `App` answers them. The edge controls the connection itself,
//! because actix-http's dispatcher bounds too little of it (docs/UPSTREAM.md). Here every wait for a client
//! has a limit, a request is read only after the previous one is answered, and a stream is handed over
//! whole or not at all.
//!
//! `incoming` splits the bytes of a client into heads and bodies, `body` gives a body to its handler,
//! `answer` writes the response, `pace` bounds how slow a client may be.

mod answer;
mod body;
mod incoming;
mod pace;
mod target;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::header::{HeaderMap, UPGRADE};
use actix_http::{
    ConnectionType, HttpMessage, Method, Payload, Request, RequestHead, Response, ServiceConfig,
    StatusCode, Version,
};
use actix_rt::net::TcpStream;
use actix_service::Service;

use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::answer::Form;
use self::body::Body;
use self::incoming::{Incoming, NoRequest};
use self::pace::Pace;
use super::delivery::Delivery;
use super::direct::{Handover, count_of_connections};
use super::handshake::Mounted;
use super::head::Head;
use super::stream::Stream;
use super::tcp;
use super::tls::Tls;
use super::upgrade::hand_over;
use crate::admission::{Admission, Admitted};

/// The longest time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's body may pause, and how far it may fall behind 1 kB/s.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may pause in reading an answer, and how far it may fall behind 1 kB/s.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long the edge reads and drops what a client still sends after its last answer. A reset would destroy
/// that answer on its way.
const LINGER: Duration = Duration::from_secs(5);

/// How long to wait for a reset when the client has ended its side before it received the last answer.
const RESET_GRACE: Duration = Duration::from_secs(1);

/// In a request's extensions: if the answer is 101, the request's payload is the rest of the connection's
/// bytes.
#[derive(Clone, Copy)]
pub(super) struct OwnStream;

/// In a request's extensions: the stream of the request, to check that the client is still connected.
#[derive(Clone)]
pub(super) struct ClientStream(pub(super) Rc<Stream>);

/// The limits of the edge's waits for a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    head: Duration,
    /// How long a connection may wait for its next request.
    keep_alive: Duration,
    body: Duration,
    answer: Duration,
    linger: Duration,
}

impl Patience {
    pub(super) fn new(keep_alive: Duration) -> Self {
        Self {
            head: HEAD_TIMEOUT,
            keep_alive,
            body: BODY_PATIENCE,
            answer: ANSWER_PATIENCE,
            linger: LINGER,
        }
    }
}

/// One worker's edge.
pub(super) struct Edge<S> {
    pub(super) app: S,
    /// Mounted sockets by path, whose handshakes may bypass the App.
    pub(super) sockets: Rc<[(String, Arc<Mounted>)]>,
    pub(super) config: ServiceConfig,
    pub(super) patience: Patience,
    /// Whether a WebSocket connection takes its stream over; else actix-ws serves it within the edge.
    pub(super) hands_over: bool,
    /// The most WebSocket connections that have taken over streams of this worker. At this number the edge
    /// refuses more.
    pub(super) max_handed_over: usize,
    pub(super) admission: Admission,
    /// `None`: the streams are plain.
    pub(super) tls: Option<Tls>,
    pub(super) stopping: Rc<Stopping>,
}

/// Whether the server is stopping. Connections that wait for a request then close at once.
#[derive(Default)]
pub(super) struct Stopping {
    is_stopping: Cell<bool>,
    told: Notify,
}

impl Stopping {
    pub(super) fn begin(&self) {
        self.is_stopping.set(true);
        self.told.notify_waiters();
    }

    async fn begun(&self) {
        if !self.is_stopping.get() {
            self.told.notified().await;
        }
    }
}

/// What the connection does after an answer.
enum Next {
    /// Reads another request.
    Request,
    /// Ends when the client closes its side, or after this time.
    End(Duration),
    /// Nothing: the stream has another owner, or is broken.
    Nothing,
}

/// One connection.
struct Connection {
    stream: Rc<Stream>,
    peer: SocketAddr,
    /// Counts the connection until the stream is closed.
    admitted: Cell<Option<Admitted>>,
    incoming: Rc<RefCell<Incoming>>,
    /// The [`Delivery`] of the last answer, if its handler asked whether the client receives it.
    answered: RefCell<Option<Delivery>>,
}

impl Connection {
    /// Call when the stream was reset after the last answer.
    fn reset(&self) {
        if let Some(delivery) = self.answered.take() {
            delivery.reset();
        }
    }

    /// Call when the client has ended its side. If it did so before it received the last answer, it resets
    /// the stream once the answer arrives.
    async fn watch_end(&self) {
        if self.answered.borrow().is_none() {
            return;
        }
        let failed = self.stream.tcp().ready(Interest::ERROR);
        if timeout(RESET_GRACE, failed).await.is_ok() {
            self.reset();
        }
    }
}

impl<S> Edge<S>
where
    S: Service<Request, Response = Response<BoxBody>, Error = Response<BoxBody>>,
{
    /// Serves one client until its connection ends or a WebSocket takes its stream over.
    pub(super) async fn serve(&self, stream: TcpStream) {
        // On Linux the stream inherits the options from its listener.
        if !cfg!(target_os = "linux") {
            tcp::set_own_options(&stream);
        }
        let Ok(peer) = stream.peer_addr() else {
            // The client has already gone.
            return;
        };
        let Some(admitted) = tcp::admit(&stream, peer, &self.admission) else {
            return;
        };
        let Some(stream) = self.secure(stream).await else {
            return;
        };
        let stream = Rc::new(stream);
        let incoming = Incoming::new(Rc::clone(&stream), self.config.clone());
        let connection = Connection {
            stream,
            peer,
            admitted: Cell::new(Some(admitted)),
            answered: RefCell::default(),
            incoming: Rc::new(RefCell::new(incoming)),
        };
        let mut is_first = true;
        loop {
            let next = match self.next_request(&connection, is_first).await {
                Ok(request) => self.answer(&connection, request).await,
                Err(NoRequest::Gone) => return connection.watch_end().await,
                Err(NoRequest::Refused(status)) => self.refuse(&connection, status).await,
            };
            match next {
                Next::Request => is_first = false,
                Next::End(linger) => {
                    if self.part(&connection.stream, linger).await {
                        connection.watch_end().await;
                    } else {
                        connection.reset();
                    }
                    return;
                }
                Next::Nothing => return,
            }
            if connection.incoming.borrow().has_begun() {
                // A client that pipelines requests takes turns with others.
                tokio::task::yield_now().await;
            }
        }
    }

    /// The stream with TLS, if the server has it. `None` if the client's handshake fails or takes too long.
    async fn secure(&self, stream: TcpStream) -> Option<Stream> {
        let Some(tls) = &self.tls else {
            return Some(Stream::plain(stream));
        };
        tokio::select! {
            // Boxed, so that plain connections do not have its memory.
            accepted = Box::pin(timeout(self.patience.head, tls.accept(stream))) => accepted.ok()?,
            () = self.stopping.begun() => None,
        }
    }

    /// Ends the server's side and waits up to `linger` for the client to end its own; less if the server
    /// stops. `false` if the client resets the stream.
    async fn part(&self, stream: &Stream, linger: Duration) -> bool {
        let stopped = async {
            self.stopping.begun().await;
            sleep(tcp::OWN_LINGER).await;
        };
        tokio::select! {
            in_order = stream.hang_up(linger) => in_order,
            () = stopped => true,
        }
    }

    /// Waits for a request, within the limits of `patience` and until the server stops.
    async fn next_request(
        &self,
        connection: &Connection,
        is_first: bool,
    ) -> Result<Request, NoRequest> {
        let incoming = &connection.incoming;
        let request = async {
            if !is_first {
                let begun = poll_fn(|cx| incoming.borrow_mut().poll_begin(cx));
                match timeout(self.patience.keep_alive, begun).await {
                    // A client sends its next request after it has read the answer.
                    Ok(Ok(())) => drop(connection.answered.take()),
                    Ok(Err(error)) => {
                        if tcp::is_reset(&error) {
                            connection.reset();
                        }
                        return Err(NoRequest::Gone);
                    }
                    Err(_) => return Err(NoRequest::Gone),
                }
            }
            let head = poll_fn(|cx| incoming.borrow_mut().poll_head(cx));
            let head = timeout(self.patience.head, head).await;
            head.unwrap_or(Err(NoRequest::Refused(StatusCode::REQUEST_TIMEOUT)))
        };
        tokio::select! {
            biased;
            request = request => request,
            () = self.stopping.begun() => Err(NoRequest::Gone),
        }
    }

    async fn refuse(&self, connection: &Connection, status: StatusCode) -> Next {
        let form = Form {
            is_old: false,
            head_only: false,
            keep_alive: false,
        };
        let response = Response::with_body(status, BoxBody::new(()));
        self.send(connection, response, form)
            .await
            .map_or(Next::Nothing, |_| Next::End(self.patience.linger))
    }

    /// Lets the App answer a request, and sends the answer.
    async fn answer(&self, connection: &Connection, mut request: Request) -> Next {
        request.head_mut().peer_addr = Some(connection.peer);
        let is_handshake = is_handshake(request.head(), &connection.incoming.borrow());
        let head = request.head();
        let mut form = Form {
            is_old: head.version < Version::HTTP_11,
            head_only: head.method == Method::HEAD,
            // After a refused handshake the client may already have sent frames, which are no HTTP.
            keep_alive: !is_handshake && goes_on(head),
        };
        let handover = Handover::default();
        let mut response = if is_handshake && self.is_full() {
            tracing::info!(
                max_connections = self.max_handed_over,
                "transport.direct.full"
            );
            Response::new(StatusCode::SERVICE_UNAVAILABLE)
        } else {
            self.response(connection, request, is_handshake, &handover)
                .await
        };
        let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !is_switching {
            let mut incoming = connection.incoming.borrow_mut();
            form.keep_alive &= incoming.skip_body() && !self.stopping.is_stopping.get();
            if incoming.is_late {
                response = Response::with_body(StatusCode::REQUEST_TIMEOUT, BoxBody::new(()));
            }
        }
        let upgraded = handover.take().filter(|_| is_switching);
        let delivery = response.extensions_mut().remove::<Delivery>();
        let sent = self.send(connection, response, form).await;
        if let Some(delivery) = delivery.filter(|_| sent.is_ok()) {
            delivery.written();
            connection.answered.replace(Some(delivery));
        }
        match (sent, upgraded) {
            (Ok(_), Some(upgraded)) => {
                let behind = connection.incoming.borrow_mut().take_rest();
                let admitted = connection.admitted.take();
                upgraded.start(Rc::clone(&connection.stream), behind, admitted);
                Next::Nothing
            }
            (Ok(true), None) => Next::Request,
            (Ok(false), None) if is_switching => Next::End(tcp::OWN_LINGER),
            (Ok(false), None) => Next::End(self.patience.linger),
            (Err(()), _) => Next::Nothing,
        }
    }

    /// The response of a mounted socket to its handshake, or of the App to any other request.
    async fn response(
        &self,
        connection: &Connection,
        request: Request,
        is_handshake: bool,
        handover: &Handover,
    ) -> Response<BoxBody> {
        if let Some(socket) = self.socket_at(request.path()).filter(|_| is_handshake) {
            let head = Head::bare(request.head(), self.tls.is_some());
            return hand_over(socket, &head, handover).await.into();
        }
        let request = self.prepare(connection, request, is_handshake, handover);
        let answered = self.app.call(request).await;
        answered.unwrap_or_else(|failure| failure)
    }

    /// The socket at this path, if its handshakes bypass the App.
    fn socket_at(&self, path: &str) -> Option<&Mounted> {
        let found = self.sockets.iter().find(|(at, _)| at == path);
        found
            .filter(|_| self.hands_over)
            .map(|(_, socket)| &**socket)
    }

    fn is_full(&self) -> bool {
        self.hands_over && count_of_connections() >= self.max_handed_over
    }

    /// Adds the extension or the payload by which the handler takes the stream over or reads the body.
    fn prepare(
        &self,
        connection: &Connection,
        mut request: Request,
        is_handshake: bool,
        handover: &Handover,
    ) -> Request {
        let body = |pace| {
            let body = Body::new(&connection.incoming, &connection.stream, pace);
            Payload::Stream {
                payload: Box::pin(body) as _,
            }
        };
        if !is_handshake {
            let stream = ClientStream(Rc::clone(&connection.stream));
            request.extensions_mut().insert(stream);
        }
        if is_handshake {
            connection.incoming.borrow_mut().end_http();
            if self.hands_over {
                request.extensions_mut().insert(handover.clone());
            } else {
                request.extensions_mut().insert(OwnStream);
                *request.payload() = body(None);
            }
        } else if connection.incoming.borrow().has_body() {
            *request.payload() = body(Some(Pace::new(self.patience.body)));
        }
        request
    }

    /// Sends an answer. Returns whether the connection can serve another request; fails if the connection
    /// is broken.
    async fn send(
        &self,
        connection: &Connection,
        response: Response<BoxBody>,
        form: Form,
    ) -> Result<bool, ()> {
        let pace = Pace::new(self.patience.answer);
        let sent = answer::send(&connection.stream, response, form, pace).await;
        sent.map_err(|error| {
            tracing::debug!(%error, "transport.edge.answer");
            // The bytes that the client has not read are not worth keeping.
            tcp::reset(connection.stream.tcp());
        })
    }
}

/// Whether the request asks for an upgrade to WebSocket. A request with a body does not.
fn is_handshake(head: &RequestHead, incoming: &Incoming) -> bool {
    !incoming.has_body() && head.upgrade() && lists(&head.headers, b"websocket")
        || incoming.ends_with_connection()
}

/// Whether one of the `Upgrade` headers lists a protocol.
fn lists(headers: &HeaderMap, protocol: &[u8]) -> bool {
    let values = headers.get_all(UPGRADE);
    let mut protocols = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    protocols.any(|found| found.trim_ascii().eq_ignore_ascii_case(protocol))
}

/// Whether the client wants to keep the connection open. An `Upgrade` that nobody accepts does not close
/// it.
fn goes_on(head: &RequestHead) -> bool {
    match head.connection_type() {
        ConnectionType::Close => false,
        ConnectionType::KeepAlive => true,
        ConnectionType::Upgrade => head.version >= Version::HTTP_11,
    }
}
