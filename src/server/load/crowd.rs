//! [`Crowd`]: all clients, and what happens on their connections.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::LoadError;
use super::client::{Client, State};
use super::echo::REQUEST;
use super::frame::{self, opcode};
use super::mark::{Mark, Marks, Template};
use super::poll::{Poll, Ready};
use super::report::Report;
use super::tls::ClientTls;
use super::topic::{Arrival, Publisher, Topic};
use crate::message::{PHX_CLOSE, PHX_ERROR, PHX_JOIN, PHX_REPLY};
use crate::serializer::{ServerText, client_text};
use crate::server::config::LoadConfig;

/// The ref of the join.
pub(super) const JOIN: &str = "1";
/// The ref of a message begins so.
pub(super) const PUSH: &str = "p";
/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;
/// The longest head of an answer to a handshake.
const MAX_HEAD: usize = 16 * 1024;
/// The most letters of a reason.
const MAX_REASON: usize = 200;

/// All clients of a load.
pub(super) struct Crowd<'a> {
    pub(super) config: &'a LoadConfig,
    /// The nodes, or the one server.
    addresses: Vec<SocketAddr>,
    pub(super) tls: Option<ClientTls>,
    pub(super) began: Instant,
    pub(super) clients: Vec<Client>,
    pub(super) topics: Vec<Topic>,
    pub(super) report: Report,
    pub(super) template: Template,
    pub(super) marks: Marks,
    pub(super) poll: Poll,
    /// Clients that connect or join.
    pub(super) pending: usize,
    /// When the last client has come further, or the last message has come.
    pub(super) moved: Instant,
    /// Heartbeats that were sent.
    pub(super) heartbeats: u64,
    /// Until when a reply is followed by the next request.
    pub(super) asks_until: Option<Instant>,
    /// Until when a message that all have received is followed by the next one.
    pub(super) publishes_until: Option<Instant>,
    /// Whether the clients end their connections themselves.
    pub(super) is_leaving: bool,
    /// The handshake of each client.
    handshake: Vec<u8>,
    buffer: Vec<u8>,
    ready: Vec<Ready>,
}

/// The payload of a reply.
#[derive(Deserialize)]
struct Reply<'a> {
    status: &'a str,
    #[serde(borrow)]
    response: &'a RawValue,
}

impl<'a> Crowd<'a> {
    pub(super) fn new(
        config: &'a LoadConfig,
        addresses: Vec<SocketAddr>,
        tls: Option<ClientTls>,
        template: Template,
    ) -> Result<Self, LoadError> {
        let count = config.topics.min(config.clients);
        let topics = (0..count).map(|topic| {
            let members = (topic..config.clients).step_by(count);
            let publishers = members.take(usize::from(config.publishers));
            let name = match count {
                1 => config.topic.clone(),
                _ => format!("{}-{}", config.topic, topic + 1),
            };
            Topic::new(name, publishers.map(Publisher::new).collect())
        });
        let topics: Vec<_> = topics.collect();
        let clients = (0..config.clients).map(|client| {
            let topic = client % count;
            Client::new(topic, topics[topic].publishers.len())
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let run = now.unwrap_or_default().as_micros() as u32;
        Ok(Self {
            config,
            addresses,
            tls,
            began: Instant::now(),
            clients: clients.collect(),
            report: Report::new(config.clients, topics.len()),
            topics,
            template,
            marks: Marks::new(run),
            poll: Poll::new().map_err(LoadError::Poll)?,
            pending: 0,
            moved: Instant::now(),
            heartbeats: 0,
            asks_until: None,
            publishes_until: None,
            is_leaving: false,
            handshake: handshake(config),
            buffer: vec![0; BUFFER],
            ready: Vec::new(),
        })
    }

    /// The server of a client: the members of a topic take the nodes in turn.
    pub(super) fn address_of(&self, client: usize) -> SocketAddr {
        let place = client / self.topics.len();
        self.addresses[place % self.addresses.len()]
    }

    /// Waits until sockets are ready, or at most for so long, and does what they need.
    pub(super) fn turn(&mut self, longest: Duration) -> Result<(), LoadError> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll
            .wait(longest, &mut ready)
            .map_err(LoadError::Poll)?;
        for &event in &ready {
            self.serve(event);
        }
        self.ready = ready;
        Ok(())
    }

    fn serve(&mut self, ready: Ready) {
        let client = ready.client;
        if ready.write && self.clients[client].state == State::Connecting && !ready.read {
            self.clients[client].state = State::Upgrading;
            let handshake = std::mem::take(&mut self.handshake);
            self.send(client, &handshake);
            self.handshake = handshake;
            self.wait_for_writes(client);
        } else if ready.write && self.clients[client].is_open() {
            match self.clients[client].flush() {
                Ok(()) => self.wait_for_writes(client),
                Err(error) => self.end(client, &failure(&error)),
            }
        }
        if ready.read {
            let waited = self.clients[client].has_unsent();
            match self.read(client) {
                // TLS answers some records by itself.
                Ok(()) if self.clients[client].has_unsent() != waited => {
                    self.wait_for_writes(client);
                }
                Ok(()) => {}
                Err(error) => self.end(client, &failure(&error)),
            }
        }
    }

    /// Sends bytes; a failure ends the client.
    pub(super) fn send(&mut self, client: usize, bytes: &[u8]) {
        let waited = self.clients[client].has_unsent();
        match self.clients[client].send(bytes) {
            Ok(()) if self.clients[client].has_unsent() != waited => self.wait_for_writes(client),
            Ok(()) => {}
            Err(error) => self.end(client, &failure(&error)),
        }
    }

    /// Sends a message, a JSON array.
    pub(super) fn send_text(&mut self, client: usize, text: &str) {
        self.send_frame(client, opcode::TEXT, text.as_bytes());
    }

    pub(super) fn send_frame(&mut self, client: usize, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(payload.len() + 14);
        frame::encode(&mut bytes, opcode, payload);
        self.send(client, &bytes);
    }

    fn wait_for_writes(&mut self, client: usize) {
        let this = &self.clients[client];
        if let Some(stream) = &this.stream {
            let changed = self.poll.change(stream, client, this.has_unsent());
            if let Err(error) = changed {
                self.end(client, &failure(&error));
            }
        }
    }

    /// Reads what has come, with one system call.
    fn read(&mut self, client: usize) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.clients[client].read(&mut buffer);
        if let Ok(Some(read)) = read {
            let now = Instant::now();
            let mut input = &buffer[..read];
            if self.clients[client].state != State::Upgrading || self.upgraded(client, &mut input) {
                while let Some(frame) = frame::take(&mut input) {
                    self.arrived(client, &frame, now);
                }
            }
            if self.clients[client].is_open() {
                self.clients[client].partial.extend_from_slice(input);
            }
        }
        self.buffer = buffer;
        read.map(drop)
    }

