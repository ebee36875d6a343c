//! The database of a server: opens it, watches it for foreign rows, prunes it, and saves the last messages.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ServeError;
use super::parts::columns;
use crate::endpoint::Endpoint;
use crate::log::Flushed;
use crate::pubsub::PubSub;
use crate::server::config::{Durability, RoomConfig, ServeConfig};
use crate::server::sockets::rooms;
use crate::store::spool::SpoolLimits;
use crate::store::{
    self, DbWriter, DbWriterHandle, Reader, Retention, RetentionRule, SpoolOptions, Store,
    StoreOptions, WriterOptions,
};

/// The time between two searches for rows of another application.
const LOOK_FOR_ROWS: Duration = Duration::from_secs(5);

/// The least time for the last flush, even if closing the connections took the whole shutdown timeout.
const LAST_FLUSH: Duration = Duration::from_secs(2);

pub(super) fn open_store(config: &ServeConfig) -> Result<DbWriterHandle, ServeError> {
    let url = &config.database.database_url;
    let dir = match &config.spool_dir {
        Some(dir) => dir.clone(),
        None => store::default_spool(url)?,
    };
    // A spool shows that the server has had its database before: it may start without it. For a new server an
    // unreachable URL is a mistake.
    let options = StoreOptions {
        pool_size: config.pool_size,
        adopt_ecto_messages: true,
    };
    let (store, prepared) = if dir.exists() {
        Store::open_or_wait(url, options)?
    } else {
        Store::open(url, options)?
    };
    prepared.log();
    let spool = SpoolOptions {
        dir,
        limits: SpoolLimits {
            bytes: config.spool_bytes as u64,
            ..SpoolLimits::default()
        },
    };
    let options = WriterOptions {
        spool: Some(spool),
        rows: config.writer_rows,
        bytes: config.writer_bytes,
        strict: config.durability == Durability::Strict,
        columns: rooms(config).iter().map(columns).collect(),
    };
    Ok(DbWriter::start_on_own_thread(store, options)?)
}

/// The name of this server in the messages of other servers on the database.
pub(super) fn server_name(address: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let process = std::process::id();
    format!("{address} on {}, process {process}", host.trim())
}

/// Logs a warning whenever another application has written rows into the table.
pub(super) async fn look_for_rows_of_others(reader: Reader) {
    let mut known = 0;
    loop {
        tokio::time::sleep(LOOK_FOR_ROWS).await;
        // The writer reports an unreachable database.
        let Ok(rows) = reader.rows_of_others().await else {
            continue;
        };
        if rows > known {
            tracing::warn!(
                rows,
                "store.rows_of_others: another application writes into `messages`; its messages are \
                 taken in at the next start"
            );
        }
        known = rows;
    }
}

/// Prunes the rooms that have a retention.
pub(super) fn retention(
    config: &ServeConfig,
    endpoint: &Endpoint,
    writer: &DbWriterHandle,
) -> Retention {
    Retention::new(writer, endpoint.pubsub(), retention_rules(&config.rooms))
}

/// The retention of each room.
pub(super) fn retention_rules(rooms: &[RoomConfig]) -> Vec<RetentionRule> {
    rooms.iter().map(retention_rule).collect()
}

fn retention_rule(room: &RoomConfig) -> RetentionRule {
    RetentionRule {
        topics: room.topics.clone(),
        max_age: room.retention.max_age,
        max_messages: room.retention.max_messages,
    }
}

/// Commits the pending messages and closes the logs, so that clients can resume after a restart. The caller has
/// made sure that nobody publishes any more. Returns the number of messages that may be lost.
pub(super) async fn save_everything(pubsub: &PubSub, deadline: Instant) -> usize {
    let left = deadline.saturating_duration_since(Instant::now());
    let Flushed { waiting, at_risk } = pubsub.save(left.max(LAST_FLUSH)).await;
    if waiting == 0 {
        tracing::info!("serve.shutdown.flushed");
    } else {
        tracing::warn!(
            waiting,
            unsaved = at_risk,
            "serve.shutdown.database_away: what waits in the spool is saved at the next start"
        );
    }
    at_risk
}
