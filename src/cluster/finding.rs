//! [`Finding`]: what the check of a configuration says about the bus's server.

/// What was found about a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Finding {
    /// As it should be.
    Fine(String),
    /// It works, with a risk that the operator should know.
    Warning(String),
    /// A node must not be started with it.
    Refused(String),
}
