//! The names of events.

/// The longest name that a frame can carry, in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// Checks the name of an event that the server sends.
///
/// # Errors
/// If a frame cannot carry it, or it is the protocol's.
pub(crate) fn check_push(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!(
            "{name:?}: an event must have 1 to {MAX_NAME} bytes"
        ));
    }
    if name.starts_with("phx_") {
        return Err(format!(
            "names that begin with phx_ are events of the protocol: {name:?}"
        ));
    }
    Ok(())
}

/// Checks the name of an event of members.
///
/// # Errors
/// As [`check_push`], and if a push of the server has that name: clients could not tell them apart.
pub(crate) fn check_event(name: &str) -> Result<(), String> {
    check_push(name)?;
    let pushed = ["message_updated", "message_deleted"].contains(&name);
    if pushed || name.starts_with("presence_") {
        return Err(of_the_server(name));
    }
    Ok(())
}

/// The error of an event with the name of a push of the server.
pub(crate) fn of_the_server(name: &str) -> String {
    format!("{name:?} is the name of an event that the server itself sends")
}