    /// Takes the answer to the handshake off the front of `input`. Returns whether it is 101.
    fn upgraded(&mut self, client: usize, input: &mut &[u8]) -> bool {
        let Some(end) = memmem::find(input, b"\r\n\r\n") else {
            if input.len() > MAX_HEAD {
                self.end(client, "the answer is no HTTP");
            }
            return false;
        };
        let head = String::from_utf8_lossy(&input[..end]);
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !head.starts_with("HTTP/1.1 ") || status != "101" {
            let reason = refusal(status);
            self.end(client, &reason);
            return false;
        }
        *input = &input[end + 4..];
        self.report.connected += 1;
        self.moved = Instant::now();
        self.clients[client].state = State::Joining;
        self.clients[client].joins = self.config.channels;
        let frames = self.joins(client);
        self.send(client, &frames);
        true
    }

    /// The joins of a client: of its topic, and of the topics beside it.
    fn joins(&self, client: usize) -> Vec<u8> {
        let topic = &self.topics[self.clients[client].topic].name;
        let mut frames = Vec::new();
        for channel in 1..=self.config.channels {
            let params = self.join_params(client, channel);
            let topic = match channel {
                1 => topic.clone(),
                _ => format!("{topic}.{channel}"),
            };
            let reference = channel.to_string();
            let join = client_text(Some(&reference), &reference, &topic, PHX_JOIN, &params);
            frame::encode(&mut frames, opcode::TEXT, join.as_bytes());
        }
        frames
    }

    fn arrived(&mut self, client: usize, frame: &frame::ServerFrame<'_>, now: Instant) {
        match frame.opcode {
            opcode::TEXT | opcode::BINARY => match self.marks.find(frame.payload) {
                Some(mark) if self.clients[client].state == State::Joined => {
                    self.delivered(client, mark, now);
                }
                _ => self.told(client, frame.payload),
            },
            opcode::PING => self.send_frame(client, opcode::PONG, frame.payload),
            opcode::CLOSE => {
                let code = frame.payload.first_chunk::<2>();
                let code = code.map_or(1_005, |code| u16::from_be_bytes(*code));
                self.send_frame(client, opcode::CLOSE, frame.payload);
                self.end(client, &format!("close code {code}"));
            }
            _ => {}
        }
    }

    /// A message of the load has come.
    fn delivered(&mut self, client: usize, mark: Mark, now: Instant) {
        let receiver = &mut self.clients[client];
        let publishers = &mut self.topics[receiver.topic].publishers;
        let place = usize::from(mark.publisher);
        let (Some(track), Some(publisher)) =
            (receiver.tracks.get_mut(place), publishers.get_mut(place))
        else {
            return;
        };
        publisher.received = publisher.received.max(mark.number + 1);
        match track.arrived(mark.number) {
            Arrival::Doubled => {
                self.report.doubled += 1;
                return;
            }
            Arrival::Reordered => self.report.reordered += 1,
            Arrival::InOrder => {}
        }
        receiver.received += 1;
        self.report.deliveries += 1;
        self.moved = now;
        let now = now.duration_since(self.began).as_nanos() as u64;
        self.report
            .times
            .saturating_record(now.saturating_sub(mark.due));
        let topic = self.clients[client].topic;
        if self.topics[topic].landed(place, mark.number) {
            self.refill(topic);
        }
    }

