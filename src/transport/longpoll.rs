//! Long-polling over HTTP. Phoenix: `Phoenix.Transports.LongPoll`.
//!
//! Every protocol answer is HTTP 200 with the protocol's own status in its JSON body. Differences from Phoenix: the
//! messages of a poll whose client has gone come with the next poll, a waiting poll is woken when the session ends, an
//! undecodable message is answered at once, empty lines are skipped, too many lines are an error, and binary data to a
//! long-polling client is its sender's error instead of a broken response.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_web::http::{Method, header};
use actix_web::web::{Bytes, BytesMut, Payload};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytestring::ByteString;
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::{Map, Value};

use super::content_coding::takes_gzip;
use super::delivery::{Delivery, ToldBody};
use super::edge::ClientStream;
use super::handshake::{Mounted, text, texts};
use super::head::Head;
use super::longpoll_elsewhere::{self, RemoteSession};
use super::longpoll_server::{
    LongPollServer, Poll, PollBatch, Posted, Publish, Sessions, first_silence,
};
use super::refusal::{Refusal, full_response};
use super::stream::Stream;
use super::unfinished::Room;
use crate::deflate::{WORTHWHILE, gzip};
use crate::pubsub::Neighbours;
use crate::socket::Sign;

/// Bodies over this are refused with 400, as on Phoenix.
const MAX_BODY: usize = 8_000_000;
/// The header in which newer clients send the session's token.
const TOKEN_HEADER: &str = "x-phoenix-longpoll-token";
/// The header in which phoenix.js 1.8 sends its `authToken`.
const AUTH_TOKEN_HEADER: &str = "x-phoenix-authtoken";
/// The parameter in which all clients send the session's token.
const TOKEN: &str = "token";
/// The content type of several messages in one request; exactly this.
const NDJSON: &str = "application/x-ndjson";

/// Statuses of the protocol.
mod status {
    pub(super) const OK: u16 = 200;
    pub(super) const NO_CONTENT: u16 = 204;
    pub(super) const FORBIDDEN: u16 = 403;
    pub(super) const TIMEOUT: u16 = 408;
    pub(super) const GONE: u16 = 410;
    pub(super) const TOO_LARGE: u16 = 413;
}

/// The settings of a mount for long-polling clients.
///
/// ```
/// use std::time::Duration;
/// use slackir::transport::LongPollOptions;
///
/// let options = LongPollOptions::default().window(Duration::from_secs(20));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongPollOptions {
    /// A poll waits this long for a message, and a message this long for its session. A session ends when no
    /// poll has come for one and a half times this, or for 5 s after it was made. Default 10 s.
    pub window: Duration,
}

setters!(LongPollOptions { window: Duration });

impl Default for LongPollOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
        }
    }
}

/// One socket mounted for long-polling.
pub(crate) struct LongPoll {
    mounted: Arc<Mounted>,
    options: LongPollOptions,
    sessions: Sessions,
    /// In a cluster: the other nodes, which may have the session of a request.
    neighbours: Option<Neighbours>,
}

/// A client's session.
enum Session {
    Here(Addr<LongPollServer>),
    Elsewhere(RemoteSession),
}

impl LongPoll {
    pub(crate) fn new(mounted: Arc<Mounted>, options: LongPollOptions) -> Self {
        let (sessions, neighbours) = (Sessions::default(), mounted.pubsub.neighbours());
        if let Some(neighbours) = &neighbours {
            longpoll_elsewhere::serve_others(neighbours, &sessions, options.window);
        }
        Self {
            mounted,
            options,
            sessions,
            neighbours,
        }
    }

    /// The session of a token, if one may live.
    fn find(&self, token: &str) -> Option<Session> {
        if let Some(session) = self.sessions.find(token) {
            return Some(Session::Here(session));
        }
        let window = self.options.window;
        longpoll_elsewhere::find(token, self.neighbours.as_ref(), window).map(Session::Elsewhere)
    }

    /// A session's name that nobody can guess.
    fn new_token(&self) -> Option<String> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .inspect_err(|error| tracing::error!(
                %error,
                "transport.longpoll.no_randomness: long-polling clients are refused; the system has \
                 no random bytes"
            ))
            .ok()?;
        let mut token = Vec::with_capacity(40);
        longpoll_elsewhere::mark(&mut token, self.neighbours.as_ref());
        token.extend_from_slice(&random);
        Some(BASE64_URL_SAFE_NO_PAD.encode(token))
    }
}

impl Session {
    /// The messages of a poll; `None` if the session has ended.
    async fn poll(&self) -> Option<PollBatch> {
        match self {
            Self::Here(session) => session.send(Poll).await.ok(),
            Self::Elsewhere(session) => session.poll().await,
        }
    }

    /// Hands over messages; `None` if the session has ended.
    async fn publish(&self, publish: Publish) -> Option<Posted> {
        match self {
            Self::Here(session) => session.send(publish).await.ok(),
            Self::Elsewhere(session) => session.publish(publish).await,
        }
    }
}

