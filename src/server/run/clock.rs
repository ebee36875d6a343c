//! Watches the system's clock. Times in messages, tokens and bans come from it, so an operator must hear of a jump.

use std::time::{Duration, Instant, SystemTime};

use metrics::Counter;

use crate::metrics::metrics;

/// The pause between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// A daemon that keeps the time turns the clock more slowly than this.
const JUMP: Duration = Duration::from_secs(2);

/// The system's clock beside the one that only runs ahead.
struct Clock {
    read: fn() -> SystemTime,
    time: SystemTime,
    instant: Instant,
}

/// A jump of the clock.
#[derive(Debug, PartialEq)]
enum Jump {
    Back(Duration),
    Ahead(Duration),
}

impl Clock {
    fn new(read: fn() -> SystemTime) -> Self {
        Self {
            read,
            time: read(),
            instant: Instant::now(),
        }
    }

    /// The jump since the last look.
    fn look(&mut self) -> Option<Jump> {
        let expected = self.time + self.instant.elapsed();
        *self = Self::new(self.read);
        match self.time.duration_since(expected) {
            Ok(ahead) => (ahead > JUMP).then_some(Jump::Ahead(ahead)),
            Err(back) => (back.duration() > JUMP).then(|| Jump::Back(back.duration())),
        }
    }
}

impl Jump {
    fn counter(&self) -> &'static Counter {
        let [back, ahead] = &metrics().clock_jumps;
        match self {
            Self::Back(_) => back,
            Self::Ahead(_) => ahead,
        }
    }

    fn tell(&self) {
        self.counter().increment(1);
        match self {
            Self::Back(by) => tracing::warn!(
                seconds = by.as_secs(),
                "serve.clock.back: messages get earlier times, tokens and bans end later; see \
                 that the machine keeps the time (timedatectl, chronyc tracking)"
            ),
            Self::Ahead(by) => tracing::warn!(
                seconds = by.as_secs(),
                "serve.clock.ahead: tokens and bans end earlier; the machine slept, or its clock \
                 was wrong (timedatectl, chronyc tracking)"
            ),
        }
    }
}

/// Tells of each jump. Never returns.
pub(super) async fn watch() {
    let mut clock = Clock::new(SystemTime::now);
    loop {
        tokio::time::sleep(PERIOD).await;
        if let Some(jump) = clock.look() {
            jump.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_jump_is_told_once_and_in_its_direction() {
        static SECONDS: AtomicU64 = AtomicU64::new(1_000_000);
        let mut clock =
            Clock::new(|| UNIX_EPOCH + Duration::from_secs(SECONDS.load(Ordering::Relaxed)));
        assert_eq!(clock.look(), None);
        SECONDS.fetch_sub(3_600, Ordering::Relaxed);
        assert!(matches!(clock.look(), Some(Jump::Back(by)) if by.as_secs().abs_diff(3_600) < 2));
        assert_eq!(clock.look(), None);
        SECONDS.fetch_add(60, Ordering::Relaxed);
        assert!(matches!(clock.look(), Some(Jump::Ahead(by)) if by.as_secs().abs_diff(60) < 2));
    }
}
