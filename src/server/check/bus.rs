//! The Redis of a cluster.

use super::Finding;
use crate::server::config::ServeConfig;

/// What the findings are about.
const NAME: &str = "redis";

/// Whether the server can be a node of its cluster; nothing for a server alone.
pub(super) fn bus(config: &ServeConfig) -> Vec<Finding> {
    let Some(url) = &config.cluster.redis_url else {
        return Vec::new();
    };
    match config.check_cluster() {
        Err(error) => vec![Finding::fail(NAME, error.to_string())],
        Ok(()) => examined(url),
    }
}

#[cfg(feature = "redis")]
fn examined(url: &str) -> Vec<Finding> {
    use crate::cluster::redis::{Finding as Found, examine};
    let examined = actix_rt::System::new().block_on(examine(url));
    let found = match examined {
        Ok(found) => found,
        Err(error) => return vec![Finding::fail(NAME, error.to_string())],
    };
    let findings = found.into_iter().map(|found| match found {
        Found::Fine(text) => Finding::ok(NAME, text),
        Found::Warning(text) => Finding::warn(NAME, text),
        Found::Refused(text) => Finding::fail(NAME, text),
    });
    findings.collect()
}

#[cfg(not(feature = "redis"))]
fn examined(_: &str) -> Vec<Finding> {
    let text =
        "this program was built without the feature redis: remove redis_url, or build with it";
    vec![Finding::fail(NAME, text)]
}
