//! [`KeptSanctions`]: reads the revocations, bans and slow modes at the start, and forgets those that have ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::ban::Bans;
use crate::endpoint::Endpoint;
use crate::revocation::Revocations;
use crate::slow_mode::SlowModes;
use crate::store::{DbWriterHandle, StoredBans, StoredRevocations, StoredSlowModes};

/// The wait between two looks for what has ended.
const PERIOD: Duration = Duration::from_secs(60);
/// How often to read lists that change meanwhile, before a wait.
const ATTEMPTS: usize = 5;
/// The wait after a failed read.
const RETRY: Duration = Duration::from_secs(5);

/// The revocations, bans and slow modes of a server, in the database and in memory.
pub(super) struct KeptSanctions {
    stored_revocations: StoredRevocations,
    stored_bans: StoredBans,
    stored_slow_modes: StoredSlowModes,
    revocations: Revocations,
    bans: Bans,
    slow_modes: SlowModes,
    is_loaded: bool,
    /// The database may have some that have ended.
    is_due: bool,
    /// Notified when other nodes of a cluster have stored more.
    added: Arc<Notify>,
}

impl KeptSanctions {
    /// Reads the revocations, bans and slow modes into these lists. If the database is unreachable, [`keep`](Self::keep) reads them
    /// later; the server serves meanwhile, as it does without the messages of the database.
    pub(super) async fn load(
        writer: &DbWriterHandle,
        revocations: &Revocations,
        bans: &Bans,
        slow_modes: &SlowModes,
    ) -> Self {
        let mut kept = Self {
            stored_revocations: StoredRevocations::new(writer),
            stored_bans: StoredBans::new(writer),
            stored_slow_modes: StoredSlowModes::new(writer),
            revocations: revocations.clone(),
            bans: bans.clone(),
            slow_modes: slow_modes.clone(),
            is_loaded: false,
            is_due: true,
            added: Arc::default(),
        };
        kept.read().await;
        kept
    }

    /// Notified when other nodes of a cluster have stored more.
    pub(super) fn added(&self) -> &Arc<Notify> {
        &self.added
    }

    /// Reads the lists again and again, until nothing was added or taken back meanwhile.
    async fn read(&mut self) {
        // Until it has succeeded, so that what was added is not missed.
        self.is_loaded = false;
        for _ in 0..ATTEMPTS {
            match self.read_once().await {
                Ok(is_current) => self.is_loaded = is_current,
                Err(error) => {
                    return tracing::warn!(
                        %error,
                        "serve.revocations.unread: revoked tokens and banned clients get in until \
                         the database answers"
                    );
                }
            }
            if self.is_loaded {
                return;
            }
        }
    }

    /// Makes the lists those of the database. Returns whether they are still those.
    async fn read_once(&self) -> Result<bool, Box<dyn std::error::Error>> {
        let (revoked, banned) = (self.revocations.changes(), self.bans.changes());
        let slowed = self.slow_modes.changes();
        let now = SystemTime::now();
        let revocations = self.stored_revocations.load(now).await?;
        let bans = self.stored_bans.load(now).await?;
        let slow_modes = self.stored_slow_modes.load(now).await?;
        let are_current = [
            self.revocations.replace(&revocations, revoked),
            self.bans.replace(bans, banned),
            self.slow_modes.replace(slow_modes, slowed),
        ];
        Ok(are_current == [true; 3])
    }

    /// Reads the lists if that has failed, and forgets what has ended. Never returns.
    pub(super) async fn keep(mut self, endpoint: Endpoint) {
        loop {
            if self.is_loaded {
                self.forget_ended().await;
                let added = Arc::clone(&self.added);
                if tokio::time::timeout(PERIOD, added.notified()).await.is_ok() {
                    self.read().await;
                    endpoint.check_permits().await;
                }
            } else {
                tokio::time::sleep(RETRY).await;
                self.read().await;
                if self.is_loaded {
                    // Clients may have connected that are refused.
                    endpoint.check_permits().await;
                }
            }
        }
    }

    async fn forget_ended(&mut self) {
        let now = SystemTime::now();
        self.is_due |= self.revocations.forget_ended(now) > 0;
        self.is_due |= self.bans.forget_ended(now) > 0;
        self.is_due |= self.slow_modes.forget_ended(now) > 0;
        if !self.is_due {
            return;
        }
        let revocations = self.stored_revocations.prune(now).await;
        let revocations = revocations.map_err(|error| error.to_string());
        let bans = self.stored_bans.prune(now).await;
        let bans = revocations.and(bans.map_err(|error| error.to_string()));
        let slow_modes = self.stored_slow_modes.prune(now).await;
        match bans.and(slow_modes.map_err(|error| error.to_string())) {
            Ok(()) => self.is_due = false,
            // The writer reports an unreachable database.
            Err(error) => tracing::debug!(error, "serve.revocations.not_pruned"),
        }
    }
}
