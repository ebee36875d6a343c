//! The page: the built-in chat, or a folder that takes its place.

mod built_in;
mod static_folder;

#[cfg(feature = "_store")]
pub(crate) use self::built_in::EMBEDDED_PHOENIX;
pub use self::built_in::{PageError, page};
