//! Work on stored messages: retention, erasing, exports, imports, backups. Revocations, bans and slow modes.

mod backup;
mod bans;
mod condition;
mod erase;
mod export;
mod import;
mod lines;
mod lone_writer;
mod retention;
mod revocations;
mod slow_modes;

pub use self::backup::{BackupError, back_up};
pub use self::bans::{BansUnavailable, StoredBans};
pub use self::condition::DatabaseCondition;
pub use self::erase::{EraseError, Eraser, Target};
pub use self::export::{ExportError, ExportEvent, Exported, Exporter};
pub use self::import::{ImportError, ImportOptions, ImportProblem, Imported};
pub use self::retention::{Retention, RetentionRule, RetentionRules, RetentionTask};
pub use self::revocations::{RevocationsUnavailable, StoredRevocations};
pub(crate) use self::slow_modes::{SlowModesUnavailable, StoredSlowModes};
