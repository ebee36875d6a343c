//! [`Audience`]: the receivers of a message.

use serde::Deserialize;

/// `"all"`, `"others"` or `"sender"`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Audience {
    /// Every member, the sender included.
    #[default]
    All,
    /// Every member but the sender.
    Others,
    /// The sender alone.
    Sender,
}
