//! The settings of a cluster. A build without the feature `redis` has them, too, and refuses to start with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::value::seconds;
use super::{ServeConfig, Switch};
use crate::prefix::{InvalidPrefix, check_prefix};

/// The other servers that are nodes of the same cluster.
#[derive(Args, Clone, Debug)]
pub struct ClusterConfig {
    /// URL of the Redis through which servers on one PostgreSQL act as one, such as redis://127.0.0.1:6379; without it
    /// the server is alone
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,

    /// File with the --redis-url
    #[arg(long, value_name = "FILE")]
    pub redis_url_file: Option<PathBuf>,

    /// Beginning of all names in Redis; clusters that share a Redis need different ones
    #[arg(long, default_value = "slackir", value_name = "TEXT", value_parser = prefix)]
    pub redis_prefix: String,

    /// Name of this node on the dashboard and in log lines, another one on each node; without it the host's name and the
    /// port
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub node_name: Option<String>,

    /// How long all nodes know the client_ref of a message; each takes 163 bytes of Redis's memory
    #[arg(long, default_value = "600", value_name = "SECONDS", value_parser = seconds)]
    pub ref_window: Duration,
}

fn prefix(text: &str) -> Result<String, InvalidPrefix> {
    check_prefix(text).map(|()| text.to_owned())
}

/// The other settings do not fit a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterMisfit {
    /// SQLite has one server.
    #[error(
        "redis_url: the servers of a cluster share a PostgreSQL; set database_url to its URL, or persist = \"off\""
    )]
    Sqlite,
}

impl ServeConfig {
    /// Whether the other settings fit the cluster, if there is one.
    pub(crate) fn check_cluster(&self) -> Result<(), ClusterMisfit> {
        if self.cluster.redis_url.is_none() || self.persist == Switch::Off {
            return Ok(());
        }
        if !self.database.database_url.starts_with("postgres") {
            return Err(ClusterMisfit::Sqlite);
        }
        Ok(())
    }
}
