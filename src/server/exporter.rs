//! The Prometheus recorder of the process.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use crate::metrics::{BUCKETS, describe};

/// How often the recorded values of histograms are summed up.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process has a metrics recorder already.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ExporterError(BuildError);

/// Renders the metrics. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Exporter(PrometheusHandle, Collector);

impl Exporter {
    /// All metrics in Prometheus's text format.
    pub(crate) fn render(&self) -> String {
        self.1.collect();
        self.0.render()
    }

    /// Bounds the recorder's memory: a histogram keeps each value until it is summed up, which a scrape of
    /// the metrics does too. Never returns.
    pub(crate) async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Installs the recorder of this process. The caller must keep [`Exporter::upkeep`] running.
pub(crate) fn install() -> Result<Exporter, ExporterError> {
    let builder = BUCKETS
        .iter()
        .try_fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
            builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
        })
        .map_err(ExporterError)?;
    let exporter = Exporter(
        builder.install_recorder().map_err(ExporterError)?,
        Collector::default(),
    );
    exporter.1.describe();
    describe();
    Ok(exporter)
}
