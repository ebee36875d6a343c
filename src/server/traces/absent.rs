//! Without the feature `otel`.

use std::time::Instant;

use super::TracesError;
use crate::server::config::OtelConfig;

/// No traces.
#[derive(Debug)]
pub(crate) struct Traces;

impl Traces {
    /// Says that the settings do nothing, if there are some.
    ///
    /// # Errors
    /// Never.
    pub(crate) fn start(config: &OtelConfig) -> Result<Self, TracesError> {
        if config.otel_endpoint.is_some() {
            tracing::warn!(
                "serve.traces.absent: otel_endpoint is set, and this program was built without the feature otel"
            );
        }
        Ok(Self)
    }

    pub(crate) async fn finish(self, _: Instant) {}
}
