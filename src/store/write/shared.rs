//! [`SharedStore`] of the writer: rows whose place a cluster gives.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use crate::log::{
    ClusterEra, Entering, Era, LoadError, MessageId, OpenedRun, Pending, PlacingStore, Seq,
    SharedLogs, SharedStore, StoreFull, Unplaced,
};
use crate::metrics::Query;
use crate::store::tables::run;
#[cfg(feature = "postgres")]
use crate::store::tables::{era, order};
use crate::store::write::DbWriterHandle;
#[cfg(feature = "postgres")]
use crate::store::write::drafts;
use crate::store::write::writer::Sequence;

impl SharedStore for DbWriterHandle {
    fn reserve(&self, bytes: usize) -> Result<(), StoreFull> {
        if self.has_ended() {
            return Err(self.capacity.refuse());
        }
        self.capacity.reserve(bytes)
    }

    fn release(&self, bytes: usize) {
        self.capacity.release(1, bytes);
    }

    fn put(&self, row: Pending, reserved: usize) {
        // The payload may have grown by its id.
        self.capacity.resize(reserved, row.payload().get().len());
        self.queue(row);
    }

    fn begin_run(
        &self,
        topic: &str,
        within: Option<ClusterEra>,
    ) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        self.open_run(topic, Sequence::Cluster { within })
    }

    fn begun(&self, topic: &str, run: &OpenedRun) {
        self.note_run(topic, MessageId::new(run.epoch, run.head.next()));
    }

    fn known_run(&self, topic: &str) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        self.clone()
            .read(Query::Other, topic.to_owned(), |connection, topic| {
                run::known(connection, topic)
            })
            .boxed()
    }

    #[cfg(feature = "postgres")]
    fn era(&self, known: ClusterEra) -> BoxFuture<'static, Result<Era, LoadError>> {
        self.clone()
            .read(Query::Other, String::new(), move |connection, _| {
                era::present(connection, &known)
            })
            .boxed()
    }

    #[cfg(feature = "postgres")]
    fn enter(
        &self,
        node: Entering,
        known: ClusterEra,
    ) -> BoxFuture<'static, Result<Era, LoadError>> {
        self.clone()
            .read(Query::Other, String::new(), move |connection, _| {
                era::enter(connection, &node, &known)
            })
            .boxed()
    }

    #[cfg(feature = "postgres")]
    fn end_era(
        &self,
        era: ClusterEra,
        patient: bool,
    ) -> BoxFuture<'static, Result<Era, LoadError>> {
        self.clone()
            .read(Query::Other, String::new(), move |connection, _| {
                era::end(connection, &era, patient)
            })
            .boxed()
    }

    /// Without PostgreSQL no servers share a database, and no era ends.
    #[cfg(not(feature = "postgres"))]
    fn era(&self, known: ClusterEra) -> BoxFuture<'static, Result<Era, LoadError>> {
        async move { Ok(known.era) }.boxed()
    }

    #[cfg(not(feature = "postgres"))]
    fn enter(&self, _: Entering, known: ClusterEra) -> BoxFuture<'static, Result<Era, LoadError>> {
        async move { Ok(known.era) }.boxed()
    }

    #[cfg(not(feature = "postgres"))]
    fn end_era(&self, era: ClusterEra, _: bool) -> BoxFuture<'static, Result<Era, LoadError>> {
        async move { Ok(era.era) }.boxed()
    }
}

#[cfg(feature = "postgres")]
impl PlacingStore for DbWriterHandle {
    fn place(&self, draft: Arc<Unplaced>) -> Result<(), StoreFull> {
        if self.has_ended() {
            return Err(self.capacity.refuse());
        }
        drafts::reserve(&draft, &self.capacity)?;
        if self.drafts.put(draft) {
            self.wake_writer();
        }
        Ok(())
    }

    fn withdraw(&self, draft: &Unplaced) -> bool {
        drafts::withdraw(draft, &self.capacity)
    }

    fn open_placing(
        &self,
        topic: &str,
        within: Option<ClusterEra>,
    ) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        self.clone()
            .read(Query::Other, topic.to_owned(), move |connection, topic| {
                order::open(connection, topic, within.as_ref())
            })
            .boxed()
    }

    fn heads(
        &self,
        topics: Vec<String>,
        settled: bool,
    ) -> BoxFuture<'static, Result<Vec<(String, Seq)>, LoadError>> {
        let name = topics.first().cloned().unwrap_or_default();
        self.clone()
            .read(Query::Other, name, move |connection, _| {
                order::heads(connection, &topics, settled)
            })
            .boxed()
    }
}

/// Without PostgreSQL no servers share a database.
#[cfg(not(feature = "postgres"))]
impl PlacingStore for DbWriterHandle {
    fn place(&self, _: Arc<Unplaced>) -> Result<(), StoreFull> {
        Err(self.capacity.refuse())
    }

    fn withdraw(&self, _: &Unplaced) -> bool {
        false
    }

    fn open_placing(
        &self,
        topic: &str,
        _: Option<ClusterEra>,
    ) -> BoxFuture<'static, Result<OpenedRun, LoadError>> {
        self.known_run(topic)
    }

    fn heads(
        &self,
        _: Vec<String>,
        _: bool,
    ) -> BoxFuture<'static, Result<Vec<(String, Seq)>, LoadError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

impl From<&DbWriterHandle> for SharedLogs {
    fn from(writer: &DbWriterHandle) -> Self {
        Self(Arc::new(writer.clone()))
    }
}
