//! The HTTP edge: what stands between accepted TCP connections and an actix-web `App`.
//!
//! actix-http parses the requests and the `App` answers them. The connection's life is ours, because
//! actix-http's dispatcher bounds too little of it (docs/UPSTREAM.md): here every wait for a client
//! has an end, a request is read when the one before it is answered, and a stream is handed over
//! whole or not at all.
//!
//! `incoming` cuts what arrives into heads and bodies, `body` gives a body to its handler, `answer`
//! writes the response, `pace` says how slow a client may be.

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
use super::tcp;
use super::upgrade::hand_over;
use crate::admission::{Admission, Admitted};

/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's body may stand still, and by how much it may fall behind 1 kB/s.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may stay unread, and by how much its reading may fall behind 1 kB/s.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long what a client still sends is read and dropped behind its last answer, which a reset would
/// take away.
const LINGER: Duration = Duration::from_secs(5);

/// How long an answer that has crossed its client's end may take to be reset.
const RESET_GRACE: Duration = Duration::from_secs(1);

/// In a request's extensions: its payload is the connection's own bytes, if it is answered with 101.
#[derive(Clone, Copy)]
pub(super) struct OwnStream;

/// In a request's extensions: the stream that it has come by, to see whether its client is still there.
#[derive(Clone)]
pub(super) struct ClientStream(pub(super) Rc<TcpStream>);

/// How long the edge waits for a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    head: Duration,
    /// For another request.
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
    /// Sockets whose handshakes do not go through the App, by their path.
    pub(super) sockets: Rc<[(String, Arc<Mounted>)]>,
    pub(super) config: ServiceConfig,
    pub(super) patience: Patience,
    /// Whether WebSocket connections leave HTTP altogether; else actix-ws serves them from in here.
    pub(super) hands_over: bool,
    /// WebSocket connections of the worker that were handed over, at which others are refused.
    pub(super) max_handed_over: usize,
    pub(super) admission: Admission,
    pub(super) stopping: Rc<Stopping>,
}

/// Whether the server ends: connections that wait for a request do not hold it up.
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

/// What comes behind an answer.
enum Next {
    /// Another request.
    Request,
    /// The end of the connection, when the client has gone or this time is over.
    End(Duration),
    /// Nothing: the stream has another owner, or is lost.
    Nothing,
}

/// One connection.
struct Connection {
    stream: Rc<TcpStream>,
    peer: SocketAddr,
    /// Counts it, until the stream is closed.
    admitted: Cell<Option<Admitted>>,
    incoming: Rc<RefCell<Incoming>>,
    /// The last answer, if somebody wants to know whether its client has got it.
    answered: RefCell<Option<Delivery>>,
}

impl Connection {
    /// The stream was reset behind the last answer.
    fn reset(&self) {
        if let Some(delivery) = self.answered.take() {
            delivery.reset();
        }
    }

    /// The client has ended its side, maybe without the last answer: then it resets the stream, too, once
    /// the answer arrives.
    async fn watch_end(&self) {
        if self.answered.borrow().is_none() {
            return;
        }
        let failed = self.stream.ready(Interest::ERROR);
        if timeout(RESET_GRACE, failed).await.is_ok() {
            self.reset();
        }
    }
}

impl<S> Edge<S>
where
    S: Service<Request, Response = Response<BoxBody>, Error = Response<BoxBody>>,
{
    /// Serves one client until its connection ends or has become a WebSocket of its own.
    pub(super) async fn serve(&self, stream: TcpStream) {
        // On Linux it has them from its listener.
        if !cfg!(target_os = "linux") {
            tcp::set_own_options(&stream);
        }
        let Ok(peer) = stream.peer_addr() else {
            // It has gone again.
            return;
        };
        let Some(admitted) = tcp::admit(&stream, peer, &self.admission) else {
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
                // Whoever sends requests by the hundred takes turns with others.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Hangs up, and waits for the client to go; not as long when the server ends. `false` where the
    /// client has reset the stream.
    async fn part(&self, stream: &TcpStream, linger: Duration) -> bool {
        let stopped = async {
            self.stopping.begun().await;
            sleep(tcp::OWN_LINGER).await;
        };
        tokio::select! {
            in_order = tcp::hang_up(stream, linger) => in_order,
            () = stopped => true,
        }
    }

    /// Waits for a request, as long as there is patience and the server does not end.
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
                    // A client that asks for more has read the answer before.
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

    /// Has the App answer a request, and sends its answer.
    async fn answer(&self, connection: &Connection, mut request: Request) -> Next {
        request.head_mut().peer_addr = Some(connection.peer);
        let is_handshake = is_handshake(request.head(), &connection.incoming.borrow());
        let head = request.head();
        let mut form = Form {
            is_old: head.version < Version::HTTP_11,
            head_only: head.method == Method::HEAD,
            // What follows a handshake that is refused has no meaning.
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

    /// What a mounted socket says to its handshake, or the App to anything else.
    async fn response(
        &self,
        connection: &Connection,
        request: Request,
        is_handshake: bool,
        handover: &Handover,
    ) -> Response<BoxBody> {
        if let Some(socket) = self.socket_at(request.path()).filter(|_| is_handshake) {
            let head = Head::plain(request.head());
            return hand_over(socket, &head, handover).await.into();
        }
        let request = self.prepare(connection, request, is_handshake, handover);
        let answered = self.app.call(request).await;
        answered.unwrap_or_else(|failure| failure)
    }

    /// The socket whose handshakes need no App.
    fn socket_at(&self, path: &str) -> Option<&Mounted> {
        let found = self.sockets.iter().find(|(at, _)| at == path);
        found
            .filter(|_| self.hands_over)
            .map(|(_, socket)| &**socket)
    }

    fn is_full(&self) -> bool {
        self.hands_over && count_of_connections() >= self.max_handed_over
    }

    /// The request as the App gets it, with what its handler needs to take the stream over or to read
    /// the body.
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

    /// Sends an answer. Whether the connection can go on; an error when it is lost.
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
            // What the client has not read by now is nothing to keep.
            tcp::reset(&connection.stream);
        })
    }
}

/// Whether the request asks to leave HTTP for a WebSocket. One with a body is none.
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

/// Whether the client wants the connection to go on. An upgrade that nobody takes is no reason to end it.
fn goes_on(head: &RequestHead) -> bool {
    match head.connection_type() {
        ConnectionType::Close => false,
        ConnectionType::KeepAlive => true,
        ConnectionType::Upgrade => head.version >= Version::HTTP_11,
    }
}
