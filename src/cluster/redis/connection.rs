//! [`Pair`]: the two connections to one process of the server, and the steps to open them.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, ProtocolVersion};
use ::redis::{RedisError, Value};
use tokio::sync::Notify;

use super::Shared;
use super::arrivals::Arrivals;
use super::error::ConnectError;
use super::keys::Keys;
use super::options::RedisOptions;
use super::publishing::Publish;
use super::reply::{self, ask, within};
use super::scripts::{Script, Scripts};
use crate::cluster::bus::{Entrance, ProcessId};
use crate::log::Era;

/// How many digits of `run_id` name a process.
const PROCESS_DIGITS: usize = 10;

/// How many commands may wait to be written to one connection. More wait with the caller.
pub(super) const MOST_UNANSWERED: usize = 4096;

/// The connection that publishes were written to, by its id in one process of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Former {
    /// The process.
    pub(super) process: ProcessId,
    /// The id of the connection there.
    pub(super) client: i64,
}

/// One connection for commands and one for subscriptions, both to the same process of the server. They close
/// when this and all futures that use them are dropped.
#[derive(Debug)]
pub(super) struct Pair {
    /// For commands.
    pub(super) commands: MultiplexedConnection,
    /// For subscriptions.
    pub(super) subscriptions: MultiplexedConnection,
    /// The process and the id of the commands' connection.
    pub(super) identity: Former,
    /// The era in which it is used.
    pub(super) era: Era,
    /// The names of keys in this process.
    pub(super) keys: Keys,
    /// The scripts.
    pub(super) scripts: Scripts,
    /// Wakes when one of the two is lost.
    pub(super) lost: Arc<Notify>,
}

impl Pair {
    /// Opens both connections and loads the scripts. Keep the entrance until the bus is up.
    pub(super) async fn open(shared: &Arc<Shared>) -> Result<(Self, Entrance), ConnectError> {
        let options = &shared.options;
        let limit = options.timing.answer;
        let lost = Arc::new(Notify::new());
        let arrivals = Arc::new(Arrivals::new(Arc::clone(shared), Arc::clone(&lost)));
        let commands = connect(options, &arrivals).await?;
        let subscriptions = connect(options, &arrivals).await?;
        let process = process_of(&commands, limit).await?;
        if process_of(&subscriptions, limit).await? != process {
            return Err(ConnectError::TwoProcesses);
        }
        let scripts = within(limit, Scripts::load(&commands)).await;
        let scripts = scripts.map_err(|error| ConnectError::refused("SCRIPT LOAD", error))?;
        let entrance = shared.events.enter().await;
        let era = Keys::era(&options.prefix, &process);
        let era = latest_era((&commands, &scripts), &era, entrance.era, limit).await?;
        shared.events.learn_era(era);
        let process = process.in_era(era);
        let keys = Keys::new(&options.prefix, &process);
        arrivals.set_keys(keys.clone());
        for (connection, role) in [(&commands, "commands"), (&subscriptions, "subscriptions")] {
            let name = format!("{}-{}-{role}", options.prefix, shared.me);
            request(connection, limit, &["CLIENT", "SETNAME", &name]).await?;
        }
        let client = match request(&commands, limit, &["CLIENT", "ID"]).await? {
            Value::Int(client) => client,
            _ => return Err(ConnectError::Odd("CLIENT ID")),
        };
        // Without this right, messages could be stored twice after a lost connection. No connection has this id.
        let nobody = i64::MAX.to_string();
        request(&commands, limit, &["CLIENT", "KILL", "ID", &nobody]).await?;
        let pair = Self {
            scripts,
            commands,
            subscriptions,
            identity: Former { process, client },
            era,
            keys,
            lost,
        };
        Ok((pair, entrance))
    }

    /// Closes the connection that publishes were written to before. Bytes of it that the server has not
    /// executed yet are lost then; otherwise they could be executed after somebody has looked for them.
    pub(super) async fn kill(&self, former: &Former, limit: Duration) -> Result<(), ConnectError> {
        if former.process != self.identity.process {
            return Ok(());
        }
        let id = former.client.to_string();
        request(&self.commands, limit, &["CLIENT", "KILL", "ID", &id]).await?;
        Ok(())
    }

