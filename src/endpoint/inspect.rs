//! Looks into a running endpoint: its topics, their members, its connections. Nothing of this is kept for it: topics
//! and connections are asked.

use super::Endpoint;
use crate::pubsub::{ListedTopics, TopicOrder};
use crate::socket::{ConnectionFilter, ListedSockets};

impl Endpoint {
    /// The topics that clients have joined, as [`PubSub::list_topics`](crate::pubsub::PubSub::list_topics).
    pub async fn list_topics(&self, prefix: &str, order: TopicOrder, limit: usize) -> ListedTopics {
        self.pubsub.list_topics(prefix, order, limit).await
    }

    /// The open connections that the filter selects, the newest first, at most `limit`. It asks each connection on
    /// its own thread. Phoenix: `Phoenix.Debug.list_sockets/0`, and `list_channels/1` in each
    /// [`topics`](crate::socket::ConnectionInfo::topics).
    ///
    /// ```
    /// use slackir::Endpoint;
    /// use slackir::socket::ConnectionFilter;
    ///
    /// async fn print(endpoint: &Endpoint, user: &str) {
    ///     let of_user = ConnectionFilter::default().user(user);
    ///     for socket in endpoint.list_sockets(of_user, 100).await.sockets {
    ///         println!("{} has joined {:?}", socket.id, socket.topics);
    ///     }
    /// }
    /// ```
    pub async fn list_sockets(&self, filter: ConnectionFilter, limit: usize) -> ListedSockets {
        self.sockets.list(filter, limit).await
    }

    /// The connections that have joined a topic, the newest first, at most `limit`.
    pub async fn members(&self, topic: &str, limit: usize) -> ListedSockets {
        let joined = ConnectionFilter {
            topic: Some(topic.to_owned()),
            ..ConnectionFilter::default()
        };
        self.list_sockets(joined, limit).await
    }

    /// Ends the open connections that the filter selects, and returns their number. It does what a broadcast of
    /// `disconnect` on a socket's id does: phoenix.js connects again. Phoenix: `Endpoint.broadcast(id, "disconnect",
    /// %{})`.
    pub async fn disconnect(&self, filter: ConnectionFilter) -> usize {
        self.sockets.disconnect(filter).await
    }
}
