//! The Redis or the NATS of a cluster.

use super::Finding;
use crate::server::config::{ClusterBus, ServeConfig};

/// Whether the server can be a node of its cluster; nothing for a server alone.
pub(super) fn bus(config: &ServeConfig) -> Vec<Finding> {
    let bus = config.cluster.bus();
    if let Err(error) = config.check_cluster() {
        let name = bus.map_or("cluster", |(bus, _)| subject(bus));
        return vec![Finding::fail(name, error.to_string())];
    }
    match bus {
        None => Vec::new(),
        Some((bus @ ClusterBus::Redis, url)) => {
            let bridge = config.cluster.phoenix_bridge.as_deref();
            redis(subject(bus), url, bridge)
        }
        Some((bus @ ClusterBus::Nats, url)) => nats(subject(bus), url, config.cluster.prefix()),
    }
}

/// What the findings are about.
const fn subject(bus: ClusterBus) -> &'static str {
    match bus {
        ClusterBus::Redis => "redis",
        ClusterBus::Nats => "nats",
    }
}

#[cfg(feature = "redis")]
fn redis(name: &'static str, url: &str, bridge: Option<&str>) -> Vec<Finding> {
    let channel = bridge.map(crate::cluster::phoenix::channel);
    examined(
        name,
        crate::cluster::redis::examine(url, channel.as_deref()),
    )
}

#[cfg(not(feature = "redis"))]
fn redis(name: &'static str, _: &str, _: Option<&str>) -> Vec<Finding> {
    let text =
        "this program was built without the feature redis: remove redis_url, or build with it";
    vec![Finding::fail(name, text)]
}

#[cfg(feature = "nats")]
fn nats(name: &'static str, url: &str, prefix: &str) -> Vec<Finding> {
    examined(name, crate::cluster::nats::examine(url, prefix))
}

#[cfg(not(feature = "nats"))]
fn nats(name: &'static str, _: &str, _: &str) -> Vec<Finding> {
    let text = "this program was built without the feature nats: remove nats_url, or build with it";
    vec![Finding::fail(name, text)]
}

/// What an examination of the server has found.
#[cfg(feature = "_cluster")]
fn examined<E: std::fmt::Display>(
    name: &'static str,
    examination: impl Future<Output = Result<Vec<crate::cluster::Finding>, E>>,
) -> Vec<Finding> {
    use crate::cluster::Finding as Found;
    let found = match actix_rt::System::new().block_on(examination) {
        Ok(found) => found,
        Err(error) => return vec![Finding::fail(name, error.to_string())],
    };
    let findings = found.into_iter().map(|found| match found {
        Found::Fine(text) => Finding::ok(name, text),
        Found::Warning(text) => Finding::warn(name, text),
        Found::Refused(text) => Finding::fail(name, text),
    });
    findings.collect()
}
