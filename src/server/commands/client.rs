//! `slackir publish` and `slackir tail`: clients of a running server.

use std::net::SocketAddr;
use std::time::Duration;

use awc::ws::{Frame, Message};
use awc::{Client, Connector};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio::time::{interval, timeout};
use url::Url;

use crate::message::{PHX_CLOSE, PHX_ERROR, PHX_JOIN, PHX_REPLY};
use crate::serializer::{ServerText, client_text, heartbeat_text};
use crate::server::config::{CliError, PublishConfig, ServeConfig, ServerUrl, TailConfig};
use crate::server::console::{OutputError, print};
use crate::server::probe;
use crate::server::tls;

/// The longest wait for an answer: longer than a server waits for its database.
const PATIENCE: Duration = Duration::from_secs(15);
/// The time between two heartbeats, as in phoenix.js.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The longest message that is read, in bytes.
const MAX_BYTES: usize = 100_000_000;
/// The ref of the join.
const JOIN: &str = "1";

/// A command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientCommandError {
    /// An argument is no JSON object.
    #[error("{what} must be a JSON object, such as {{\"message\": \"hi\"}}")]
    NoObject {
        /// The argument.
        what: &'static str,
    },
    /// There is no token.
    #[error(
        "the HTTP API needs a token: --api-token, --api-token-file, SLACKIR_API_TOKEN, or --config with the server's config file"
    )]
    NoToken,
    /// The config file cannot be used.
    #[error(transparent)]
    Settings(#[from] CliError),
    /// The config file names no address that can be reached.
    #[error("{0} is no URL of a server; give it by --url")]
    NoUrl(String),
    /// TLS cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The server does not answer.
    #[error("no server answers at {url}: {problem}")]
    NoAnswer {
        /// Its URL.
        url: Url,
        /// The problem.
        problem: String,
    },
    /// The API has refused.
    #[error("the server refuses it (status {status}): {detail}")]
    Refused {
        /// The status of the answer.
        status: u16,
        /// The reason in the answer.
        detail: String,
    },
    /// The socket was not opened.
    #[error(
        "the server refuses the connection (status {status}): 403 is a wrong token, param or origin, 404 a wrong path"
    )]
    NotConnected {
        /// The status of the answer.
        status: u16,
    },
    /// The join was refused.
    #[error("the server refuses the join of {topic}: {reason}")]
    NotJoined {
        /// The topic.
        topic: String,
        /// The response of the reply.
        reason: String,
    },
    /// The channel or the connection has ended.
    #[error("the server has ended it: {0}")]
    Ended(String),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Publishes a message by the HTTP API, and prints its id.
///
/// # Errors
/// If it was not published, or it is not known whether it was.
pub(crate) fn publish(config: &PublishConfig) -> Result<(), ClientCommandError> {
    let payload = object(&config.payload, "PAYLOAD")?;
    let body = json!({ "event": config.event, "payload": payload });
    let end = if config.live { "broadcast" } else { "messages" };
    let token = config.api_token.as_deref();
    let token = token.ok_or(ClientCommandError::NoToken)?;
    let mut url = server_url(&config.server, Listens::Operators)?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty()
            .extend(["api", "topics", &config.topic, end]);
    }
    actix_rt::System::new().block_on(async {
        let request = client(&url)?
            .post(url.as_str())
            .bearer_auth(token)
            .timeout(PATIENCE);
        let sent = request.send_json(&body).await;
        let mut answer = sent.map_err(|error| no_answer(&url, &error))?;
        let body = answer.body().limit(MAX_BYTES).await;
        let body: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        let status = answer.status().as_u16();
        match status {
            200 | 201 => print(body["id"].as_str().unwrap_or_default())?,
            204 => {}
            _ => {
                let detail = detail(&body);
                return Err(ClientCommandError::Refused { status, detail });
            }
        }
        Ok(())
    })
}

/// The reason in a refusal of the API, with its fields.
fn detail(body: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let fields = body["fields"].as_object();
    let fields = fields.into_iter().flatten();
    let fields: Vec<_> = fields
        .map(|(name, problem)| format!("{name}: {}", text(problem).unwrap_or_default()))
        .collect();
    match (text(&body["detail"]).or(text(&body["error"])), &*fields) {
        (Some(detail), []) => detail,
        (_, [_, ..]) => fields.join("; "),
        (None, []) => {
            "the answer is not one of slackir's HTTP API; is the API switched on (api_token), and not at the \
             address of admin_listen (--url)?"
                .to_owned()
        }
    }
}

/// Joins a topic, and prints each message as a line of JSON, until the connection ends.
///
/// # Errors
/// If the topic cannot be joined, and when the channel or the connection ends.
pub(crate) fn tail(config: &TailConfig) -> Result<(), ClientCommandError> {
    let join = object(&config.join, "--join")?;
    let url = socket_url(config)?;
    actix_rt::System::new().block_on(follow(&config.topic, &join, url))
}

/// Whom an address of the server is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listens {
    Clients,
    Operators,
}

/// The URL of the server: the one that was given, or the one of its config file.
fn server_url(server: &ServerUrl, listens: Listens) -> Result<Url, ClientCommandError> {
    let text = match (&server.url, &server.file.path) {
        (Some(url), _) => return Ok(url.clone()),
        (None, Some(path)) => address(&ServeConfig::from_file_without_secrets(path)?, listens),
        (None, None) => "http://127.0.0.1:4000".to_owned(),
    };
    Url::parse(&text).map_err(|_| ClientCommandError::NoUrl(text))
}

