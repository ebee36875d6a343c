//! [`examine`]: whether a NATS server is fit for a cluster, for the check of a configuration.

use super::connection::Opened;
use super::error::ConnectError;
use super::options::NatsOptions;
use super::protocol::Info;
use crate::cluster::bus::NodeId;
use crate::cluster::finding::Finding;

/// The longest message that every NATS server takes unless it is configured otherwise.
const PAYLOAD: usize = 1 << 20;

/// Examines the server at `url`, for a cluster whose subjects begin with `prefix`. Fails if it is not reached, or the
/// user may not publish and subscribe to these.
pub(crate) async fn examine(url: &str, prefix: &str) -> Result<Vec<Finding>, ConnectError> {
    let mut options = NatsOptions::new(url);
    prefix.clone_into(&mut options.prefix);
    // No node has this number.
    let opened = Opened::open(&options, NodeId::new(0)).await?;
    Ok(findings(&opened.info, prefix))
}

fn findings(info: &Info, prefix: &str) -> Vec<Finding> {
    let mut findings = vec![
        Finding::Fine(format!("NATS {} answers.", info.version)),
        Finding::Fine(format!("The user may publish and subscribe to {prefix}.>")),
    ];
    if info.max_payload < PAYLOAD {
        findings.push(Finding::Warning(format!(
            "max_payload is {} bytes: longer messages reach other nodes a second late, or not at all if they are \
             not saved; set it to 1MB or more.",
            info.max_payload
        )));
    }
    if let Some(name) = &info.cluster {
        findings.push(Finding::Warning(format!(
            "This NATS is a server of the NATS cluster {name}: all nodes must be connected to the same server of it, \
             so nats_url must name one server and no balancer of several."
        )));
    }
    findings
}
