//! Stub.
use std::time::Duration;
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, dead_code, reason = "stub")]
pub(crate) struct Totals {
    pub(crate) joins: u64,
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    pub(crate) dropped: u64,
}
pub(crate) fn totals() -> Totals {
    Totals::default()
}
pub(crate) fn commit_lag() -> Option<Duration> {
    None
}
