//! [`Connection`]: a connected client, as a transport hands it over; and [`Incoming`], the items of its stream.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Served;
use super::ending::ConnectionEnd;
use super::idle::{Activity, Sign};
use super::registry::Registration;
use crate::admission::Admitted;
use crate::assigns::Assigns;
use crate::client::{Client, log_client};
use crate::flow::Flow;
use crate::message::{Message, Ref, Reply};
use crate::outbox::Outbox;
use crate::pubsub::PubSub;
use crate::serializer::Serializer;
use crate::trace::Traced;

/// One item of a transport's stream.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message of the client, and its size on the wire in bytes.
    Message(Message, usize),
    /// The last item of a stream.
    End(ConnectionEnd),
}

/// A connected client.
pub(crate) struct Connection {
    pub(crate) mount: Arc<Served>,
    pub(crate) pubsub: PubSub,
    pub(crate) registration: Registration,
    /// Counts it among the connections of the server and of the client's address.
    pub(crate) _admitted: Admitted,
    /// Where the trace of its joins goes on.
    pub(crate) traced: Traced,
    pub(crate) serializer: Serializer,
    /// When it began, in seconds since 1970: it fills the padding beside the serializer.
    pub(crate) since: u32,
    pub(crate) assigns: Assigns,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) flow: Rc<Flow>,
    pub(crate) activity: Rc<Activity>,
}

impl Connection {
    /// Whether its client polls.
    pub(super) fn polls(&self) -> bool {
        self.activity.sign() == Sign::Polls
    }

    pub(super) fn client(&self) -> &Client {
        self.outbox.client()
    }

    /// The user behind the client, as the application names it.
    pub(super) fn user(&self) -> Option<String> {
        self.mount.socket.user(&self.assigns)
    }

    /// When it began.
    pub(super) fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.since.into())
    }

    /// Answers a message in the socket's own name.
    pub(super) fn reply(&self, join_ref: &Ref, message: &Message, reply: &Reply) {
        if self.outbox.closed().is_some() {
            return;
        }
        let (reference, topic) = (&message.reference, &message.topic);
        match self.serializer.reply(join_ref, reference, topic, reply) {
            Ok(frame) => self.outbox.push(frame),
            // Only binary responses can fail, and the socket itself makes none.
            Err(error) => log_client!(
                error, self.client(), %error,
                "socket.reply.unencodable: the client gets nothing; mend the payload of this \
                 reply"
            ),
        }
    }
}
