//! Log lines: standard error, one line for each event, as text or as JSON. docs/LOGGING.md lists
//! them.
//!
//! Three parts: `line` writes an event so that no value spans lines or runs on, `queue` takes
//! lines to standard error without ever making a caller wait, and `repeats` leaves out what one
//! kind of line says too often. What is lost on the way is counted.

mod line;
mod panics;
mod queue;
mod repeats;

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
use crate::server::config::LogFormat;

/// What should be logged is neither a level nor a list of `tracing` directives.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InvalidFilter(#[from] ParseError);

/// What writes the process's log lines. Drop it last: it waits up to a second for what is queued.
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    format: LogFormat,
    queue: Queue,
    repeats: Arc<Repeats>,
}

impl Logging {
    /// Sends the process's log lines to standard error, and what a panic says with them. A program
    /// that has set a subscriber of its own keeps that.
    ///
    /// # Errors
    /// When the filter cannot be read.
    pub fn init(filter: &str, format: LogFormat) -> Result<Self, InvalidFilter> {
        let (filter, handle) = reload::Layer::new(parse(filter)?);
        let queue = Queue::start();
        let repeats = Arc::new(Repeats::default());
        let lines = tracing_subscriber::fmt::layer()
            .event_format(OneLine::new(format))
            .with_ansi(format == LogFormat::Text && std::io::stderr().is_terminal())
            .with_writer(queue.clone())
            // It would say so on standard error, and panic where that is gone.
            .log_internal_errors(false);
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(repeats::Layer::new(&repeats))
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
        })
    }

    /// Changes what is logged from now on.
    ///
    /// # Errors
    /// When the filter cannot be read; then nothing changes.
    pub fn set_filter(&self, filter: &str) -> Result<(), InvalidFilter> {
        let filter = parse(filter)?;
        // It fails where the program has a subscriber of its own, whose filter is its own as well.
        let _ = self.filter.reload(filter);
        Ok(())
    }

    /// Says why the process ends, in the form of its other lines, whatever the filter says.
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

/// What else is logged of the libraries, where the filter does not speak of them. What a client does
/// wrong is no error of the server, as actix-http says; and actix-server tells of each worker.
const LIBRARIES: &str =
    "actix_http::h1=off,actix_http::h2=off,actix_http::ws=off,actix_server=warn";

fn parse(filter: &str) -> Result<EnvFilter, InvalidFilter> {
    let own = EnvFilter::try_new(filter)?;
    // Whoever asks for everything gets it.
    if filter.split(',').any(|part| is_verbose(part.trim())) {
        return Ok(own);
    }
    // Of two directives with one target the later counts.
    Ok(EnvFilter::try_new(format!("{LIBRARIES},{filter}"))?)
}

/// Whether it is a level below `info`, for all targets.
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
