//! Rows a second that the writer commits, for SQLite and, with SLACKIR_TEST_POSTGRES, PostgreSQL:
//! `scripts/postgres run cargo bench --bench writer --all-features`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slackir::log::LogRule;
use slackir::pubsub::{Draft, PubSub};
use slackir::store::{DbWriter, DbWriterHandle, Store, StoreOptions, WriterOptions};

const ROWS: u32 = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// As many rows as the queue takes.
    Full,
    /// The same, with a client_ref each.
    FullWithRefs,
    /// Each row is committed before the next is published.
    OneByOne,
}

#[actix_web::main]
async fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for strict in [false, true] {
        let file = dir.path().join(format!("{strict}.db"));
        measure(&format!("sqlite://{}", file.display()), strict).await;
    }
    #[cfg(feature = "postgres")]
    if let Ok(url) = std::env::var("SLACKIR_TEST_POSTGRES") {
        measure(&url, true).await;
    }
}

async fn measure(url: &str, strict: bool) {
    let (store, _) = Store::open(url, StoreOptions::default()).expect("a database");
    let options = WriterOptions::default().strict(strict);
    let writer = DbWriter::start_on_own_thread(store, options).expect("a connection");
    let scheme = url.split(':').next().unwrap_or_default();
    for load in [Load::Full, Load::FullWithRefs, Load::OneByOne] {
        let rows = if load == Load::OneByOne {
            ROWS / 50
        } else {
            ROWS
        };
        let took = run(&writer, load, rows).await;
        let rate = f64::from(rows) / took.as_secs_f64();
        println!("{scheme} strict={strict} {load:?}: {rate:.0} rows/s ({rows} rows in {took:?})");
    }
}

async fn run(writer: &DbWriterHandle, load: Load, rows: u32) -> Duration {
    let rule = LogRule::new("*", &["shout"], 50, Arc::new(writer.clone()));
    let pubsub = PubSub::with_logs(vec![rule]);
    let topic = format!("{load:?}");
    let mut waits = Vec::new();
    let started = Instant::now();
    for n in 0..rows {
        let payload = serde_json::json!({"name": "ada", "message": format!("message number {n}")});
        let mut draft = Draft::new("shout", payload);
        if load == Load::FullWithRefs {
            draft = draft.client_ref(format!("client-{n}"));
        }
        if load == Load::OneByOne {
            draft = draft.with_receipt();
        }
        let published = pubsub.publish(&topic, &draft).await.expect("room for it");
        match published.receipt {
            Some(receipt) if load == Load::OneByOne => {
                receipt.committed().await.expect("stored");
            }
            receipt => waits.extend(receipt),
        }
    }
    assert_eq!(writer.flush(Duration::from_secs(60)).await, 0);
    started.elapsed()
}
