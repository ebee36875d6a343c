//! The readiness for `/readyz`.

use super::lonely::is_lonely;
use super::service::Leaving;
use crate::pubsub::Cluster;
use crate::server::admin::Readiness;
use crate::store::{DbWriterHandle, OtherServers, StorageState};

/// Whether messages are accepted. Another server on the database does not make this one unready: a load
/// balancer would remove both.
pub(super) fn readiness(
    writer: Option<DbWriterHandle>,
    others: OtherServers,
    cluster: Option<Cluster>,
    leaving: Leaving,
) -> impl Fn() -> Readiness + Clone + Send + Sync {
    move || {
        if leaving.has_begun() {
            return Readiness::NotReady("shutting down".to_owned());
        }
        let away = cluster
            .as_ref()
            .filter(|cluster| cluster.away_since().is_some());
        let mut news = Vec::new();
        if let Some(cluster) = away {
            let bus = cluster.bus_name();
            if is_lonely(cluster, &others) {
                return Readiness::NotReady(format!(
                    "{bus} is away for this node, and other nodes reach it"
                ));
            }
            let what = if cluster.waits_for_bus() {
                "messages that are saved wait, then are refused"
            } else {
                "members on other nodes get saved messages a second late"
            };
            news.push(format!("{bus} is away: {what}"));
        }
        let Some(writer) = &writer else {
            return of(&news);
        };
        let waiting = writer.unsaved();
        if let Some(fault) = writer.fault() {
            return Readiness::NotReady(format!("{fault}; {waiting} messages wait"));
        }
        match writer.state() {
            StorageState::Available => {}
            StorageState::Waiting => news.push(format!(
                "the database cannot be used; {waiting} messages wait for the database"
            )),
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
        of(&news)
    }
}

fn of(news: &[String]) -> Readiness {
    if news.is_empty() {
        Readiness::Ready
    } else {
        Readiness::Impaired(news.join("; "))
    }
}
