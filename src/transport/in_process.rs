//! [`InProcess`]: a client in the server's own process, in place of a stream. Tests and trials use it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

use super::handshake::{Accepted, Mounted};
use crate::assigns::Assigns;
use crate::message::Message;
use crate::outbox::{Interrupt, Outbox};
use crate::serializer::Serializer;
use crate::socket::{
    ConnectInfo, ConnectRefused, ConnectionEnd, Incoming, Params, Sign, SocketServer,
};

/// The client's end of a connection of vsn 2.0.0. It needs an actix runtime and stays on its thread. A dropped one
/// is a lost connection.
pub(crate) struct InProcess {
    to_server: mpsc::UnboundedSender<Incoming>,
    outbox: Rc<Outbox>,
}

impl InProcess {
    /// Connects to a socket.
    ///
    /// # Errors
    /// If its `connect` refuses.
    pub(crate) async fn connect(
        mounted: &Mounted,
        params: &Params,
        info: &ConnectInfo,
    ) -> Result<Self, ConnectRefused> {
        let accepted = mounted.accept(Serializer::V2, params, info).await?;
        Ok(Self::start(mounted, accepted))
    }

    /// A connected client with these assigns. The socket's `connect` is not called.
    pub(crate) fn with_assigns(mounted: &Mounted, assigns: Assigns) -> Self {
        Self::start(mounted, mounted.accept_as(Serializer::V2, assigns))
    }

    fn start(mounted: &Mounted, accepted: Accepted) -> Self {
        let connection = mounted.open(accepted, Sign::Bytes, mounted.mount.options.timeout);
        let outbox = Rc::clone(&connection.outbox);
        let (to_server, messages) = mpsc::unbounded_channel();
        let reader = Messages {
            messages,
            outbox: Rc::clone(&outbox),
            ended: false,
        };
        SocketServer::start(connection, reader);
        Self { to_server, outbox }
    }

    /// Gives the server a message. A socket that has ended takes none.
    pub(crate) fn send(&self, message: Message) {
        let size = message.payload.len();
        let _ = self.to_server.send(Incoming::Message(message, size));
    }

    /// Closes the connection in order. A socket that has ended needs no goodbye.
    pub(crate) fn say_goodbye(&self) {
        let _ = self.to_server.send(Incoming::End(ConnectionEnd::Goodbye));
    }

    /// The next frame; `Ready(None)` once the connection has ended.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let frame = ready!(self.outbox.poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.payload()))
    }
}

/// The connection is lost.
impl Drop for InProcess {
    fn drop(&mut self) {
        self.outbox.interrupt(Interrupt::WriterGone);
    }
}

/// The client's messages, as the SocketServer reads them.
struct Messages {
    messages: mpsc::UnboundedReceiver<Incoming>,
    outbox: Rc<Outbox>,
    ended: bool,
}

impl Stream for Messages {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = match self.messages.poll_recv(cx) {
            Poll::Ready(message) => message,
            Poll::Pending => {
                let interrupt = ready!(self.outbox.poll_interrupted(cx));
                Some(Incoming::End(ConnectionEnd::of(interrupt, Sign::Bytes)))
            }
        };
        self.ended = matches!(message, None | Some(Incoming::End(_)));
        Poll::Ready(message)
    }
}
