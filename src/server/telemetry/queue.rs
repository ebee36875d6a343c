//! The way of a line to standard error. A thread of its own writes, so a reader that stalls or has
//! gone costs lines and nothing else.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::metrics;

/// Lines that may wait; what comes beyond is lost. A line has 8 kB at most and 200 bytes mostly.
pub(crate) const MAX_LINES: usize = 4_096;

/// How long the end of the process waits for its last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// How often a full terminal is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// The way in. Clones are the same queue.
#[derive(Clone)]
pub(super) struct Queue {
    lines: NonBlocking,
    overflowed: ErrorCounter,
    count: Arc<Count>,
}

/// What became of the lines.
#[derive(Default)]
struct Count {
    /// Given to the queue, which may have refused them.
    queued: AtomicU64,
    /// Written, or lost on the way out.
    done: AtomicU64,
    /// Those that the metric knows of.
    overflowed: AtomicU64,
}

impl Queue {
    /// Starts the thread that writes.
    pub(super) fn start() -> Self {
        let count = Arc::new(Count::default());
        let (lines, worker) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(MAX_LINES)
            .thread_name("slackir-log")
            .finish(Outlet {
                to: io::stderr(),
                count: Arc::clone(&count),
            });
        // Its drop prints to standard output when it cannot flush, and would panic where that is
        // closed. `flush` is ours.
        std::mem::forget::<WorkerGuard>(worker);
        Self {
            overflowed: lines.error_counter(),
            lines,
            count,
        }
    }

    /// Queues a line, or loses it.
    pub(super) fn push(&self, line: &str) {
        // A queue that takes what it can never fails.
        let _ = self.make_writer().write_all(line.as_bytes());
    }

    /// Tells the metric of lines for which there was no room.
    pub(super) fn count_lost(&self) {
        let overflowed = self.overflowed.dropped_lines() as u64;
        let before = self.count.overflowed.swap(overflowed, Ordering::Relaxed);
        let lost = overflowed.saturating_sub(before);
        metrics().log_lines_lost.increment(lost);
    }

    /// Waits until everything is written that was queued before, a second at most.
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

/// The way out.
struct Outlet<W> {
    to: W,
    count: Arc<Count>,
}

impl<W: Write> Write for Outlet<W> {
    /// Takes a whole line. Nobody is told of one that is lost, but the metric.
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

/// As `Write::write_all`, on a stream that another process may have made non-blocking.
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

    /// Fails as a reader that has gone, or takes three bytes at a time from time to time.
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
            let count = Arc::new(Count::default());
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
