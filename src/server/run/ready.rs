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
        let bus = cluster.as_ref().and_then(Cluster::away_since);
        if cluster
            .as_ref()
            .is_some_and(|cluster| is_lonely(cluster, &others))
        {
            return Readiness::NotReady(
                "Redis is away for this node, and other nodes reach it".to_owned(),
            );
        }
        let mut news = Vec::new();
        if bus.is_some() {
            let news_of_bus = if cluster.as_ref().is_some_and(Cluster::waits_for_bus) {
                "Redis is away: messages that are saved wait, then are refused"
            } else {
                "Redis is away: members on other nodes get saved messages a second late"
            };
            news.push(news_of_bus.to_owned());
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
