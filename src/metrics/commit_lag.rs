//! The lag of the last transactions, for those who look now: a histogram answers for the whole life of the process.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// How far back [`commit_lag`] looks.
const WINDOW: Duration = Duration::from_secs(10);
/// The most transactions that are remembered.
const MAX_BATCHES: usize = 4_096;

/// When transactions ended, and the lag of their oldest rows.
static RECENT: Mutex<VecDeque<(Instant, Duration)>> = Mutex::new(VecDeque::new());

/// Notes a transaction, whose oldest row was published so long ago.
pub(crate) fn committed(lag: Duration) {
    let now = Instant::now();
    let mut recent = lock(&RECENT);
    while recent.len() >= MAX_BATCHES || recent.front().is_some_and(|(at, _)| now - *at > WINDOW) {
        recent.pop_front();
    }
    recent.push_back((now, lag));
}

/// The lag that 99 of 100 transactions of the last 10 seconds did not exceed; `None` if there was none.
pub(crate) fn commit_lag() -> Option<Duration> {
    let now = Instant::now();
    let mut lags: Vec<_> = {
        let recent = lock(&RECENT);
        let recent = recent.iter().filter(|(at, _)| now - *at <= WINDOW);
        recent.map(|(_, lag)| *lag).collect()
    };
    lags.sort_unstable();
    let last = lags.len().checked_sub(1)?;
    lags.get(last * 99 / 100).copied()
}
