//! Writing: publishers put rows into the [`Intake`](intake::Intake), the [`DbWriter`] queues them, and its
//! [`Committer`](committer::Committer) stores them.

mod batch;
mod capacity;
mod ceiling;
mod commits;
mod committer;
#[cfg(all(feature = "_cluster", feature = "postgres"))]
mod drafts;
#[cfg(not(all(feature = "_cluster", feature = "postgres")))]
#[path = "no_drafts.rs"]
mod drafts;
mod flush;
mod handle;
mod health;
mod intake;
mod journal;
#[cfg(all(feature = "_cluster", feature = "postgres"))]
mod order;
#[cfg(feature = "_cluster")]
mod shared;
mod state;
mod turn;
mod writer;

pub use self::capacity::StorageState;
pub use self::handle::DbWriterHandle;
pub use self::writer::DbWriter;
