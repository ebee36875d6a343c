//! The tables: rows, and the statements that read and write them.
//!
//! To add a column of `messages`, change these places:
//!
//! 1. `migrations/` of both databases, and `schema`, which diesel generates from them.
//! 2. [`row`]: `MessageRow` and `FoundRow`, and `PendingRow` if the value comes with the message. Then
//!    `spool::record` needs it too, in a new version of the format.
//! 3. `upkeep::lines`: `MessageLine`, so that exports keep it.
//! 4. The readers that need it: `StoredMessage` in [`history`] for logs, `CommittedMessage` in `reader` for the HTTP
//!    API.
//!
//! The compiler finds the other uses. To add a column of `topics`, change the migrations, `TopicRow` and `put_all` in
//! [`run`], and `TopicLine` in `upkeep::lines`.

pub(super) mod ban;
pub(super) mod columns;
pub(super) mod cursor;
#[cfg(all(feature = "_cluster", feature = "postgres"))]
pub(super) mod era;
pub(super) mod feed;
pub(super) mod history;
pub(super) mod message;
pub(super) mod migrations;
pub(super) mod opening;
#[cfg(all(feature = "_cluster", feature = "postgres"))]
pub(super) mod order;
pub(super) mod readable;
pub(super) mod remove;
pub(super) mod revocation;
pub(super) mod row;
pub(super) mod run;
pub(super) mod slow_mode;
pub(super) mod takeover;

pub use self::columns::ColumnFields;
