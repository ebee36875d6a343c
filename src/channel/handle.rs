//! [`SocketRef`] and [`Handle`]: how other threads reach a channel and its client.

use std::fmt;

use actix::{Recipient, WeakRecipient};

use super::server::InfoMessage;
use super::start::{ChannelSignal, signal};
use super::timer::Tick;
use crate::message::{Name, Ref, Reply};
use crate::serializer::{EncodeError, Serializer};

/// Replies to one client message, at any time, from any thread, any number of times; also after
/// its channel has ended. Made by [`Context::socket_ref`](super::Context::socket_ref). Phoenix:
/// `Phoenix.Channel.socket_ref/1` and `reply/2`.
///
/// ```
/// use serde_json::json;
/// use slackir::channel::{EncodeError, SocketRef};
/// use slackir::message::Reply;
///
/// fn answer(asked: &SocketRef) -> Result<(), EncodeError> {
///     asked.reply(&Reply::ok(json!({"sum": 3})))
/// }
/// ```
#[derive(Clone)]
pub struct SocketRef {
    pub(super) signals: WeakRecipient<ChannelSignal>,
    pub(super) serializer: Serializer,
    pub(super) join_ref: Ref,
    pub(super) reference: Ref,
    pub(super) topic: Name,
}

named_debug!(SocketRef, topic);

impl SocketRef {
    /// Sends one reply. If the connection is gone, the reply is dropped.
    ///
    /// # Errors
    /// If the response has no form on the client's wire.
    pub fn reply(&self, reply: &Reply) -> Result<(), EncodeError> {
        let frame = self
            .serializer
            .reply(&self.join_ref, &self.reference, &self.topic, reply)?;
        signal(&self.signals, ChannelSignal::Deliver(frame));
        Ok(())
    }
}

/// Sends infos to one channel, from any thread. Made by [`Context::handle`](super::Context::handle); cheap to clone.
///
/// ```
/// use slackir::channel::Handle;
///
/// fn notify(handle: &Handle<String>) {
///     if handle.send("ready".to_owned()).is_err() {
///         println!("the channel has ended");
///     }
/// }
/// ```
pub struct Handle<I: Send + 'static> {
    pub(super) infos: WeakRecipient<InfoMessage<I>>,
}

impl<I: Send + 'static> fmt::Debug for Handle<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<I: Send + 'static> Clone for Handle<I> {
    fn clone(&self) -> Self {
        Self {
            infos: self.infos.clone(),
        }
    }
}

/// The channel has ended and takes no more infos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel has ended")]
pub struct ChannelEnded;

impl<I: Send + 'static> Handle<I> {
    /// Delivers an info to the channel's `handle_info`. The queue has no bound: the application must limit its
    /// infos, as no client can fill it.
    ///
    /// # Errors
    /// If the channel has ended.
    pub fn send(&self, info: I) -> Result<(), ChannelEnded> {
        self.deliver(InfoMessage(Box::new(info), None))
    }

    /// Delivers the info of a tick.
    pub(super) fn tick(&self, info: I, tick: Tick) -> Result<(), ChannelEnded> {
        self.deliver(InfoMessage(Box::new(info), Some(tick)))
    }

    fn deliver(&self, info: InfoMessage<I>) -> Result<(), ChannelEnded> {
        let channel = self.infos.upgrade().filter(Recipient::connected);
        channel.ok_or(ChannelEnded)?.do_send(info);
        Ok(())
    }
}
