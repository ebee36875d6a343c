//! [`Backoff`]: how long to wait before connecting again.

use std::time::{Duration, Instant};

/// The delays between attempts to connect: each twice the one before, half of it random.
#[derive(Debug)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `least` and ends with `most`.
    pub(crate) fn new(least: Duration, most: Duration) -> Self {
        let next = least;
        Self { least, most, next }
    }

    /// The next delay.
    pub(crate) fn delay(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(self.most);
        // Without random numbers all nodes wait equally long, which is no failure.
        let share = getrandom::u32().unwrap_or_default();
        half + half.mul_f64(f64::from(share) / f64::from(u32::MAX))
    }

    /// The connection, open since `since`, is lost. If it has lasted, the delays begin anew.
    pub(crate) fn lost(&mut self, since: Instant) {
        if since.elapsed() > self.most {
            self.next = self.least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(2000));
        for most in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let delay = backoff.delay();
            assert!(
                delay >= ms(most) / 2 && delay <= ms(most),
                "{delay:?} of {most}"
            );
        }
        backoff.lost(Instant::now());
        assert!(backoff.delay() >= ms(1000));
    }
}
