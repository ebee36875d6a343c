//! The readiness for `/readyz`.

use super::service::Leaving;
use crate::server::admin::Readiness;
use crate::store::{DbWriterHandle, OtherServers, StorageState};

/// Whether messages are accepted. Another server on the database does not make this one unready: a load
/// balancer would remove both.
pub(super) fn readiness(
    writer: Option<DbWriterHandle>,
    others: OtherServers,
    leaving: Leaving,
) -> impl Fn() -> Readiness + Clone + Send + Sync {
    move || {
        if leaving.has_begun() {
            return Readiness::NotReady("shutting down".to_owned());
        }
        let Some(writer) = &writer else {
            return Readiness::Ready;
        };
        let waiting = writer.unsaved();
        if let Some(fault) = writer.fault() {
            return Readiness::NotReady(format!("{fault}; {waiting} messages wait"));
        }
        let mut news = Vec::new();
        match writer.state() {
            StorageState::Available => {}
            StorageState::Waiting => news.push(format!("{waiting} messages wait for the database")),
            StorageState::Refusing => {
                return Readiness::NotReady(format!(
                    "storage unavailable; {waiting} messages wait for the database"
                ));
            }
        }
        let others = others.names();
        if !others.is_empty() {
            news.push(format!(
                "another server uses the database, and neither sends the other's messages: {}",
                others.join("; ")
            ));
        }
        if news.is_empty() {
            Readiness::Ready
        } else {
            Readiness::Impaired(news.join("; "))
        }
    }
}