/// What a server with these settings listens on, as a URL. A certificate is for a name.
fn address(config: &ServeConfig, listens: Listens) -> String {
    let own = SocketAddr::new(config.host, config.port);
    let (address, has_tls) = match listens {
        Listens::Clients => (own, config.tls.is_on()),
        Listens::Operators => (config.operators_address(), config.operators_have_tls()),
    };
    match &config.public_host {
        Some(name) if has_tls => format!("https://{name}:{}", address.port()),
        _ if has_tls => format!("https://{}", probe::reachable(address)),
        _ => format!("http://{}", probe::reachable(address)),
    }
}

fn socket_url(config: &TailConfig) -> Result<Url, ClientCommandError> {
    let mut url = server_url(&config.server, Listens::Clients)?;
    if let Ok(mut path) = url.path_segments_mut() {
        let socket = config
            .socket
            .split('/')
            .filter(|segment| !segment.is_empty());
        path.pop_if_empty().extend(socket).push("websocket");
    }
    let params = config.params.iter();
    url.query_pairs_mut()
        .clear()
        .append_pair("vsn", "2.0.0")
        .extend_pairs(params.map(|(name, value)| (name, value)));
    Ok(url)
}

async fn follow(
    topic: &str,
    join: &Map<String, Value>,
    url: Url,
) -> Result<(), ClientCommandError> {
    let request = client(&url)?.ws(url.as_str()).max_frame_size(MAX_BYTES);
    let connected = timeout(PATIENCE, request.connect()).await;
    let connected = connected.map_err(|_| no_answer(&without_query(&url), &"no answer in time"))?;
    let (_, mut connection) = connected.map_err(|error| match error {
        awc::error::WsClientError::InvalidResponseStatus(status) => {
            let status = status.as_u16();
            ClientCommandError::NotConnected { status }
        }
        error => no_answer(&without_query(&url), &error),
    })?;
    let ended = |error: &dyn std::fmt::Display| ClientCommandError::Ended(error.to_string());
    let join = json!(join).to_string();
    let join = client_text(Some(JOIN), JOIN, topic, PHX_JOIN, &join);
    let sent = connection.send(Message::Text(join.into())).await;
    sent.map_err(|error| ended(&error))?;
    let mut heartbeats = interval(HEARTBEAT);
    loop {
        let frame = tokio::select! {
            _ = heartbeats.tick() => {
                let heartbeat = heartbeat_text("heartbeat");
                let sent = connection.send(Message::Text(heartbeat.into())).await;
                sent.map_err(|error| ended(&error))?;
                continue;
            }
            frame = connection.next() => frame,
        };
        let frame = frame.ok_or_else(|| ended(&"the connection was closed"))?;
        match frame.map_err(|error| ended(&error))? {
            Frame::Text(text) => show(topic, &text)?,
            Frame::Binary(bytes) => {
                print(json!({ "topic": topic, "binary": BASE64_STANDARD.encode(bytes) }))?;
            }
            Frame::Ping(bytes) => {
                let sent = connection.send(Message::Pong(bytes)).await;
                sent.map_err(|error| ended(&error))?;
            }
            Frame::Close(reason) => {
                let code = reason.map_or(1_005, |reason| u16::from(reason.code));
                return Err(ended(&format_args!("close code {code}")));
            }
            Frame::Pong(_) | Frame::Continuation(_) => {}
        }
    }
}

/// Prints a message of the topic.
fn show(topic: &str, text: &[u8]) -> Result<(), ClientCommandError> {
    let Some(message) = ServerText::read(text) else {
        return Ok(());
    };
    if message.topic != topic {
        return Ok(());
    }
    let payload: Value = serde_json::from_str(message.payload.get()).unwrap_or_default();
    let is_join = message.reference.as_deref() == Some(JOIN);
    match &*message.event {
        PHX_REPLY if is_join && payload["status"] != "ok" => Err(ClientCommandError::NotJoined {
            topic: topic.to_owned(),
            reason: payload["response"].to_string(),
        }),
        PHX_REPLY => Ok(()),
        end @ (PHX_CLOSE | PHX_ERROR) => Err(ClientCommandError::Ended(end.to_owned())),
        event => Ok(print(
            json!({ "topic": topic, "event": event, "payload": payload }),
        )?),
    }
}

/// An HTTP client for this URL.
fn client(url: &Url) -> Result<Client, ClientCommandError> {
    let connector = Connector::new().timeout(PATIENCE);
    let connector = match url.scheme() {
        "https" => {
            let tls = tls::system_roots().and_then(tls::tls);
            connector.rustls_0_23(tls.map_err(ClientCommandError::Tls)?)
        }
        _ => connector,
    };
    let client = Client::builder().connector(connector).disable_redirects();
    Ok(client.finish())
}

fn no_answer(url: &Url, problem: &impl ToString) -> ClientCommandError {
    ClientCommandError::NoAnswer {
        url: url.clone(),
        problem: problem.to_string(),
    }
}

/// The params may hold a token.
fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}

fn object(text: &str, what: &'static str) -> Result<Map<String, Value>, ClientCommandError> {
    serde_json::from_str(text).map_err(|_| ClientCommandError::NoObject { what })
}
