//! [`Queue`]: passes lines to a thread that writes them to standard error. If standard error is slow or closed,
//! lines are lost, and nothing else happens.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::metrics;

/// The most lines that wait; further ones are lost. A line has at most 8 kB, and mostly 200 bytes.
pub(crate) const MAX_LINES: usize = 4_096;

/// How long [`Queue::flush`] waits.
const FLUSH: Duration = Duration::from_secs(1);

/// The pause before a write to a full terminal is repeated.
const RETRY: Duration = Duration::from_millis(10);

/// The sending half; clones share one queue. The other half is [`Outlet`], on the thread.
#[derive(Clone)]
pub(super) struct Queue {
    lines: NonBlocking,
    overflowed: ErrorCounter,
    count: Arc<LineCounts>,
}

/// Numbers of lines.
#[derive(Default)]
struct LineCounts {
    /// Passed to the queue, which may have refused them.
    queued: AtomicU64,
    /// Written, or lost in writing.
    done: AtomicU64,
    /// Refused by the queue and added to the metric.
    overflowed: AtomicU64,
}

impl Queue {
    /// Starts the thread.
    pub(super) fn start() -> Self {
        let count = Arc::new(LineCounts::default());
        let (lines, worker) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(MAX_LINES)
            .thread_name("slackir-log")
            .finish(Outlet {
                to: io::stderr(),
                count: Arc::clone(&count),
            });
        // The guard's drop prints to standard output if it cannot flush, and would panic if that is closed.
        // `flush` takes its place.
        std::mem::forget::<WorkerGuard>(worker);
        Self {
            overflowed: lines.error_counter(),
            lines,
            count,
        }
    }

    /// Queues a line; it is lost if the queue is full.
    pub(super) fn push(&self, line: &str) {
        // A lossy queue never fails.
        let _ = self.make_writer().write_all(line.as_bytes());
    }

    /// Adds the lines that the queue has refused to the metric.
    pub(super) fn count_lost(&self) {
        let overflowed = self.overflowed.dropped_lines() as u64;
        let before = self.count.overflowed.swap(overflowed, Ordering::Relaxed);
        let lost = overflowed.saturating_sub(before);
        metrics().log_lines_lost.increment(lost);
    }

    /// Waits until the lines queued so far are written, at most a second.
    pub(super) fn flush(&self) {
        let end = Instant::now() + FLUSH;
        let queued = self.count.queued.load(Ordering::Relaxed);
        let done = || {
            let refused = self.overflowed.dropped_lines() as u64;
            self.count.done.load(Ordering::Acquire) + refused >= queued
        };
        while !done() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = NonBlocking;

    /// One line is one write.
    fn make_writer(&'a self) -> NonBlocking {
        self.count.queued.fetch_add(1, Ordering::Relaxed);
        self.lines.clone()
    }
}

/// Writes the lines of the queue, on its thread.
struct Outlet<W> {
    to: W,
    count: Arc<LineCounts>,
}

impl<W: Write> Write for Outlet<W> {
    /// Writes a whole line. A lost line is no error; the metric counts it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if write_all(&mut self.to, line).is_err() {
            metrics().log_lines_lost.increment(1);
        }
        self.count.done.fetch_add(1, Ordering::Release);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As `Write::write_all`, for a stream that another process may have made non-blocking.
fn write_all(to: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe without a reader, or one that takes three bytes at every third call.
    struct Pipe {
        gone: bool,
        calls: usize,
        got: Vec<u8>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls % 3 {
                _ if self.gone => Err(ErrorKind::BrokenPipe.into()),
                0 => Err(ErrorKind::WouldBlock.into()),
                1 => Err(ErrorKind::Interrupted.into()),
                _ => {
                    let taken = bytes.len().min(3);
                    self.got.extend_from_slice(&bytes[..taken]);
                    Ok(taken)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_written_whole_or_lost_without_an_error() {
        for (gone, got) in [(false, "a line\n"), (true, "")] {
            let to = Pipe {
                gone,
                calls: 0,
                got: Vec::new(),
            };
            let count = Arc::new(LineCounts::default());
            let mut outlet = Outlet {
                to,
                count: Arc::clone(&count),
            };
            assert_eq!(outlet.write(b"a line\n").ok(), Some(7));
            assert_eq!(String::from_utf8_lossy(&outlet.to.got), got);
            assert_eq!(count.done.load(Ordering::Relaxed), 1);
        }
    }
}
