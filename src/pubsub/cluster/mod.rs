//! Topics that several servers have in common: [`Cluster`].
//!
//! A message that a log keeps gets its place from the bus, and every node shows it when it arrives in its turn, the
//! publisher's own node too. Any other message is sent to the members of this node at once, and to the others at most
//! once.
//!
//! | file | content |
//! | --- | --- |
//! | `handle` | starts and ends a node: its bus, its thread |
//! | `hears` | what the bus tells this node |
//! | `node` | this server: what is published goes to the bus, what the bus says goes to the topics |
//! | `outstanding` | messages on their way to their place |
//! | `joint` | a topic, as this node sees it |
//! | `drive` | what its replica asks for: show, read, store |
//! | `journaled` | the store of the logs: the bus's journal before the database |
//! | `retry` | the answer to a message that was published before |
//! | `parts` | what has its own messages between nodes |
//! | `bridge` | the live events of a Phoenix application on the same Redis |
//! | `peers` | the nodes of the cluster |
//! | `old_rows` | whether the database has the messages of the runs that ended with the bus's data |
//! | `settling` | what waits until the database has messages |
//! | `asking` | requests to other nodes |
//! | `watch` | the messages of nodes that have died |
//! | `eras` | what gives the order of the others: Redis, or the database while no node reaches Redis |
//! | `strict` | strict topics: the database gives the places |
//! | `following` | what the follower of a strict topic asks for: show, read |
//! | `untold` | what this node has committed and not told |
//! | `looking` | the database, while somebody cannot tell |
//! | `slow` | workers that are slower than the publishers of other nodes |
//! | `message` | drafts and rows as messages between nodes |

mod asking;
mod bridge;
mod drive;
mod eras;
mod following;
mod handle;
mod hears;
mod joint;
mod journaled;
mod looking;
mod message;
mod node;
mod old_rows;
mod outstanding;
mod parts;
mod peers;
mod retry;
mod settling;
mod slow;
mod strict;
#[cfg(test)]
mod tests;
mod untold;
mod watch;

pub(crate) use self::asking::Neighbours;
pub(crate) use self::following::StrictFollower;
pub use self::handle::{Cluster, ClusterError, ClusterOptions};
pub(crate) use self::joint::{Joint, TopicReplica};
pub(crate) use self::looking::SeenNode;
pub(crate) use self::node::Node;
pub(crate) use self::outstanding::Sending;
pub(crate) use self::parts::{Part, PartSender};
pub use self::peers::NodeInfo;
