//! The beginning of the names that a cluster has in Redis or NATS.

/// The beginning of a cluster's names has other characters than its names may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 letters, digits, or of - _ . : without spaces")]
pub struct InvalidPrefix;

/// Whether names in Redis and NATS can begin with this text.
///
/// # Errors
/// If they cannot.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), InvalidPrefix> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let is_short = (1..=64).contains(&prefix.len());
    (is_short && prefix.chars().all(fits))
        .then_some(())
        .ok_or(InvalidPrefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_fits_into_names() {
        for prefix in ["slackir", "a:b", "chat_2-x.y"] {
            assert_eq!(check_prefix(prefix), Ok(()));
        }
        for prefix in ["", "my chat", "a\n", "a*", "{a}", &"a".repeat(65)] {
            assert_eq!(check_prefix(prefix), Err(InvalidPrefix), "{prefix:?}");
        }
    }
}
