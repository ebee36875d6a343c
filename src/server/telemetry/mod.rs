//! Log lines on standard error: one line for each event, as text or as JSON. docs/LOGGING.md lists the events.
//!
//! `line` formats an event as one line with short values, `queue` writes lines without making a caller wait,
//! `repeats` limits how often one kind of line is written, and `trouble` remembers warnings and errors for the
//! dashboard. Lost lines are counted.

mod line;
mod panics;
mod queue;
mod repeats;
mod trouble;

use std::fmt::{self, Display};
use std::io::IsTerminal;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use self::line::OneLine;
pub(crate) use self::line::fatal;
use self::queue::Queue;
#[cfg(feature = "_store")]
pub(crate) use self::repeats::AUDIT;
use self::repeats::Repeats;
#[cfg(not(feature = "_store"))]
use self::trouble::Trouble;
#[cfg(feature = "_store")]
pub(crate) use self::trouble::{Trouble, TroubleEntry};
use crate::server::config::LogFormat;

/// The filter is neither a level nor a list of `tracing` directives.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InvalidFilter(ParseError);

/// Writes the log lines of the process. Drop it last: the drop waits up to a second for queued lines.
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    format: LogFormat,
    queue: Queue,
    repeats: Arc<Repeats>,
    trouble: Arc<Trouble>,
}

impl Logging {
    /// Sends the log lines of the process, panics included, to standard error. If the program has already
    /// set a `tracing` subscriber, that subscriber stays.
    ///
    /// # Errors
    /// If the filter is not valid.
    pub fn init(filter: &str, format: LogFormat) -> Result<Self, InvalidFilter> {
        let (filter, handle) = reload::Layer::new(parse(filter)?);
        let queue = Queue::start();
        let repeats = Arc::new(Repeats::default());
        let trouble = Arc::new(Trouble::default());
        let lines = tracing_subscriber::fmt::layer()
            .event_format(OneLine::new(format))
            .with_ansi(format == LogFormat::Text && std::io::stderr().is_terminal())
            .with_writer(queue.clone())
            // It would print to standard error, and panic if that is closed.
            .log_internal_errors(false);
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(repeats::Layer::new(&repeats))
            .with(trouble::Layer::new(&trouble))
            .with(lines);
        if subscriber.try_init().is_ok() {
            panics::log();
            repeats::summarize(&repeats, &queue);
        }
        Ok(Self {
            filter: handle,
            format,
            queue,
            repeats,
            trouble,
        })
    }

    /// Replaces the filter.
    ///
    /// # Errors
    /// If the filter is not valid; then nothing changes.
    pub fn set_filter(&self, filter: &str) -> Result<(), InvalidFilter> {
        let filter = parse(filter)?;
        // It fails if the program has its own subscriber, with its own filter.
        let _ = self.filter.reload(filter);
        Ok(())
    }

    /// The warnings and errors.
    #[cfg(feature = "_store")]
    pub(crate) fn trouble(&self) -> &Arc<Trouble> {
        &self.trouble
    }

    /// Writes the error that ends the process, in the format of the other lines and past the filter.
    pub fn fatal(&self, error: &dyn Display) {
        self.queue.push(&fatal(self.format, error));
    }
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.repeats.sum_up();
        self.queue.flush();
    }
}

/// The filter for libraries that the setting does not name. actix-http logs a client's mistakes as errors, and
/// actix-server logs a line for each worker.
const LIBRARIES: &str =
    "actix_http::h1=off,actix_http::h2=off,actix_http::ws=off,actix_server=warn";

fn parse(filter: &str) -> Result<EnvFilter, InvalidFilter> {
    let own = EnvFilter::try_new(filter).map_err(InvalidFilter)?;
    // `debug` or `trace` for all targets includes the libraries.
    if filter.split(',').any(|part| is_verbose(part.trim())) {
        return Ok(own);
    }
    // Of two directives with the same target the later one counts.
    EnvFilter::try_new(format!("{LIBRARIES},{filter}")).map_err(InvalidFilter)
}

/// Whether the directive is `debug` or `trace`, for all targets.
fn is_verbose(directive: &str) -> bool {
    directive
        .parse::<LevelFilter>()
        .is_ok_and(|level| level > LevelFilter::INFO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_do_to_the_http_parser_is_shown_to_those_who_ask() {
        for (filter, shown) in [
            ("info", false),
            ("slackir=debug", false),
            ("debug", true),
            ("warn,actix_http::h1=error", true),
        ] {
            let filter = parse(filter).expect("sound").to_string();
            assert_eq!(!filter.contains("actix_http::h1=off"), shown, "{filter}");
        }
    }
}
