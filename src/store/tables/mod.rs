//! The tables: rows, and the statements that read and write them.
//!
//! A new column of `messages` has its place in `schema`, in [`message`] (what the writer inserts), in [`history`]
//! (what a log reads), in `reader` (what the HTTP API reads) and in `upkeep::lines` (what exports keep).

pub(super) mod columns;
pub(super) mod history;
pub(super) mod message;
pub(super) mod migrations;
pub(super) mod readable;
pub(super) mod remove;
pub(super) mod row;
pub(super) mod run;
pub(super) mod takeover;

pub use self::columns::ColumnFields;
