//! The system: its settings, its check, its trouble.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_rt::task::spawn_blocking;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Dashboard;
use super::requests::Answer;
use super::rooms::PATIENCE;
use crate::metrics::name;
use crate::pubsub::Cluster;
use crate::server::certificates::Certificates;
use crate::server::check::{self, Finding, Level};
use crate::server::config::{ServeConfig, SettingInForce, SettingSource, Switch};
use crate::server::telemetry::TroubleEntry;
use crate::store::{self, DatabaseCondition};

/// A secret that is set.
const REDACTED: &str = "(set)";

impl Dashboard {
    pub(super) async fn system(&self) -> Answer {
        let services = &self.0.services;
        let shown = self.clone();
        let database = spawn_blocking(move || database(&shown.0.services.config)).await;
        let database = database.map_err(|_| "The server is shutting down.".to_owned())?;
        let certificates = services.certificates.as_ref();
        let certificate = certificates.and_then(Certificates::validity);
        let settings = self.settings();
        let settings: Vec<_> = settings.in_force.iter().map(setting).collect();
        Ok(json!({
            "settings": settings,
            "database": database,
            "migrations": self.migrations().await,
            "certificate_expires": certificate.map(|validity| validity.ends),
            "jwks_age": jwks_age(&Metrics(services.metrics.render())),
            "other_servers": services.others.names(),
            "cluster": services.cluster.as_ref().map(cluster),
        }))
    }

    /// The migrations that the database lacks, and those of a later version that it has. Null without a database, and while
    /// it does not answer.
    async fn migrations(&self) -> Value {
        let Some(writer) = &self.0.services.writer else {
            return Value::Null;
        };
        let condition = timeout(PATIENCE, DatabaseCondition::of_running(writer)).await;
        match condition.ok().flatten() {
            Some(DatabaseCondition::Current) => json!({ "lacking": 0, "later": 0 }),
            Some(DatabaseCondition::Older(lacking)) => json!({ "lacking": lacking, "later": 0 }),
            Some(DatabaseCondition::Newer(later)) => json!({ "lacking": 0, "later": later }),
            Some(DatabaseCondition::Missing(_)) | None => Value::Null,
        }
    }

    /// The check of the settings that were read last: whether a restart with them would succeed.
    pub(super) async fn check(&self) -> Answer {
        let settings = self.settings();
        let findings = spawn_blocking(move || check::check(&settings.read)).await;
        let findings = findings.map_err(|_| "The server is shutting down.".to_owned())?;
        let lines = findings
            .iter()
            .filter(|finding| !check::PORTS.contains(&finding.name));
        let lines: Vec<_> = lines.map(line).collect();
        Ok(json!({ "lines": lines }))
    }

    pub(super) fn trouble(&self) -> Value {
        let services = &self.0.services;
        let metrics = Metrics(services.metrics.render());
        let entries: Vec<_> = services.trouble.entries().iter().map(entry).collect();
        json!({
            "entries": entries,
            "slow_consumers": metrics.value(name::SLOW_CONSUMERS),
            "limited": metrics.by_label(name::LIMITED),
            "refused": refused(metrics.by_label(name::REFUSED)),
            "error_replies": some(metrics.by_label(name::ERROR_REPLIES)),
        })
    }
}

/// The nodes of the cluster, and whether this one reaches what they talk over.
fn cluster(cluster: &Cluster) -> Value {
    let nodes = cluster.nodes().into_iter();
    let nodes = nodes
        .map(|node| json!({ "name": node.name, "leaving": node.leaving, "is_this": node.is_this }));
    json!({ "bus": cluster.bus_name(), "is_up": cluster.is_up(), "nodes": nodes.collect::<Vec<_>>() })
}

/// Seconds since an issuer's keys were last fetched; `None` if they never were.
fn jwks_age(metrics: &Metrics) -> Option<u64> {
    let fetched = metrics.value(name::JWKS_FETCHED);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    (fetched > 0).then(|| now.unwrap_or_default().as_secs().saturating_sub(fetched))
}

/// The metrics in Prometheus's text format.
pub(super) struct Metrics(pub(super) String);

