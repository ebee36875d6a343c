//! [`Usage`]: the CPU time and the memory of the server's process.

use std::fs;
use std::time::Duration;

use super::LoadError;

/// What processes have used, and what they have.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    cpu: Duration,
    memory: u64,
}

/// The use of the server for the load.
pub(super) struct ServerUse {
    /// Microseconds of CPU for each join, delivery or reply.
    pub(super) cpu_us_each: f64,
    /// Bytes for each client that has joined.
    pub(super) bytes_each: u64,
}

impl Usage {
    /// Now, all together; `None` if the load is to look at no process.
    ///
    /// # Errors
    /// If there is no such process.
    pub(super) fn of(pids: &[u32]) -> Result<Option<Self>, LoadError> {
        let mut sum = None;
        for pid in pids {
            if let Some(usage) = Self::of_one(*pid)? {
                let Self { cpu, memory } = sum.unwrap_or_default();
                sum = Some(Self {
                    cpu: cpu + usage.cpu,
                    memory: memory + usage.memory,
                });
            }
        }
        Ok(sum)
    }

    fn of_one(pid: u32) -> Result<Option<Self>, LoadError> {
        let read = |file: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}"));
            text.map_err(|source| LoadError::NoProcess { pid, source })
        };
        let (stat, statm) = (read("stat")?, read("statm")?);
        Ok(Self::parse(&stat, &statm))
    }

    fn parse(stat: &str, statm: &str) -> Option<Self> {
        let ticks = rustix::param::clock_ticks_per_second();
        // The second field is a name in brackets, which may contain anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let user: u64 = fields.nth(11)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(Self {
            cpu: Duration::from_millis((user + system) * 1_000 / ticks),
            memory: pages * rustix::param::page_size() as u64,
        })
    }

    /// Microseconds of CPU since `before`, for each of so many.
    pub(super) fn cpu_us_each(self, before: Self, count: u64) -> f64 {
        let cpu = self.cpu.saturating_sub(before.cpu);
        cpu.as_micros() as f64 / count.max(1) as f64
    }

    /// Bytes that have come since `before`, for each of so many.
    pub(super) fn bytes_each(self, before: Self, count: u64) -> u64 {
        self.memory.saturating_sub(before.memory) / count.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_process_are_read_behind_its_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 300 50 0 0 20 0 4 0 9 1000 250";
        let usage = Usage::parse(stat, "1000 250 30 4 0 60 0\n").expect("sound");
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(usage.cpu, Duration::from_millis(350_000 / ticks));
        assert_eq!(usage.memory, 250 * rustix::param::page_size() as u64);
        assert!(Usage::parse("", "").is_none());
    }
}
