//! [`RemoteKeys`]: the keys behind a JWKS URL. `server::jwt` decides when they are fetched; this module fetches them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tokio::time::timeout;
use url::Url;

use crate::lock::lock;
use crate::metrics::token_metrics;
use crate::server::jwt::{JwkSet, JwksCache};
use crate::server::tls::{system_roots, tls};

/// The time of a fetch, connection and body included.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest body, in bytes.
const MAX_BYTES: usize = 262_144;

/// The keys behind a URL, for all workers.
pub(crate) struct RemoteKeys {
    url: Url,
    /// For `https`.
    tls: Option<Arc<ClientConfig>>,
    cache: Mutex<JwksCache>,
    /// Held by the one fetch in flight.
    fetching: tokio::sync::Mutex<()>,
}

/// Why keys cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer within 2 s")]
    Timeout,
    #[error("the status of the answer is {0}")]
    Status(u16),
    #[error("{0}")]
    Unreachable(String),
    /// The body is too long, or no JWKS.
    #[error("{0}")]
    Invalid(String),
}

impl FetchError {
    /// The outcome in the metric.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Status(_) => "status",
            Self::Unreachable(_) => "unreachable",
            Self::Invalid(_) => "invalid",
        }
    }
}

impl RemoteKeys {
    /// # Errors
    /// If the system has no root certificates for an `https` URL.
    pub(crate) fn new(url: Url) -> Result<Arc<Self>, String> {
        let tls = match url.scheme() {
            "https" => Some(tls(system_roots()?)?),
            _ => None,
        };
        Ok(Arc::new(Self {
            url,
            tls,
            cache: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }))
    }

    /// The keys. If there are none yet, waits for a fetch; if they are old, starts one. `None`: they cannot be had.
    pub(crate) async fn current(self: &Arc<Self>) -> Option<Arc<JwkSet>> {
        let (keys, is_due) = {
            let (cache, now) = (lock(&self.cache), Instant::now());
            (cache.keys(now), cache.is_due(now))
        };
        if keys.is_none() {
            return self.newer(None).await;
        }
        if is_due {
            let remote = Arc::clone(self);
            actix_rt::spawn(async move { remote.fetch_once(None, true).await });
        }
        keys
    }

    /// Keys other than `known`, which lack the key of a token. Waits for the fetch in flight, or fetches if the last
    /// fetch is long enough ago. `None`: there are none.
    pub(crate) async fn newer(self: &Arc<Self>, known: Option<Arc<JwkSet>>) -> Option<Arc<JwkSet>> {
        // A task of its own: a client that hangs up does not cancel the fetch of the others.
        let remote = Arc::clone(self);
        let fetch = actix_rt::spawn(async move { remote.fetch_once(known, false).await });
        fetch.await.ok().flatten()
    }

    /// One fetch at a time. `refreshes`: only if the keys are due.
    async fn fetch_once(&self, known: Option<Arc<JwkSet>>, refreshes: bool) -> Option<Arc<JwkSet>> {
        let _in_flight = self.fetching.lock().await;
        {
            let (mut cache, now) = (lock(&self.cache), Instant::now());
            // A fetch may have ended while this one waited.
            let present = cache.keys(now);
            let is_other = match (&present, &known) {
                (Some(present), Some(known)) => !Arc::ptr_eq(present, known),
                (present, _) => present.is_some(),
            };
            if !refreshes && is_other {
                return present;
            }
            let may_fetch = if refreshes {
                cache.is_due(now)
            } else {
                cache.may_fetch(now)
            };
            if !may_fetch {
                return None;
            }
            cache.begin(now);
        }
        match timeout(TIMEOUT, self.fetch())
            .await
            .unwrap_or(Err(FetchError::Timeout))
        {
            Ok(keys) => {
                token_metrics().jwks_fetches("ok").increment(1);
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.unwrap_or_default().as_secs_f64();
                token_metrics().jwks_fetched.set(now);
                Some(lock(&self.cache).store(keys, Instant::now()))
            }
            Err(error) => {
                token_metrics().jwks_fetches(error.outcome()).increment(1);
                tracing::warn!(
                    url = %self.url, %error,
                    "jwks.fetch.failed: open the URL from this machine; the keys that are known \
                     count for 24 hours"
                );
                None
            }
        }
    }

    /// Whether the URL has keys.
    ///
    /// # Errors
    /// If they cannot be fetched now.
    #[cfg(feature = "_store")]
    pub(crate) async fn reach(&self) -> Result<(), FetchError> {
        let fetched = timeout(TIMEOUT, self.fetch()).await;
        fetched.unwrap_or(Err(FetchError::Timeout)).map(drop)
    }

    async fn fetch(&self) -> Result<JwkSet, FetchError> {
        let invalid = |error: &dyn std::fmt::Display| FetchError::Invalid(error.to_string());
        // Fetches are rare: no client is kept.
        let connector = awc::Connector::new();
        let connector = match &self.tls {
            Some(tls) => connector.rustls_0_23(Arc::clone(tls)),
            None => connector,
        };
        let client = awc::Client::builder()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .finish();
        let request = client.get(self.url.as_str());
        let sent = request.send().await;
        let mut response = sent.map_err(|error| FetchError::Unreachable(error.to_string()))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(FetchError::Status(status));
        }
        let body = response.body().limit(MAX_BYTES).await;
        let body = body.map_err(|error| invalid(&error))?;
        JwkSet::parse(&body).map_err(|error| invalid(&error))
    }
}

#[cfg(test)]
mod tests;
