//! The page: the built-in chat, or a folder that takes its place.

mod built_in;
mod static_folder;

pub use self::built_in::{PageError, page};
