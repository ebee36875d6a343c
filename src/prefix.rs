//! The names that a cluster and its neighbours have in Redis or NATS.

/// The beginning of a cluster's names has other characters than its names may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 letters, digits, or of - _ . : without spaces")]
pub struct InvalidPrefix;

/// Whether names in Redis and NATS can begin with this text.
///
/// # Errors
/// If they cannot.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), InvalidPrefix> {
    is_name(prefix, 64, "-_.:")
        .then_some(())
        .ok_or(InvalidPrefix)
}

/// The text is no name of a Phoenix application's PubSub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be the name of a Phoenix.PubSub, such as MyApp.PubSub: 1 to 200 letters, digits, or of _ ."
)]
pub struct InvalidPubSubName;

/// Whether a PubSub of Phoenix can have this name.
///
/// # Errors
/// If it cannot.
pub(crate) fn check_pubsub_name(name: &str) -> Result<(), InvalidPubSubName> {
    is_name(name, 200, "_.")
        .then_some(())
        .ok_or(InvalidPubSubName)
}

/// Whether the text has 1 to `most` letters and digits, or `others`.
fn is_name(text: &str, most: usize, others: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    (1..=most).contains(&text.len()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pubsub_has_the_name_of_a_module_or_of_an_atom() {
        for name in ["MyApp.PubSub", "my_pubsub", "Elixir.MyApp.PubSub2"] {
            assert_eq!(check_pubsub_name(name), Ok(()));
        }
        for name in [
            "",
            "My App",
            ":my_pubsub",
            "MyApp.PubSub\n",
            &"a".repeat(201),
        ] {
            assert_eq!(check_pubsub_name(name), Err(InvalidPubSubName), "{name:?}");
        }
    }

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
