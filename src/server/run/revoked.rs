//! [`RevokedTokens`]: reads the revocations at the start, and forgets those that have ended.

use std::time::{Duration, SystemTime};

use crate::endpoint::Endpoint;
use crate::revocation::Revocations;
use crate::store::{DbWriterHandle, StoredRevocations};

/// The wait between two looks for revocations that have ended.
const PERIOD: Duration = Duration::from_secs(60);
/// The wait after a failed read.
const RETRY: Duration = Duration::from_secs(5);

/// The revocations of a server, in the database and in memory.
pub(super) struct RevokedTokens {
    stored: StoredRevocations,
    list: Revocations,
    is_loaded: bool,
    /// The database may have revocations that have ended.
    is_due: bool,
}

impl RevokedTokens {
    /// Reads the revocations into this list. If the database is unreachable, [`keep`](Self::keep) reads them later;
    /// the server serves meanwhile, as it does without the messages of the database.
    pub(super) async fn load(writer: &DbWriterHandle, list: &Revocations) -> Self {
        let mut revoked = Self {
            stored: StoredRevocations::new(writer),
            list: list.clone(),
            is_loaded: false,
            is_due: true,
        };
        revoked.read().await;
        revoked
    }

    async fn read(&mut self) {
        match self.stored.load(SystemTime::now()).await {
            Ok(all) => {
                for revocation in &all {
                    self.list.insert(revocation);
                }
                self.is_loaded = true;
            }
            Err(error) => tracing::warn!(%error, "serve.revocations.unread"),
        }
    }

    /// Reads the revocations if that has failed, and forgets those that have ended. Never returns.
    pub(super) async fn keep(mut self, endpoint: Endpoint) {
        loop {
            if self.is_loaded {
                self.forget_ended().await;
                tokio::time::sleep(PERIOD).await;
            } else {
                tokio::time::sleep(RETRY).await;
                self.read().await;
                if self.is_loaded {
                    // Clients may have connected with tokens that are revoked.
                    endpoint.check_permits().await;
                }
            }
        }
    }

    async fn forget_ended(&mut self) {
        let now = SystemTime::now();
        self.is_due |= self.list.forget_ended(now) > 0;
        if self.is_due {
            match self.stored.prune(now).await {
                Ok(()) => self.is_due = false,
                // The writer reports an unreachable database.
                Err(error) => tracing::debug!(%error, "serve.revocations.not_pruned"),
            }
        }
    }
}
