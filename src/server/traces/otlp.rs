//! With the feature `otel`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks,
    SpanProcessor,
};
use url::Url;

use super::TracesError;
use crate::metrics::trace_metrics;
use crate::server::config::OtelConfig;
use crate::trace::{self, FinishedSpan, SpanKind, SpanSink};

/// The most spans that wait to be sent.
const QUEUE: usize = 4_096;
/// The most spans of one request.
const BATCH: usize = 512;
/// The longest wait of a span for others.
const DELAY: Duration = Duration::from_secs(1);
/// The longest wait for the collector's answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for the last spans at a shutdown.
const LAST: Duration = Duration::from_secs(5);

/// The traces of a server.
#[derive(Debug)]
pub(crate) struct Traces(Option<Arc<BatchSpanProcessor>>);

impl Traces {
    /// Sends spans from now on, if there is an endpoint.
    ///
    /// # Errors
    /// If the settings cannot be used.
    pub(crate) fn start(config: &OtelConfig) -> Result<Self, TracesError> {
        let Some(endpoint) = &config.otel_endpoint else {
            return Ok(Self(None));
        };
        if endpoint.scheme() != "http" {
            return Err(TracesError::Tls);
        }
        let exporter = OtlpExporter::builder()
            .with_http()
            .with_endpoint(traces_url(endpoint))
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|error| TracesError::Exporter(error.to_string()))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = CountedExporter {
            exporter,
            waiting: Arc::clone(&waiting),
            has_failed: AtomicBool::new(false),
            endpoint: endpoint.clone(),
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let mut processor = BatchSpanProcessor::new(exporter, batches);
        processor.set_resource(&resource(&config.otel_service_name));
        let processor = Arc::new(processor);
        let queue = SpanQueue {
            processor: Arc::clone(&processor),
            waiting,
            scope: InstrumentationScope::builder("slackir")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        };
        trace::install(Some(Box::new(queue)), config.otel_sample);
        Ok(Self(Some(processor)))
    }

    /// Sends the spans that wait, and none after them. Waits at most until `deadline`.
    pub(crate) async fn finish(self, deadline: Instant) {
        let Some(processor) = self.0 else {
            return;
        };
        trace::install(None, 0.0);
        let limit = deadline.saturating_duration_since(Instant::now()).min(LAST);
        // It waits for the thread of the batches.
        let ended =
            actix_rt::task::spawn_blocking(move || processor.shutdown_with_timeout(limit)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(
                %error,
                "serve.traces.cut_short: the last spans are lost; see that the collector answers"
            );
        }
    }
}

/// The path of OTLP below the collector's URL, unless the URL has it.
fn traces_url(endpoint: &Url) -> String {
    const PATH: &str = "/v1/traces";
    let base = endpoint.as_str().trim_end_matches('/');
    match base.ends_with(PATH) {
        true => base.to_owned(),
        false => format!("{base}{PATH}"),
    }
}

/// What all spans have in common.
fn resource(name: &str) -> Resource {
    Resource::builder()
        .with_service_name(name.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Hands spans to the thread of the batches.
struct SpanQueue {
    processor: Arc<BatchSpanProcessor>,
    /// Spans that wait to be sent.
    waiting: Arc<AtomicUsize>,
    scope: InstrumentationScope,
}

impl SpanSink for SpanQueue {
    fn ended(&self, span: FinishedSpan) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            trace_metrics().dropped.increment(1);
            return;
        }
        self.processor.on_end(self.data(span));
    }
}

impl SpanQueue {
    fn data(&self, span: FinishedSpan) -> SpanData {
        let attributes = span.attributes.into_iter();
        let parent = span.parent.unwrap_or_default();
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(span.trace.to_be_bytes()),
                SpanId::from_bytes(span.span.to_be_bytes()),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: SpanId::from_bytes(parent.to_be_bytes()),
            parent_span_is_remote: span.parent_is_remote,
            span_kind: match span.kind {
                SpanKind::Server => OtelKind::Server,
                SpanKind::Client => OtelKind::Client,
                SpanKind::Producer => OtelKind::Producer,
            },
            name: span.name.into(),
            start_time: span.begun,
            end_time: span.ended,
            attributes: attributes
                .map(|(name, text)| KeyValue::new(name, text))
                .collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Counts what becomes of the spans. A collector that is away is logged once, until it is back.
#[derive(Debug)]
struct CountedExporter {
    exporter: OtlpExporter,
    waiting: Arc<AtomicUsize>,
    has_failed: AtomicBool,
    endpoint: Url,
}

impl SpanExporter for CountedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let endpoint = self.endpoint.as_str();
        match &sent {
            Ok(()) => {
                trace_metrics().sent.increment(spans as u64);
                if self.has_failed.swap(false, Ordering::Relaxed) {
                    tracing::info!(endpoint, "serve.traces.reachable");
                }
            }
            Err(error) => {
                trace_metrics().failed.increment(spans as u64);
                if !self.has_failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        endpoint, %error,
                        "serve.traces.unreachable: spans are lost, and nothing else; see that the \
                         collector takes OTLP over HTTP there"
                    );
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_otlp_is_added_once() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("http://c/otlp/", "http://c/otlp/v1/traces"),
            ("http://c/v1/traces", "http://c/v1/traces"),
        ] {
            let endpoint = Url::parse(endpoint).expect("a URL");
            assert_eq!(traces_url(&endpoint), url);
        }
    }
}