/// The body of an answer, without absent members.
#[derive(Default, Serialize)]
struct SessionAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<&'a str>>,
    status: u16,
    /// The last member, see [`Coding::encode`].
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// Answers a request to the socket's long-poll path.
pub(crate) async fn serve(longpoll: &LongPoll, req: HttpRequest, body: Payload) -> HttpResponse {
    let stream = req.extensions().get::<ClientStream>().cloned();
    let req = Head::from(&req);
    let answer = match *req.method() {
        Method::GET => poll(longpoll, &req, stream).await,
        Method::POST => publish(longpoll, &req, body).await,
        Method::OPTIONS => options(longpoll, &req),
        _ => Err(Refusal::Method),
    };
    answer.unwrap_or_else(|refusal| {
        if let Refusal::BadRequest(reason) = &refusal {
            longpoll.mounted.log_malformed(&req, reason);
        }
        refuse(&refusal)
    })
}

/// The answer of Phoenix's long-poll transport to a refused request.
fn refuse(refusal: &Refusal) -> HttpResponse {
    refusal.count();
    match refusal {
        Refusal::Method => with_cors(HttpResponse::BadRequest()).finish(),
        Refusal::BadRequest(text) => with_cors(HttpResponse::BadRequest()).body(text.clone()),
        Refusal::Refused(refused) if refused.is_too_many() => {
            with_cors(HttpResponse::TooManyRequests()).finish()
        }
        Refusal::Refused(refused) if refused.is_unavailable() => {
            with_cors(HttpResponse::ServiceUnavailable()).finish()
        }
        Refusal::Origin | Refusal::Subprotocol | Refusal::Version | Refusal::Refused(_) => {
            json(&SessionAnswer {
                status: status::FORBIDDEN,
                ..SessionAnswer::default()
            })
        }
        // phoenix.js takes an answer without a body for a lost connection, and connects again later.
        Refusal::Full(full) => with_cors(full_response(*full)).finish(),
        Refusal::Draining | Refusal::NoRoom => {
            with_cors(HttpResponse::ServiceUnavailable()).finish()
        }
        Refusal::Crashed => with_cors(HttpResponse::InternalServerError()).finish(),
    }
}

async fn poll(
    longpoll: &LongPoll,
    req: &Head<'_>,
    stream: Option<ClientStream>,
) -> Result<HttpResponse, Refusal> {
    let params = Mounted::params(req)?;
    longpoll.mounted.check_origin(req)?;
    if let Some(token) = session_token(req, &params)
        && let Some(session) = longpoll.find(&token)
    {
        let batch = match &stream {
            Some(ClientStream(stream)) => batch_for(stream, session.poll()).await,
            None => session.poll().await,
        };
        if let Some(mut batch) = batch {
            if longpoll.mounted.is_behind_proxy(req) {
                batch.delivery = batch.delivery.map(Delivery::for_proxy);
            }
            let coding = Coding::of(longpoll, req);
            return Ok(batch_answer(batch, &token, coding, stream.is_some()));
        }
    }
    open(longpoll, req, params).await
}

/// The messages of a poll, while its client is connected. If the client goes, nothing is taken, and the messages
/// taken in that moment are queued again.
async fn batch_for(
    stream: &Stream,
    polled: impl Future<Output = Option<PollBatch>>,
) -> Option<PollBatch> {
    let batch = tokio::select! {
        biased;
        () = stream.ended() => PollBatch::default(),
        batch = polled => batch?,
    };
    let has_gone = batch.delivery.is_some() && stream.has_ended();
    Some(if has_gone {
        PollBatch::default()
    } else {
        batch
    })
}

/// What follows the token in an answer.
const TOKEN_END: &str = "\"}";

/// The coding of a long answer to a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// The mount does not compress.
    Off,
    /// The client takes no gzip.
    Identity,
    Gzip,
}

impl Coding {
    fn of(longpoll: &LongPoll, req: &Head<'_>) -> Self {
        if !longpoll.mounted.handshake.compress {
            Self::Off
        } else if takes_gzip(req.headers()) {
            Self::Gzip
        } else {
            Self::Identity
        }
    }

    /// The answer's head, and its body. The token ends the body and is not compressed: other people's messages stand
    /// before it, and the token must not show in the length.
    fn encode(self, text: String, token: &str) -> (HttpResponseBuilder, Bytes) {
        let mut response = json_response();
        if self != Self::Off {
            response.insert_header((header::VARY, "accept-encoding"));
        }
        let zipped = if self == Self::Gzip && text.len() >= WORTHWHILE {
            let secret = text.len() - token.len() - TOKEN_END.len();
            let (messages, secret) = text.as_bytes().split_at(secret);
            gzip(messages, secret)
        } else {
            None
        };
        match zipped {
            Some(zipped) => {
                response.insert_header(header::ContentEncoding::Gzip);
                (response, zipped.into())
            }
            None => (response, text.into()),
        }
    }
}

