//! The settings of a cluster. A build without the features `redis` and `nats` has them, too, and refuses to start with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::value::seconds;
use super::{Durability, ServeConfig, Switch};
use crate::prefix::{InvalidPrefix, InvalidPubSubName, check_prefix, check_pubsub_name};

/// The other servers that are nodes of the same cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterConfig {
    /// URL of the Redis through which servers on one PostgreSQL act as one, such as redis://127.0.0.1:6379; without it
    /// the server is alone
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,

    /// File with the --redis-url
    #[arg(long, value_name = "FILE")]
    pub redis_url_file: Option<PathBuf>,

    /// URL of the NATS through which servers on one PostgreSQL act as one, such as nats://127.0.0.1:4222, in place of a
    /// Redis; it needs --durability strict
    #[arg(long, env = "NATS_URL", hide_env_values = true, value_name = "URL")]
    pub nats_url: Option<String>,

    /// File with the --nats-url
    #[arg(long, value_name = "FILE")]
    pub nats_url_file: Option<PathBuf>,

    /// Beginning of all names in Redis or NATS; clusters that share one need different ones
    #[arg(long, default_value = "slackir", value_name = "TEXT", value_parser = prefix)]
    pub cluster_prefix: String,

    /// Older name of --cluster-prefix, which it overrides
    #[arg(long, value_name = "TEXT", value_parser = prefix)]
    pub redis_prefix: Option<String>,

    /// Name of the Phoenix.PubSub, such as MyApp.PubSub, of a Phoenix application whose phoenix_pubsub_redis uses the same
    /// Redis; live events then go both ways between its channels and the topics here
    #[arg(long, value_name = "NAME", value_parser = pubsub_name)]
    pub phoenix_bridge: Option<String>,

    /// Name of this node on the dashboard and in log lines, another one on each node; without it the host's name and the
    /// port
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub node_name: Option<String>,

    /// How long all nodes know the client_ref of a message, unless durability is strict; each takes 163 bytes of Redis's
    /// memory
    #[arg(long, default_value = "600", value_name = "SECONDS", value_parser = seconds)]
    pub ref_window: Duration,
}

fn prefix(text: &str) -> Result<String, InvalidPrefix> {
    check_prefix(text).map(|()| text.to_owned())
}

fn pubsub_name(text: &str) -> Result<String, InvalidPubSubName> {
    check_pubsub_name(text).map(|()| text.to_owned())
}

/// What the nodes of a cluster talk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClusterBus {
    /// Redis, which also gives messages their order.
    Redis,
    /// NATS.
    Nats,
}

impl ClusterBus {
    /// The product, as sentences name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Nats => "NATS",
        }
    }

    /// The setting that names its server.
    pub(crate) const fn setting(self) -> &'static str {
        match self {
            Self::Redis => "redis_url",
            Self::Nats => "nats_url",
        }
    }
}

impl ClusterConfig {
    /// What the nodes talk over, and its URL; `None` for a server alone.
    pub(crate) fn bus(&self) -> Option<(ClusterBus, &str)> {
        let nats = self.nats_url.as_deref().map(|url| (ClusterBus::Nats, url));
        let redis = || {
            self.redis_url
                .as_deref()
                .map(|url| (ClusterBus::Redis, url))
        };
        nats.or_else(redis)
    }

    /// The beginning of all names there.
    pub(crate) fn prefix(&self) -> &str {
        self.redis_prefix.as_deref().unwrap_or(&self.cluster_prefix)
    }
}

/// The other settings do not fit a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterMisfit {
    /// SQLite has one server.
    #[error(
        "{setting}: the servers of a cluster share a PostgreSQL; set database_url to its URL, or persist = \"off\""
    )]
    Sqlite {
        /// `redis_url` or `nats_url`.
        setting: &'static str,
    },
    /// A cluster has one bus.
    #[error("redis_url and nats_url are both set; remove one of them")]
    TwoBuses,
    /// The URL is that of another server.
    #[error("{setting}: the scheme of the URL must be {schemes}")]
    Scheme {
        /// `redis_url` or `nats_url`.
        setting: &'static str,
        /// Those that it may have.
        schemes: &'static str,
    },
    /// NATS gives messages no order.
    #[error(
        "nats_url: NATS gives messages no order, so the database must give it; set durability = \"strict\", or persist = \"off\""
    )]
    Relaxed,
    /// The bridge is to an application on the same Redis.
    #[error(
        "the Phoenix application of phoenix_bridge is reached over its Redis, and this server has none; set redis_url to its URL, or remove phoenix_bridge"
    )]
    BridgeWithoutRedis,
}

impl ClusterMisfit {
    /// The setting that is wrong.
    pub(crate) fn setting(&self) -> &'static str {
        match self {
            Self::Sqlite { setting } | Self::Scheme { setting, .. } => setting,
            Self::TwoBuses | Self::Relaxed => "nats_url",
            Self::BridgeWithoutRedis => "phoenix_bridge",
        }
    }
}

impl ServeConfig {
    /// Whether the other settings fit the cluster, if there is one.
    pub(crate) fn check_cluster(&self) -> Result<(), ClusterMisfit> {
        let has_redis = matches!(self.cluster.bus(), Some((ClusterBus::Redis, _)));
        if self.cluster.phoenix_bridge.is_some() && !has_redis {
            return Err(ClusterMisfit::BridgeWithoutRedis);
        }
        let Some((bus, url)) = self.cluster.bus() else {
            return Ok(());
        };
        if self.cluster.redis_url.is_some() && self.cluster.nats_url.is_some() {
            return Err(ClusterMisfit::TwoBuses);
        }
        let setting = bus.setting();
        let is_of_nats = matches!(url.split(':').next(), Some("nats" | "tls"));
        if is_of_nats != (bus == ClusterBus::Nats) {
            let schemes = match bus {
                ClusterBus::Redis => "redis or rediss; the URL of a NATS is nats_url",
                ClusterBus::Nats => "nats or tls",
            };
            return Err(ClusterMisfit::Scheme { setting, schemes });
        }
        if self.persist == Switch::Off {
            return Ok(());
        }
        if bus == ClusterBus::Nats && self.durability == Durability::Relaxed {
            return Err(ClusterMisfit::Relaxed);
        }
        if !self.database.is_postgres() {
            return Err(ClusterMisfit::Sqlite { setting });
        }
        Ok(())
    }
}
