//! How a [`Question`] is put to the server.

use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisError, Value};

use super::command::Question;
use super::connection::Pair;
use super::keys::{Keys, Kind};
use super::reply::{self, ask};
use super::scripts::{Script, Scripts};
use crate::cluster::bus::{NodeId, Position, ProcessId, Token};
use crate::log::{Epoch, Seq};

/// How long the server keeps the state of a topic that no node renews: a week.
pub(super) const KEPT_SECONDS: u32 = 7 * 24 * 60 * 60;

/// How long a node may take to open a run. Less than half of a join's patience of 5 s: a join outlasts the node that
/// took the lock and was cut off.
const LOCK_MILLIS: u32 = 2000;

/// How many keys the server looks at in one step of a search.
const SCAN_COUNT: u32 = 1000;

/// What a question needs of the connections.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    connection: MultiplexedConnection,
    keys: Keys,
    scripts: Scripts,
    process: ProcessId,
    me: NodeId,
}

impl Asking {
    /// Asks for the node `me` over the commands' connection of `pair`.
    pub(super) fn new(pair: &Pair, me: NodeId) -> Self {
        Self {
            connection: pair.commands.clone(),
            keys: pair.keys.clone(),
            scripts: pair.scripts.clone(),
            process: pair.identity.process.clone(),
            me,
        }
    }

    /// Puts a question and answers it. If that fails, or the reply makes no sense, it gets no answer.
    pub(super) async fn put(self: Arc<Self>, question: Question) -> Result<(), RedisError> {
        // An answer that nobody waits for any more is dropped.
        match question {
            Question::IsAlive(node, answer) => {
                let exists = self.ask(&["EXISTS", &self.keys.node(node)]).await?;
                _ = answer.send(exists == Value::Int(1));
            }
            Question::Read(topic, answer) => {
                if let Some(position) = self.read(&topic).await? {
                    _ = answer.send(position);
                }
            }
            Question::Lock(topic, token, answer) => {
                let key = self.keys.topic(&topic, Kind::Lock);
                let life = LOCK_MILLIS.to_string();
                let set = ["SET", &key, token.as_str(), "NX", "PX", &life];
                let is_free = reply::is_done(&self.ask(&set).await?);
                _ = answer.send(is_free.then_some(token));
            }
            Question::Begin {
                topic,
                token,
                epoch,
                head,
                answer,
            } => {
                _ = answer.send(self.begin(&topic, &token, epoch, head).await?);
            }
            Question::Journaled(topic, answer) => {
                let journal = self.keys.topic(&topic, Kind::Journal);
                if let Some(seqs) = reply::seqs(&self.ask(&["HKEYS", &journal]).await?) {
                    _ = answer.send(seqs);
                }
            }
            Question::Journals(answer) => {
                _ = answer.send(self.journals().await?);
            }
            Question::Claim(name, seconds, answer) => {
                let (key, seconds) = (self.keys.claim(&name), seconds.max(1).to_string());
                let set = ["SET", &key, "1", "NX", "EX", &seconds];
                _ = answer.send(reply::is_done(&self.ask(&set).await?));
            }
            Question::Leave(answer) => {
                self.ask(&["DEL", &self.keys.node(self.me)]).await?;
                _ = answer.send(());
            }
        }
        Ok(())
    }

    /// The position of a topic; `None` if the reply makes no sense.
    pub(super) async fn read(&self, topic: &str) -> Result<Option<Option<Position>>, RedisError> {
        let keys = [
            self.keys.topic(topic, Kind::Topic),
            self.keys.topic(topic, Kind::Journal),
        ];
        let call = self.scripts.call(Script::Read, &[&keys[0], &keys[1]]);
        let reply = Scripts::run(&self.connection, call).await?;
        Ok(reply::position(reply, &self.process))
    }

    /// Begins a run.
    async fn begin(
        &self,
        topic: &str,
        token: &Token,
        epoch: Epoch,
        head: Seq,
    ) -> Result<bool, RedisError> {
        let keys = [
            self.keys.topic(topic, Kind::Topic),
            self.keys.topic(topic, Kind::Lock),
        ];
        let mut call = self.scripts.call(Script::Begin, &[&keys[0], &keys[1]]);
        call.arg(token.as_str())
            .arg(format!("{:x}", epoch.get()))
            .arg(head.to_string())
            .arg(KEPT_SECONDS);
        let reply = Scripts::run(&self.connection, call).await?;
        Ok(reply::is_done(&reply))
    }

    /// The topics that have a journal.
    async fn journals(&self) -> Result<Vec<String>, RedisError> {
        let (pattern, count) = (self.keys.journals(), SCAN_COUNT.to_string());
        let mut topics = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let scan = ["SCAN", &cursor, "MATCH", &pattern, "COUNT", &count];
            let Value::Array(reply) = self.ask(&scan).await? else {
                break;
            };
            let [next, Value::Array(names)] = reply.as_slice() else {
                break;
            };
            let names = names.iter().filter_map(reply::text);
            topics
                .extend(names.filter_map(|name| {
                    self.keys.topic_of(&name, Kind::Journal).map(str::to_owned)
                }));
            cursor = reply::text(next).unwrap_or_default();
            if cursor == "0" || cursor.is_empty() {
                break;
            }
        }
        // The server may name a key twice.
        topics.sort_unstable();
        topics.dedup();
        Ok(topics)
    }

    /// Sends a command of these words.
    async fn ask(&self, words: &[&str]) -> Result<Value, RedisError> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        ask(&self.connection, command).await
    }
}
