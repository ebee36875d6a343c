//! The Lua scripts: their sources, and the digests under which the server knows them.

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisError, Value};

use super::reply;

/// A script of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Script {
    /// Gives a message its seq.
    Publish,
    /// Gives an erasure its seq.
    Take,
    /// Reads the order of a topic and its journal.
    Read,
    /// Begins the run of a topic.
    Begin,
    /// Keeps the latest era.
    Era,
}

impl Script {
    /// All scripts, in the order of [`Scripts::digests`].
    const ALL: [Self; 5] = [
        Self::Publish,
        Self::Take,
        Self::Read,
        Self::Begin,
        Self::Era,
    ];

    /// The Lua source.
    const fn source(self) -> &'static str {
        match self {
            Self::Publish => include_str!("publish.lua"),
            Self::Take => include_str!("take.lua"),
            Self::Read => include_str!("read.lua"),
            Self::Begin => include_str!("begin.lua"),
            Self::Era => include_str!("era.lua"),
        }
    }
}

/// The digests of the scripts. They depend on the sources alone, so they stay valid for each connection.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    digests: [String; 5],
}

impl Scripts {
    /// Loads all scripts into the server.
    pub(super) async fn load(connection: &MultiplexedConnection) -> Result<Self, RedisError> {
        let mut digests = [const { String::new() }; 5];
        for (script, digest) in Script::ALL.into_iter().zip(&mut digests) {
            let mut load = ::redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script.source());
            *digest = reply::text(&reply::ask(connection, load).await?).unwrap_or_default();
        }
        Ok(Self { digests })
    }

    /// The command that runs `script` with `keys`; its arguments are to be added.
    pub(super) fn call(&self, script: Script, keys: &[&str]) -> Cmd {
        let mut call = ::redis::cmd("EVALSHA");
        call.arg(&self.digests[script as usize]).arg(keys.len());
        for key in keys {
            call.arg(*key);
        }
        call
    }

    /// Runs a command made by [`Self::call`]. If the server has lost the scripts, loads them and tries once
    /// more.
    pub(super) async fn run(
        connection: &MultiplexedConnection,
        call: Cmd,
    ) -> Result<Value, RedisError> {
        match reply::ask(connection, call.clone()).await {
            Err(error) if reply::is_no_script(&error) => {
                Self::load(connection).await?;
                reply::ask(connection, call).await
            }
            result => result,
        }
    }
}
