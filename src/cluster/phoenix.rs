//! [`PhoenixPeer`]: the messages of `phoenix_pubsub_redis`, with which the nodes of a Phoenix application talk over Redis.
//!
//! Pure. On the channel `phx:Elixir.MyApp.PubSub.Adapter` each message is
//! `term_to_binary({3, :except | :only, node, topic, message, dispatcher})`: for all nodes but this one, or for this one
//! alone. Only broadcasts of channels have a meaning here: `message` is then a `%Phoenix.Socket.Broadcast{}`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::Value;

use super::wire::{Content, Direction, Live};
use crate::token::{AtomForm, Term, TupleReader};

/// The version of the adapter's messages, since its release 3.0.
const VERSION: i32 = 3;

/// How many elements a message has.
const ARITY: u8 = 6;

/// The most bytes of a message, also after decompression. The thread of the bus decodes it, and all else of the bus waits
/// meanwhile.
const MAX_SIZE: usize = 1_000_000;

const BROADCAST: &str = "Elixir.Phoenix.Socket.Broadcast";
const DISPATCHER: &str = "Elixir.Phoenix.Channel.Server";
const STRUCT: Term = Term::Atom(std::borrow::Cow::Borrowed("__struct__"));

/// The message is no broadcast of a channel, or it has no counterpart on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has no counterpart")]
pub(crate) struct Untranslatable;

/// The nodes of a Phoenix application, to which this whole cluster is one more node: Erlang never frees an atom, so the
/// name must not grow with each process.
#[derive(Debug)]
pub(crate) struct PhoenixPeer {
    channel: Arc<str>,
    /// The name of this cluster among the nodes.
    node: Term,
}

/// A message for this cluster, of which only the topic is read.
pub(crate) struct Envelope<'a> {
    /// The topic.
    pub(crate) topic: ByteString,
    rest: TupleReader<'a>,
}

impl PhoenixPeer {
    /// The nodes with a PubSub of this name, such as `MyApp.PubSub`, seen from the cluster with this prefix.
    pub(crate) fn new(pubsub: &str, prefix: &str) -> Self {
        Self {
            channel: channel(pubsub).into(),
            node: Term::atom(format!("slackir@{prefix}")),
        }
    }

    /// The channel of Redis on which they talk.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// The message of a live event for them.
    ///
    /// # Errors
    /// If a JSON number has no float, the payload is nested too deeply, or the message has more than a megabyte.
    pub(crate) fn encode(
        &self,
        topic: &str,
        event: &str,
        payload: &Content,
    ) -> Result<Bytes, Untranslatable> {
        let payload = match payload {
            Content::Json(text) => {
                let value: Value = serde_json::from_str(text).map_err(|_| Untranslatable)?;
                Term::from(value)
            }
            Content::Binary(data) => {
                Term::Tuple(vec![Term::atom("binary"), Term::Binary(data.to_vec())])
            }
        };
        let broadcast = BTreeMap::from([
            (STRUCT, Term::atom(BROADCAST)),
            (Term::atom("topic"), topic.into()),
            (Term::atom("event"), event.into()),
            (Term::atom("payload"), payload),
        ]);
        let message = Term::Tuple(vec![
            VERSION.into(),
            Term::atom("except"),
            self.node.clone(),
            topic.into(),
            Term::Map(broadcast),
            Term::atom(DISPATCHER),
        ]);
        let encoded = message.encode_within(AtomForm::Utf8, MAX_SIZE);
        encoded.map(Bytes::from).map_err(|_| Untranslatable)
    }

    /// Reads the beginning of a message. `None`: it is not for this cluster, or comes from it.
    ///
    /// # Errors
    /// If it is no message of the adapter in this version.
    pub(crate) fn open<'a>(
        &self,
        message: &'a [u8],
    ) -> Result<Option<Envelope<'a>>, Untranslatable> {
        let mut rest = TupleReader::open(message, ARITY, MAX_SIZE).ok_or(Untranslatable)?;
        let mut next = || rest.next().ok_or(Untranslatable);
        if next()? != Term::from(VERSION) {
            return Err(Untranslatable);
        }
        let (mode, node) = (next()?, next()?);
        let is_own = node == self.node;
        let is_for_us = match mode {
            Term::Atom(mode) if mode == "except" => !is_own,
            Term::Atom(mode) if mode == "only" => is_own,
            _ => return Err(Untranslatable),
        };
        if !is_for_us {
            return Ok(None);
        }
        let topic = text(next()?)?;
        Ok(Some(Envelope { topic, rest }))
    }
}

impl Envelope<'_> {
    /// The live event, if the message is a broadcast of a channel.
    ///
    /// # Errors
    /// If it is another message, or its payload is neither binary data nor a map that is JSON.
    pub(crate) fn broadcast(mut self) -> Result<Live, Untranslatable> {
        let Some(Term::Map(mut broadcast)) = self.rest.next() else {
            return Err(Untranslatable);
        };
        let mut take = |key: &Term| broadcast.remove(key).ok_or(Untranslatable);
        if take(&STRUCT)? != Term::atom(BROADCAST)
            || take(&Term::atom("topic"))? != Term::from(&*self.topic)
        {
            return Err(Untranslatable);
        }
        Ok(Live {
            event: text(take(&Term::atom("event"))?)?,
            payload: content(take(&Term::atom("payload"))?)?,
            direction: Direction::All,
        })
    }
}

/// The channel of a PubSub, as its adapter makes it: Elixir's modules are atoms that begin with `Elixir.`.
pub(crate) fn channel(pubsub: &str) -> String {
    let name = pubsub.strip_prefix("Elixir.").unwrap_or(pubsub);
    format!("phx:Elixir.{name}.Adapter")
}

fn text(term: Term) -> Result<ByteString, Untranslatable> {
    match term {
        Term::Binary(bytes) => ByteString::try_from(bytes).map_err(|_| Untranslatable),
        _ => Err(Untranslatable),
    }
}

/// The payload of a broadcast: `{:binary, data}`, or a map.
fn content(payload: Term) -> Result<Content, Untranslatable> {
    match payload {
        Term::Tuple(parts) => match <[Term; 2]>::try_from(parts) {
            Ok([Term::Atom(form), Term::Binary(data)]) if form == "binary" => {
                Ok(Content::Binary(data.into()))
            }
            _ => Err(Untranslatable),
        },
        Term::Map(_) if !has_struct(&payload) => {
            let value = Value::try_from(payload).map_err(|_| Untranslatable)?;
            Ok(Content::Json(value.to_string().into()))
        }
        _ => Err(Untranslatable),
    }
}

/// Whether the term holds a struct: an application alone knows the JSON of its structs. The depth of a term is bounded.
fn has_struct(term: &Term) -> bool {
    match term {
        Term::Map(entries) => {
            entries.contains_key(&STRUCT)
                || (entries.iter()).any(|(key, value)| has_struct(key) || has_struct(value))
        }
        Term::List(items) | Term::Tuple(items) => items.iter().any(has_struct),
        _ => false,
    }
}