/// The answer to a poll. The edge reports to its delivery; for other servers the body does.
fn batch_answer(batch: PollBatch, token: &str, coding: Coding, on_edge: bool) -> HttpResponse {
    let status = if batch.messages.is_empty() {
        status::NO_CONTENT
    } else {
        status::OK
    };
    let messages = batch.messages.iter().map(ByteString::as_ref);
    let answer = SessionAnswer {
        messages: Some(messages.collect()),
        status,
        token: Some(token),
    };
    let (mut response, body) = coding.encode(text_of_answer(&answer), token);
    let Some(delivery) = batch.delivery else {
        return response.body(body);
    };
    if !on_edge {
        return response.body(ToldBody::new(body, delivery));
    }
    let mut response = response.body(body);
    response.extensions_mut().insert(delivery);
    response
}

/// Opens a session, as the request names none that lives.
async fn open(
    longpoll: &LongPoll,
    req: &Head<'_>,
    params: Map<String, Value>,
) -> Result<HttpResponse, Refusal> {
    let mounted = &longpoll.mounted;
    let takes_token = mounted.handshake.auth_token;
    let auth_token = text_of(req, AUTH_TOKEN_HEADER).filter(|_| takes_token);
    let accepted = mounted.connect(req, params, auth_token).await?;
    let token = longpoll.new_token().ok_or(Refusal::Crashed)?;
    let window = longpoll.options.window;
    let connection = mounted.open(accepted.text_only(), Sign::Polls, first_silence(window));
    LongPollServer::start(connection, window, &longpoll.sessions, token.clone());
    Ok(json(&SessionAnswer {
        messages: Some(Vec::new()),
        status: status::GONE,
        token: Some(&token),
    }))
}

async fn publish(
    longpoll: &LongPoll,
    req: &Head<'_>,
    body: Payload,
) -> Result<HttpResponse, Refusal> {
    let params = Mounted::params(req)?;
    longpoll.mounted.check_origin(req)?;
    let answer = |status| {
        Ok(json(&SessionAnswer {
            status,
            ..SessionAnswer::default()
        }))
    };
    let session = session_token(req, &params).and_then(|token| longpoll.find(&token));
    let Some(session) = session else {
        return answer(status::GONE);
    };
    // Held until the session has taken the messages or refused them.
    let mut room = Room::new();
    let body = read(body, &mut room).await?;
    let lines = text(req.headers(), &header::CONTENT_TYPE) == Some(NDJSON);
    let publish = if lines {
        Publish::Lines(body)
    } else {
        Publish::Text(body)
    };
    match session.publish(publish).await {
        Some(Posted::Taken) => answer(status::OK),
        Some(Posted::NotTaken) => answer(status::TIMEOUT),
        Some(Posted::TooMany) => answer(status::TOO_LARGE),
        // The session has ended meanwhile.
        None => answer(status::GONE),
    }
}

fn options(longpoll: &LongPoll, req: &Head<'_>) -> Result<HttpResponse, Refusal> {
    longpoll.mounted.check_origin(req)?;
    let asked = texts(req.headers(), &header::ACCESS_CONTROL_REQUEST_HEADERS);
    Ok(with_cors(HttpResponse::Ok())
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, asked.join(", ")))
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "get, post, options"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "3600"))
        .finish())
}

/// The token in the header, as newer clients send it, else in the parameter.
fn session_token(req: &Head<'_>, params: &Map<String, Value>) -> Option<String> {
    let parameter = || params.get(TOKEN).and_then(Value::as_str).map(str::to_owned);
    text_of(req, TOKEN_HEADER).or_else(parameter)
}

/// The whole body.
///
/// # Errors
/// If it is too long, or all bodies together have no room.
async fn read(mut body: Payload, room: &mut Room) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| Refusal::BadRequest(error.to_string()))?;
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(Refusal::BadRequest(String::new()));
        }
        bytes.extend_from_slice(&chunk);
        room.resize(bytes.capacity()).map_err(|_| Refusal::NoRoom)?;
    }
    Ok(bytes.freeze())
}

fn text_of(req: &Head<'_>, name: &'static str) -> Option<String> {
    text(req.headers(), &header::HeaderName::from_static(name)).map(str::to_owned)
}

fn with_cors(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((header::CACHE_CONTROL, "no-store"));
    response
}

fn json(answer: &SessionAnswer<'_>) -> HttpResponse {
    json_response().body(text_of_answer(answer))
}

fn json_response() -> HttpResponseBuilder {
    let mut response = with_cors(HttpResponse::Ok());
    response.content_type("application/json; charset=utf-8");
    response
}

fn text_of_answer(answer: &SessionAnswer<'_>) -> String {
    serde_json::to_string(answer).expect("strings and numbers have a JSON form")
}
