//! The Prometheus recorder of the process.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::metrics::{BUCKETS, describe};

/// How often what histograms have recorded is summed up.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process has a metrics recorder already.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ExporterError(#[from] BuildError);

/// Renders what the metrics are. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Exporter(PrometheusHandle);

impl Exporter {
    /// All metrics in Prometheus's text format.
    pub(crate) fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps the recorder small where nobody reads its metrics: histograms keep each value until they
    /// are summed up. It runs as long as it is awaited.
    pub(crate) async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Installs the recorder of this process. [`Exporter::upkeep`] must run as long as it is there.
pub(crate) fn install() -> Result<Exporter, ExporterError> {
    let builder =
        BUCKETS
            .iter()
            .try_fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
                builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
            })?;
    let exporter = Exporter(builder.install_recorder()?);
    describe();
    Ok(exporter)
}
