//! [`Selector`]: the members whom a message is for, by their labels.

use std::fmt;

/// Selects members of a topic by their labels: names with values, which a channel gives its client with
/// [`Context::label`](crate::channel::Context::label). All parts must hold. A member without a label is not selected
/// by it.
///
/// ```
/// use slackir::pubsub::{Draft, Selector};
///
/// let agents = Selector::label("user.id", "7").and("user.role", ["admin", "agent"]);
/// let draft = Draft::new("ring", serde_json::json!({"from": "3"})).to(agents);
/// # let _ = draft;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    parts: Vec<Part>,
}

/// The label must have one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    label: Box<str>,
    one_of: Vec<String>,
}

/// One value of a label, or several of which one must be the member's.
///
/// ```
/// use slackir::pubsub::Selector;
///
/// let admins_of_red = Selector::label("role", ["admin", "owner"]).and("team", "red");
/// # let _ = admins_of_red;
/// ```
pub trait IntoValues {
    /// The values.
    fn into_values(self) -> Vec<String>;
}

impl IntoValues for &str {
    fn into_values(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl IntoValues for String {
    fn into_values(self) -> Vec<String> {
        vec![self]
    }
}

impl<const N: usize> IntoValues for [&str; N] {
    fn into_values(self) -> Vec<String> {
        self.map(str::to_owned).into()
    }
}

impl IntoValues for Vec<String> {
    fn into_values(self) -> Vec<String> {
        self
    }
}

impl Selector {
    /// Selects the members whose label has this value, or one of these values.
    pub fn label(label: &str, values: impl IntoValues) -> Self {
        Self::all().and(label, values)
    }

    /// Selects every member.
    pub(crate) fn all() -> Self {
        Self { parts: Vec::new() }
    }

    /// Narrows the selection to members whose other label has this value, or one of these values.
    pub fn and(mut self, label: &str, values: impl IntoValues) -> Self {
        self.parts.push(Part {
            label: label.into(),
            one_of: values.into_values(),
        });
        self
    }

    /// The selector as JSON, for the other nodes of a cluster.
    #[cfg(feature = "_cluster")]
    pub(crate) fn encode(&self) -> bytes::Bytes {
        let parts: Vec<_> = self
            .parts
            .iter()
            .map(|part| (&part.label, &part.one_of))
            .collect();
        // Texts have a JSON form.
        serde_json::to_vec(&parts).unwrap_or_default().into()
    }

    /// Reads [`encode`](Self::encode)'s JSON. `None` if it is something else.
    #[cfg(feature = "_cluster")]
    pub(crate) fn decode(json: &[u8]) -> Option<Self> {
        let parts: Vec<(Box<str>, Vec<String>)> = serde_json::from_slice(json).ok()?;
        let parts = parts
            .into_iter()
            .map(|(label, one_of)| Part { label, one_of });
        Some(Self {
            parts: parts.collect(),
        })
    }

    /// Whether it selects a member with these labels.
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.parts.iter().all(|part| {
            let value = (labels.0)(&part.label);
            value.is_some_and(|value| part.one_of.contains(&value))
        })
    }
}

/// From a label's name to its value.
type ValueOf = dyn Fn(&str) -> Option<String>;

/// The labels of a member.
pub(crate) struct Labels(Box<ValueOf>);

impl Labels {
    pub(crate) fn new(labels: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self(Box::new(labels))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labels").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_must_hold_and_one_value_of_each() {
        let labels = Labels::new(|label| match label {
            "user.id" => Some("7".to_owned()),
            "user.role" => Some("agent".to_owned()),
            _ => None,
        });
        for (selector, selects) in [
            (Selector::label("user.id", "7"), true),
            (Selector::label("user.id", "8"), false),
            (Selector::label("user.name", ""), false),
            (Selector::label("user.id", Vec::new()), false),
            (Selector::label("user.role", ["admin", "agent"]), true),
            (
                Selector::label("user.id", "7").and("user.role", "admin"),
                false,
            ),
        ] {
            assert_eq!(selector.selects(&labels), selects, "{selector:?}");
        }
    }
}
