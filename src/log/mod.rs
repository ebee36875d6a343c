//! The topic log: the stored messages of one topic. Each takes the next [`Seq`] and goes to a
//! [`MessageStore`]. It stays in memory, in the log's *tail*, while it is new or not committed.
//!
//! A [`LogRule`] decides which topics keep a log. `pubsub` owns one log for each such topic, behind the
//! topic's lock. The log knows neither topics nor members.
//!
//! | file | content |
//! | --- | --- |
//! | `id` | [`Seq`], [`Epoch`], [`MessageId`] |
//! | `entry`, `receipt` | a message, pending or stored, and the receipt that tells its publisher the outcome |
//! | `store`, `memory_store`, `rule` | the port to a database, a store without one; which topics use it |
//! | `stored_rows` | a topic's rows, for stores in memory |
//! | `sequence`, `past` | the runs of a topic's sequence: which ids are valid after a restart or a restore |
//! | `topic_log` | the operations that change a log: append, settle, erase |
//! | `tail`, `tail_bytes` | the messages in memory, and their bound over all topics |
//! | `backlog`, `older`, `pager` | the operations that read a log: history, resume, older messages |
//! | `placed` | a log in a cluster: its messages arrive with their place |
//! | `unplaced`, `own_ref` | messages whose place the store gives, and the refs by which it recognises them |
//! | `refs` | recent client_refs, by which retries are recognised |

mod backlog;
mod entry;
#[cfg(feature = "_cluster")]
mod era;
mod id;
mod memory_store;
mod older;
mod own_ref;
mod pager;
mod past;
#[cfg(feature = "_cluster")]
mod placed;
mod receipt;
mod refs;
mod rule;
mod sequence;
mod store;
mod stored_rows;
mod tail;
mod tail_bytes;
mod topic_log;
#[cfg(feature = "_cluster")]
mod unplaced;

pub(crate) use self::backlog::{Backlog, Lost};
pub(crate) use self::entry::Meta;
pub use self::entry::{Change, LogEntry, Pending};
#[cfg(feature = "_cluster")]
pub(crate) use self::era::{ClusterEra, Entering, Era};
pub use self::id::{Epoch, InvalidMessageId, MessageId, Seq};
pub use self::memory_store::MemoryStore;
pub(crate) use self::older::Older;
pub(crate) use self::own_ref::of_client;
#[cfg(feature = "_cluster")]
pub(crate) use self::own_ref::own_ref;
pub(crate) use self::pager::{Found, Pager};
pub use self::past::PastRuns;
#[cfg(feature = "_cluster")]
pub(crate) use self::placed::{First, OwnPlaced, Placed};
pub(crate) use self::receipt::Outcome;
pub use self::receipt::{NotStored, Receipt, Stored};
pub(crate) use self::refs::RecentRefs;
pub use self::rule::LogRule;
#[cfg(feature = "_store")]
pub(crate) use self::store::JUMP;
#[cfg(feature = "_cluster")]
pub use self::store::SharedLogs;
#[cfg(feature = "_cluster")]
pub(crate) use self::store::SharedStore;
pub use self::store::{
    Flushed, LoadError, MessageStore, Newest, OpenedRun, StoreFull, StoredEntry,
};
pub use self::stored_rows::StoredRows;
#[cfg(test)]
pub(crate) use self::tail_bytes::crowd;
pub(crate) use self::topic_log::{Appended, LogOwner, NewEntry, TopicLog, Visibility, WithId};

#[cfg(feature = "_cluster")]
pub(crate) use self::unplaced::{
    PlaceOwner, PlacedMessage, PlacedTogether, PlacingStore, Placings, Unplaced, UnplacedMessage,
};

/// The most messages and payload bytes of one page of a resume.
const PAGE_ROWS: usize = 500;
const PAGE_BYTES: usize = 250_000;
