//! [`ProcessUse`]: what the process takes of the machine, from `/proc/self`. On another system all of it is 0.

use std::fs;
use std::time::{Duration, Instant};

/// Ticks of a second in `/proc/self/stat`: Linux shows 100 on every machine (`USER_HZ`).
const TICKS: u64 = 100;
/// The open files are counted once in so many readings, because counting 100,000 of them takes 20 ms.
const FILES_EVERY: u32 = 10;

/// One reading. It reads files, so it needs a thread that may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessUse {
    at: Instant,
    cpu_time: Duration,
    readings: u32,
    pub(super) memory_bytes: u64,
    /// The part of one core, since the reading before.
    pub(super) cpu: f64,
    pub(super) open_files: usize,
}

impl ProcessUse {
    /// A reading after this one.
    pub(super) fn read(before: Option<Self>) -> Self {
        let at = Instant::now();
        let cpu_time = cpu_time().unwrap_or_default();
        let cpu = before.map_or(0.0, |before| {
            let used = cpu_time.saturating_sub(before.cpu_time);
            used.as_secs_f64() / (at - before.at).as_secs_f64().max(0.001)
        });
        let readings = before.map_or(0, |before| before.readings.wrapping_add(1));
        let counted = before.filter(|_| !readings.is_multiple_of(FILES_EVERY));
        Self {
            at,
            cpu_time,
            readings,
            memory_bytes: memory_bytes().unwrap_or_default(),
            cpu,
            open_files: counted.map_or_else(open_files, |before| before.open_files),
        }
    }
}

/// The limit of open files.
pub(super) fn max_files() -> u64 {
    rlimit::Resource::NOFILE.get_soft().unwrap_or_default()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured() {
        let first = ProcessUse::read(None);
        let busy = Instant::now();
        while busy.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let second = ProcessUse::read(Some(first));
        assert!(second.memory_bytes > 1_000_000, "{second:?}");
        assert!(second.cpu > 0.1, "{second:?}");
        assert!(second.open_files > 2 && max_files() > 2, "{second:?}");
    }
}