    /// Something other than a message of the load has come: a reply, the end of the channel, a history.
    fn told(&mut self, client: usize, payload: &[u8]) {
        if memmem::find(payload, b"\"phx_").is_none() {
            return;
        }
        let Some(message) = ServerText::read(payload) else {
            return;
        };
        match &*message.event {
            PHX_REPLY => {
                let Ok(reply) = serde_json::from_str::<Reply<'_>>(message.payload.get()) else {
                    return;
                };
                self.replied(client, &message.reference.unwrap_or_default(), &reply);
            }
            end @ (PHX_CLOSE | PHX_ERROR) => self.end(client, end),
            _ => {}
        }
    }

    fn replied(&mut self, client: usize, reference: &str, reply: &Reply<'_>) {
        let is_ok = reply.status == "ok";
        if self.clients[client].state == State::Joining {
            if is_ok {
                self.note_seen(client, reference, reply.response);
                self.joined(client);
            } else {
                let response = short(reply.response.get());
                self.end(client, &format!("the join is refused: {response}"));
            }
        } else if let Some(number) = reference.strip_prefix(REQUEST) {
            if !is_ok {
                self.report
                    .refused_messages
                    .count(short(reply.response.get()));
            }
            self.answered(client, number);
        } else if let Some(number) = reference.strip_prefix(PUSH)
            && !is_ok
        {
            let topic = &mut self.topics[self.clients[client].topic];
            let mut publishers = topic.publishers.iter();
            if let Some(place) = publishers.position(|publisher| publisher.client == client) {
                topic.refused(place, number);
            }
            let response = short(reply.response.get());
            self.report.refused_messages.count(response);
        }
    }

    /// The reply to a join has come.
    fn joined(&mut self, client: usize) {
        let this = &mut self.clients[client];
        self.moved = Instant::now();
        this.joins -= 1;
        if this.joins > 0 {
            return;
        }
        this.state = State::Joined;
        self.topics[this.topic].members += 1;
        self.pending -= 1;
        self.report.joined += 1;
        match &mut self.report.storm {
            Some(storm) => storm.back += 1,
            None => self.report.joining = self.began.elapsed(),
        }
    }

    /// The connection, the channel or the attempt of a client has ended.
    pub(super) fn end(&mut self, client: usize, reason: &str) {
        let this = &mut self.clients[client];
        let before = std::mem::replace(&mut this.state, State::Ended);
        // Closing it also takes it out of the poll.
        this.stream = None;
        this.partial = Vec::new();
        match before {
            State::Ended => return,
            _ if self.is_leaving => return,
            State::Joined => {
                self.report.closed.count(reason);
                self.topics[this.topic].left(client, &this.tracks);
            }
            State::New | State::Connecting | State::Upgrading | State::Joining => {
                self.pending = self.pending.saturating_sub(1);
                self.report.refused.count(reason);
            }
        }
        self.moved = Instant::now();
        let topic = self.clients[client].topic;
        self.topics[topic].closed(client);
    }
}

/// The request of the handshake.
fn handshake(config: &LoadConfig) -> Vec<u8> {
    let mut url = config.url.clone();
    let has_vsn = url.query_pairs().any(|(name, _)| name == "vsn");
    let params = config
        .params
        .iter()
        .map(|(name, value)| (&**name, &**value));
    let token = config.token.iter().map(|token| ("token", &**token));
    let vsn = (!has_vsn).then_some(("vsn", "2.0.0"));
    url.query_pairs_mut()
        .extend_pairs(vsn.into_iter().chain(params).chain(token));
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = authority(&url);
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

fn authority(url: &Url) -> &str {
    &url[url::Position::BeforeHost..url::Position::AfterPort]
}

/// A refused handshake, with what to do.
fn refusal(status: &str) -> String {
    match status {
        "429" => {
            "status 429: a limit of the server for one address; raise max_connections_per_ip or \
            connects_per_second there, or lower --connect-rate"
                .to_owned()
        }
        "503" => "status 503: the server is full or ends; raise its max_connections".to_owned(),
        "403" => "status 403: a wrong token, param or origin".to_owned(),
        "404" => "status 404: a wrong path; it ends with /websocket".to_owned(),
        "" => "the answer is no HTTP".to_owned(),
        status => format!("status {status}"),
    }
}

/// The end of a connection without a close frame.
fn failure(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "closed without a close frame".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset".to_owned(),
        ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        ErrorKind::InvalidData => format!(
            "TLS: {error}; name the issuer of the certificate with --ca, or say --insecure for a server on this machine"
        ),
        _ => error.to_string(),
    }
}

fn short(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_REASON);
    &text[..end]
}