    /// Sets the liveness key. `true`: it existed. Then the server has kept its data since the key was set, and
    /// no other node has taken this one for dead.
    pub(super) async fn set_alive(&self, shared: &Shared) -> Result<bool, ConnectError> {
        let key = self.keys.node(shared.me);
        let life = shared.options.timing.liveness.as_millis().to_string();
        let set = ["SET", &key, "1", "PX", &life, "GET"];
        match request(&self.commands, shared.options.timing.answer, &set).await {
            Ok(before) => Ok(before != Value::Nil),
            // Without memory there is no key, but journals can be emptied, which frees memory.
            Err(ConnectError::Refused { error, .. }) if reply::is_out_of_memory(&error) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Subscribes the channels that a node always has.
    pub(super) async fn subscribe_own(&self, shared: &Shared) -> Result<(), ConnectError> {
        let mut channels = vec![self.keys.all(), self.keys.node_channel(shared.me)];
        channels.extend(shared.options.foreign.clone());
        let mut connection = self.subscriptions.clone();
        let subscribed = within(shared.options.timing.answer, connection.subscribe(channels));
        subscribed
            .await
            .map_err(|error| ConnectError::refused("SUBSCRIBE", error))
    }

    /// The command that publishes.
    pub(super) fn publish(&self, publish: &Publish, options: &RedisOptions) -> Cmd {
        use super::keys::Kind::{Channel, Journal, Topic};
        let name = |kind| self.keys.topic(&publish.topic, kind);
        let (topic, channel) = (name(Topic), name(Channel));
        let mut call = if !publish.journal {
            self.scripts.call(Script::Take, &[&topic])
        } else if let Some(client_ref) = &publish.client_ref {
            let client_ref = self.keys.client_ref(&publish.topic, client_ref);
            let keys = [topic.as_str(), &name(Journal), &client_ref];
            self.scripts.call(Script::Publish, &keys)
        } else {
            let keys = [topic.as_str(), &name(Journal)];
            self.scripts.call(Script::Publish, &keys)
        };
        call.arg(channel).arg(&publish.message[..]);
        if publish.journal && publish.client_ref.is_some() {
            call.arg(options.ref_window.as_secs().max(1));
        }
        call
    }
}

/// Opens one connection. What it brings besides replies goes to `arrivals`.
async fn connect(
    options: &RedisOptions,
    arrivals: &Arc<Arrivals>,
) -> Result<MultiplexedConnection, ConnectError> {
    let arrivals = Arc::clone(arrivals);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.timing.answer))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(MOST_UNANSWERED)
        .set_push_sender(move |push| {
            arrivals.pushed(push);
            Ok::<(), RedisError>(())
        });
    let client = client(&options.url)?;
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    connected.await.map_err(ConnectError::Unreachable)
}

/// The client for a URL: RESP3, without delay.
pub(super) fn client(url: &str) -> Result<Client, ConnectError> {
    let info = url.into_connection_info().map_err(ConnectError::Url)?;
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    let info = info
        .set_redis_settings(settings)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Client::open(info).map_err(ConnectError::Url)
}

/// Sends a command of the setup and waits for its reply.
pub(super) async fn request(
    connection: &MultiplexedConnection,
    limit: Duration,
    words: &[&str],
) -> Result<Value, ConnectError> {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    let name: Vec<&str> = words.iter().copied().take(2).collect();
    within(limit, ask(connection, command))
        .await
        .map_err(|error| ConnectError::refused(&name.join(" "), error))
}

/// The latest era that this node or any other one in this server knows.
async fn latest_era(
    (connection, scripts): (&MultiplexedConnection, &Scripts),
    key: &str,
    known: Era,
    limit: Duration,
) -> Result<Era, ConnectError> {
    let mut call = scripts.call(Script::Era, &[key]);
    call.arg(known.get());
    match within(limit, ask(connection, call)).await {
        Ok(Value::Int(era)) => Ok(Era::new(era)),
        // Without memory the server keeps nothing, but journals can be emptied, which frees memory.
        Err(error) if reply::is_out_of_memory(&error) => Ok(known),
        Ok(_) => Err(ConnectError::Odd("EVALSHA")),
        Err(error) => Err(ConnectError::refused("EVALSHA", error)),
    }
}

/// The process of the server at the other end.
async fn process_of(
    connection: &MultiplexedConnection,
    limit: Duration,
) -> Result<ProcessId, ConnectError> {
    let info = request(connection, limit, &["INFO", "server"]).await?;
    let info = reply::text(&info).unwrap_or_default();
    field(&info, "run_id")
        .and_then(|run_id| run_id.get(..PROCESS_DIGITS))
        .map(ProcessId::new)
        .ok_or(ConnectError::Odd("INFO server"))
}

/// A field of the reply to INFO.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_info_is_found_whole() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:0123456789abcdef\r\n";
        assert_eq!(field(info, "run_id"), Some("0123456789abcdef"));
        assert_eq!(field(info, "redis"), None);
    }
}
