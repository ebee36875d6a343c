//! What a server says when it has started.

use std::net::SocketAddr;
use std::thread;

use serde_json::json;

use super::dashboard;
use crate::server::config::{LogFormat, ServeConfig, Switch};
use crate::server::dashboard::ServedDashboard;
use crate::server::language::IdentityConfig;
use crate::server::{console, explain, systemd};
use crate::store;

/// Prints the server's URL to standard output and to the log, and tells systemd. Standard output gets the link to the
/// dashboard, too.
pub(super) fn announce(
    config: &ServeConfig,
    address: SocketAddr,
    dashboard: Option<&ServedDashboard>,
) {
    let scheme = if config.tls.is_on() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    let database = match config.persist {
        Switch::On => store::redacted(&config.database.database_url),
        Switch::Off => "none".to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        url,
        database,
        operators = config.admin.admin_listen.map(tracing::field::display),
        config = config
            .file
            .path
            .as_deref()
            .map(|path| tracing::field::display(path.display())),
        "serve.started"
    );
    let claims = config.identity.as_ref().map(IdentityConfig::claims);
    if let Some(fields) = claims.filter(|claims| !claims.is_empty()) {
        let fields = fields.join(", ");
        tracing::info!(
            fields,
            "serve.identity.claimed: nobody verifies what clients say of themselves in the \
             connect params"
        );
    }
    for (topics, mistake) in explain::mistakes(config) {
        let topics = topics.map(tracing::field::display);
        tracing::warn!(
            topics,
            mistake,
            "serve.config.mistaken: mend the config file; `slackir rooms explain` shows it"
        );
    }
    let line = format!("Slackir listens on {url}");
    systemd::ready(&line);
    let line = match config.log_format {
        LogFormat::Text => line,
        LogFormat::Json => json!({ "message": line, "url": url }).to_string(),
    };
    let link = dashboard.and_then(|dashboard| dashboard::link(config, dashboard));
    // On a thread, because a reader that stalls would block it.
    thread::spawn(move || {
        console::print(line)?;
        link.map_or(Ok(()), console::print)
    });
}
