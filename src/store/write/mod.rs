//! Writing: publishers put rows into the [`Intake`](intake::Intake), the [`DbWriter`] queues them, and its
//! [`Committer`](committer::Committer) stores them.

mod batch;
mod capacity;
mod ceiling;
mod commits;
mod committer;
mod flush;
mod handle;
mod health;
mod intake;
mod journal;
mod state;
mod turn;
mod writer;

pub use self::capacity::StorageState;
pub use self::handle::DbWriterHandle;
pub use self::writer::DbWriter;
