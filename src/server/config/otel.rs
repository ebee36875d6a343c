//! The settings of traces. A build without the feature `otel` has them, too, so that a file of settings is valid for
//! both; its start says that they do nothing.

use clap::Args;
use url::Url;

/// Where spans go, and which are made.
#[derive(Args, Clone, Debug)]
pub(crate) struct OtelConfig {
    /// URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; without it there are
    /// no traces
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otel_endpoint: Option<Url>,

    /// The part of connections that are traced, from 0 to 1, of those whose client says nothing of a trace
    #[arg(long, default_value_t = 0.01, value_name = "RATIO", value_parser = ratio)]
    pub otel_sample: f64,

    /// Name of this server in traces
    #[arg(
        long,
        env = "OTEL_SERVICE_NAME",
        default_value = "slackir",
        value_name = "NAME"
    )]
    pub otel_service_name: String,
}

fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    url.ok_or_else(|| "must be a URL such as http://127.0.0.1:4318".to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0 to 1, such as 0.01".to_owned())
}