impl Metrics {
    /// The value of a metric without labels; 0 if there is none.
    pub(super) fn value(&self, name: &str) -> u64 {
        let mut lines = self.0.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.map_or(0, number)
    }

    /// The values of a metric by its one label.
    pub(super) fn by_label(&self, name: &str) -> Map<String, Value> {
        let values = self.0.lines().filter_map(|line| {
            let (label, value) = line
                .strip_prefix(name)?
                .strip_prefix('{')?
                .split_once("\"} ")?;
            let (_, label) = label.split_once("=\"")?;
            Some((label.to_owned(), number(value).into()))
        });
        values.collect()
    }
}

/// Those that there are.
fn some(by_label: Map<String, Value>) -> Map<String, Value> {
    let some = by_label.into_iter().filter(|(_, count)| *count != 0);
    some.collect()
}

/// The refused connections by reason: those of the limits, and the others that there are.
fn refused(by_reason: Map<String, Value>) -> Map<String, Value> {
    const LIMITS: [(&str, &str); 3] = [
        ("full", "full"),
        ("ip_limit", "address"),
        ("files", "files"),
    ];
    let named = by_reason.into_iter().filter_map(|(reason, count)| {
        match LIMITS.iter().find(|(limit, _)| *limit == reason) {
            Some((_, shown)) => Some(((*shown).to_owned(), count)),
            None => (count != 0).then_some((reason, count)),
        }
    });
    named.collect()
}

fn number(text: &str) -> u64 {
    let number: f64 = text.trim().parse().unwrap_or_default();
    number.max(0.0) as u64
}

fn entry(entry: &TroubleEntry) -> Value {
    let at = entry.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "at": u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        "level": entry.level.as_str(),
        "event": entry.event,
        "advice": entry.advice,
        "fields": entry.fields,
        "count": entry.count,
    })
}

fn line(finding: &Finding) -> Value {
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    };
    json!({ "level": level, "name": finding.name, "text": finding.text })
}

fn setting(setting: &SettingInForce) -> Value {
    let value = setting.value.as_deref();
    let value = match (&*setting.name, setting.is_secret) {
        ("database_url", _) => value.map(store::redacted),
        (_, true) => value.map(|_| REDACTED.to_owned()),
        (_, false) => value.map(str::to_owned),
    };
    let source = match &setting.source {
        SettingSource::Default => "default",
        SettingSource::File { .. } | SettingSource::SecretFile(_) => "file",
        SettingSource::Environment(_) => "environment",
        SettingSource::Flag(_) => "flag",
    };
    json!({ "name": setting.name, "value": value, "source": source })
}

/// The database and the sizes of its files. Only SQLite has files here.
fn database(config: &ServeConfig) -> Value {
    if config.persist == Switch::Off {
        return json!({ "url": "none", "bytes": null, "wal_bytes": null });
    }
    let url = &config.database.database_url;
    let size = |name: &str| {
        let mut path = store::sqlite_file(url)?.into_os_string();
        path.push(name);
        Some(fs::metadata(path).ok()?.len())
    };
    json!({ "url": store::redacted(url), "bytes": size(""), "wal_bytes": size("-wal") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_from_their_text() {
        let text =
            "# TYPE a counter\na_total 7\na_total_x 9\nl{limit=\"joins\"} 3\nl{limit=\"api\"} 0\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.value("a_total"), 7);
        assert_eq!(metrics.value("b_total"), 0);
        let limits = Value::Object(metrics.by_label("l"));
        assert_eq!(limits, json!({ "joins": 3, "api": 0 }));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let of = |name: &str, is_secret| {
            setting(&SettingInForce {
                name: name.to_owned(),
                value: Some("postgres://ada:secret@host/db".to_owned()),
                is_number: false,
                is_secret,
                source: SettingSource::Default,
            })
        };
        for shown in [of("database_url", true), of("api_token", true)] {
            assert!(!shown.to_string().contains("secret@"), "{shown}");
        }
        assert_eq!(of("host", false)["value"], "postgres://ada:secret@host/db");
    }
}
