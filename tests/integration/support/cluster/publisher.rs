//! A client that publishes, and repeats what was not acknowledged with the same client_ref.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::listener::{Shared, seq_of};
use crate::support::peer::Peer;
use crate::support::random::Random;

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(12);

/// A client.
pub(crate) struct Publisher {
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) random: Random,
    /// The wait between two messages.
    pub(crate) pace: Duration,
    /// What was acknowledged, and the seqs of the answers.
    pub(crate) acknowledged: HashMap<String, i64>,
    /// Answers other than ok.
    pub(crate) refused: HashMap<String, usize>,
    pub(crate) sent: usize,
    /// What is not acknowledged.
    pub(crate) pending: Option<String>,
}

impl Publisher {
    /// Publishes until the faults are over, and its last message is acknowledged.
    pub(crate) async fn live(mut self) -> Self {
        while !self.is_done() {
            self.visit().await;
            let away = 10 + self.random.below(100) as u64;
            sleep(Duration::from_millis(away)).await;
        }
        self
    }

    fn is_done(&self) -> bool {
        let calm = self.shared.calm.load(Ordering::SeqCst);
        calm && self.pending.is_none() || self.shared.over.load(Ordering::SeqCst)
    }

    /// One connection, up to its end or to the first trouble.
    async fn visit(&mut self) -> Option<()> {
        let (_, addr) = self.shared.choose(&mut self.random)?;
        let connected = timeout(Duration::from_secs(6), Peer::connect(addr)).await;
        let mut peer = connected.ok()??;
        let params = json!({"ack": true, "history": "none"});
        let join = peer.join(&self.topic, params).await?;
        let joined = timeout(Duration::from_secs(8), peer.reply(&join)).await;
        if joined.ok()??["status"] != "ok" {
            return None;
        }
        let leave = Instant::now() + Duration::from_millis(500 + self.random.below(6_000) as u64);
        while !self.is_done() && Instant::now() < leave {
            self.publish(&mut peer).await?;
            let end = Instant::now() + self.pace;
            // What others say is read, so that the connection does not fill.
            while let Ok(heard) = timeout_at(end, peer.next()).await {
                heard?;
            }
        }
        Some(())
    }

    /// Publishes the next message, or the pending one again. `None`: the connection is of no use any more.
    async fn publish(&mut self, peer: &mut Peer) -> Option<()> {
        let mark = self.pending.take().unwrap_or_else(|| {
            self.sent += 1;
            format!("{}-{}", self.name, self.sent)
        });
        let mut payload = json!({"name": self.name, "mark": mark});
        // A message without a client_ref is repeated only if it was refused.
        let has_ref = !self.sent.is_multiple_of(3);
        if has_ref {
            payload["client_ref"] = json!(mark);
            self.pending = Some(mark.clone());
        }
        let pushed = timeout(PATIENCE, peer.push(&self.topic, "shout", payload)).await;
        let reference = pushed.ok()??;
        let reply = timeout(PATIENCE, peer.reply(&reference)).await.ok()??;
        if reply["status"] == "ok" {
            let id = reply["response"]["id"].as_str().expect("an id");
            self.acknowledged.insert(mark, seq_of(id));
            self.pending = None;
            return Some(());
        }
        let reason = reply["response"]["reason"].as_str().unwrap_or("no reason");
        *self.refused.entry(reason.to_owned()).or_default() += 1;
        if reason == "storage unavailable" {
            self.pending = Some(mark);
        }
        sleep(Duration::from_millis(100)).await;
        // Half of the retries go to another node.
        (self.random.below(2) == 0).then_some(())
    }
}
