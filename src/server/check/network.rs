//! The other machines that the settings name: the application's backend, the issuers of tokens, and the collector of
//! traces.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use url::Url;

use super::Finding;
use super::keys::jwt_sections;
use crate::server::config::{HookConfig, OtelConfig, ServeConfig};
use crate::server::hook::Hook;
use crate::server::jwks::RemoteKeys;
use crate::server::language::JwtKeySource;

/// The longest wait for a connection to the collector.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether traces have somewhere to go.
pub(super) fn collector(config: &OtelConfig) -> Option<Finding> {
    const NAME: &str = "traces";
    let url = config.otel_endpoint.as_ref()?;
    Some(if !cfg!(feature = "otel") {
        Finding::warn(
            NAME,
            "otel_endpoint is set, and this program was built without the feature otel: remove it, or build with \
             --features otel",
        )
    } else if url.scheme() != "http" {
        Finding::fail(NAME, "otel_endpoint must begin with http://")
    } else {
        match connect(url) {
            Ok(_) => Finding::ok(NAME, format!("{url} accepts connections")),
            Err(error) => Finding::warn(
                NAME,
                format!("{url} does not answer, so spans are lost: {error}; start the collector"),
            ),
        }
    })
}

fn connect(url: &Url) -> io::Result<TcpStream> {
    let addresses = url.socket_addrs(|| None)?;
    let address = addresses.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    TcpStream::connect_timeout(address, PATIENCE)
}

pub(super) fn network(config: &ServeConfig) -> Vec<Finding> {
    let hook = config.hook.as_ref();
    let issuers = jwt_sections(config);
    let issuers = issuers
        .into_iter()
        .filter_map(|(place, jwt)| match &jwt.keys {
            JwtKeySource::Url(url) => Some((place, url.clone())),
            JwtKeySource::Local(_) => None,
        });
    let issuers: Vec<_> = issuers.collect();
    if hook.is_none() && issuers.is_empty() {
        return Vec::new();
    }
    actix_rt::System::new().block_on(async {
        let mut findings = Vec::new();
        if let Some(hook) = hook {
            findings.push(self::hook(hook).await);
        }
        for (place, url) in issuers {
            findings.push(issuer(&place, url).await);
        }
        findings
    })
}

/// Any answer shows that the backend can be reached. It is asked without a signature, so it may refuse.
async fn hook(config: &HookConfig) -> Finding {
    const NAME: &str = "hook";
    let hook = match Hook::new(config) {
        Ok(hook) => hook,
        Err(error) => return Finding::fail(NAME, error.to_string()),
    };
    let url = &config.url;
    match hook.reach().await {
        Ok(status) => Finding::ok(NAME, format!("{url} answers (status {status})")),
        Err(failure) => Finding::warn(
            NAME,
            format!(
                "{url} does not answer, so what it decides is refused: {failure}; start the backend"
            ),
        ),
    }
}

async fn issuer(place: &str, url: Url) -> Finding {
    const NAME: &str = "jwks";
    let shown = url.clone();
    let fetched = match RemoteKeys::new(url) {
        Ok(keys) => keys.reach().await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match fetched {
        Ok(()) => Finding::ok(NAME, format!("{place} jwt: {shown} has keys")),
        Err(problem) => Finding::fail(
            NAME,
            format!("{place} jwt: {shown}: {problem}; its tokens are refused until it answers"),
        ),
    }
}
