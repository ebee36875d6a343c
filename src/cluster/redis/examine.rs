//! [`examine`]: whether a Redis server is fit for a cluster, for the check of a configuration.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Value};

use super::connection::{client, field, request};
use super::error::ConnectError;
use super::reply;
use crate::cluster::finding::Finding;

/// How long the server may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// The oldest version that has all commands: `SET .. GET` came with it.
const OLDEST: (u32, u32) = (6, 2);

/// Examines the server at `url`, and the channel of programs that are no nodes. Fails if it is not reached.
pub(crate) async fn examine(
    url: &str,
    foreign: Option<&str>,
) -> Result<Vec<Finding>, ConnectError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LIMIT))
        .set_response_timeout(Some(LIMIT));
    let client = client(url)?;
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    let connection = connected.await.map_err(ConnectError::Unreachable)?;
    let mut findings = vec![
        version(&connection).await?,
        kill(&connection).await,
        eviction(&connection).await,
    ];
    if let Some(channel) = foreign {
        findings.push(listeners(&connection, channel).await);
    }
    Ok(findings)
}

/// Looks at the version and at `run_id`.
async fn version(connection: &MultiplexedConnection) -> Result<Finding, ConnectError> {
    let info = request(connection, LIMIT, &["INFO", "server"]).await?;
    let info = reply::text(&info).unwrap_or_default();
    let Some(version) = field(&info, "redis_version") else {
        return Err(ConnectError::Odd("INFO server"));
    };
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = OLDEST;
    Ok(if found < OLDEST {
        Finding::Refused(format!(
            "Redis is {version}; a cluster needs {major}.{minor} or newer."
        ))
    } else if field(&info, "run_id").is_none_or(|run_id| run_id.len() < 10) {
        Finding::Refused(
            "Redis does not tell its run_id; connect without a proxy that hides the server."
                .to_owned(),
        )
    } else {
        Finding::Fine(format!("Redis {version} answers."))
    })
}

/// Looks whether CLIENT KILL is allowed, with an id that no connection has.
async fn kill(connection: &MultiplexedConnection) -> Finding {
    let none = i64::MAX.to_string();
    match request(connection, LIMIT, &["CLIENT", "KILL", "ID", &none]).await {
        Ok(_) => Finding::Fine("CLIENT KILL is allowed.".to_owned()),
        Err(error) => Finding::Refused(format!(
            "CLIENT KILL fails: {error}. Without it, messages could be stored twice after a lost connection; \
             grant the user +client|kill."
        )),
    }
}

/// Looks whether the channel may be subscribed, and whether anybody has.
async fn listeners(connection: &MultiplexedConnection, channel: &str) -> Finding {
    let listeners = request(connection, LIMIT, &["PUBSUB", "NUMSUB", channel]).await;
    if let Err(error) = connection.clone().subscribe(channel).await {
        return Finding::Refused(format!(
            "SUBSCRIBE fails: {error}. Grant the user &{channel}."
        ));
    }
    match listeners {
        Ok(Value::Array(pairs)) if matches!(pairs.get(1), Some(Value::Int(1..))) => {
            Finding::Fine(format!("{channel} has listeners."))
        }
        Ok(_) => Finding::Warning(format!(
            "Nobody listens on {channel}; see that the Phoenix application runs, that phoenix_bridge is the name of its \
             PubSub, and that this has the adapter phoenix_pubsub_redis."
        )),
        // The node itself needs no such right.
        Err(_) => Finding::Fine(format!("{channel} may be subscribed.")),
    }
}

/// Looks whether the server may evict keys.
async fn eviction(connection: &MultiplexedConnection) -> Finding {
    let get = ["CONFIG", "GET", "maxmemory-policy"];
    let policy = match request(connection, LIMIT, &get).await {
        Ok(Value::Map(pairs)) => pairs.first().and_then(|(_, policy)| reply::text(policy)),
        _ => None,
    };
    match policy.as_deref() {
        Some("noeviction") => Finding::Fine("maxmemory-policy is noeviction.".to_owned()),
        Some(policy) => Finding::Refused(format!(
            "maxmemory-policy is {policy}: Redis may evict messages that the database does not have yet; \
             set it to noeviction."
        )),
        None => Finding::Warning(
            "CONFIG GET is forbidden; see yourself that maxmemory-policy is noeviction.".to_owned(),
        ),
    }
}
