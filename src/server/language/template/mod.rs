//! Templates: JSON values of the configuration in which strings hold `{placeholders}`.
//!
//! A template is data. It substitutes, and never branches, loops or computes, so that evaluation is linear
//! in its output and always ends. Everything is checked when it is parsed: syntax, variables, bounds. This
//! module does no I/O and reads no clock; [`Values`] brings the values.
//!
//! - A string that is one placeholder and nothing else becomes the JSON value itself, with its type. Otherwise
//!   the parts are joined: strings, numbers and booleans are written out, null, arrays and objects as nothing.
//! - `{a|b|'text'}` is the first alternative that is there and not null; none: null.
//! - `:string` and `:int` after a path convert; digits alone become an int, all else null.
//! - `{{` is a brace, and so is `}}`.

mod parse;
mod path;
mod render;
mod stamp;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use self::parse::Template;
pub(crate) use self::path::{Scope, Variable, is_label};
pub(crate) use self::render::{Rendered, TooLong, Values};

/// The most text that one template may have, in bytes.
const MAX_TEXT: usize = 4_096;
/// The most members and items of all its tables and arrays.
const MAX_MEMBERS: usize = 64;
/// The most steps of a path.
const MAX_STEPS: usize = 8;
