//! [`Audience`]: the receivers of a message.

use serde_json::Value;

use super::template::{Scope, Template, is_label};

/// `"all"`, `"others"`, `"sender"`, or a table as `{ "user.id" = "{payload.to}" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Every member, the sender included.
    #[default]
    All,
    /// Every member but the sender.
    Others,
    /// The sender alone.
    Sender,
    /// The members who have these labels.
    Selected(Vec<LabelTemplate>),
}

/// A label of members, and the values of which one is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelTemplate {
    pub(crate) label: String,
    pub(crate) one_of: Vec<Template>,
}

impl Audience {
    /// Reads an audience whose templates may name these variables.
    ///
    /// # Errors
    /// The problem, in words.
    pub(crate) fn parse(written: Value, scope: Scope) -> Result<Self, String> {
        let labels = match written {
            Value::Object(labels) if !labels.is_empty() => labels,
            Value::String(word) => {
                return match &*word {
                    "all" => Ok(Self::All),
                    "others" => Ok(Self::Others),
                    "sender" => Ok(Self::Sender),
                    _ => Err(format!(
                        "{word:?} must be \"all\", \"others\", \"sender\" or a table of labels"
                    )),
                };
            }
            _ => return Err("must be \"all\", \"others\", \"sender\" or a table of labels".into()),
        };
        let labels = labels.into_iter().map(|(label, values)| {
            check_label(&label).map_err(|problem| problem.to_string())?;
            let parse = |value: &Value| {
                let template = Template::parse(value, scope);
                template.map_err(|problem| problem.to_string())
            };
            let values = several(values);
            let one_of = values.iter().map(parse);
            Ok(LabelTemplate {
                label,
                one_of: one_of.collect::<Result<_, _>>()?,
            })
        });
        labels.collect::<Result<_, _>>().map(Self::Selected)
    }

    /// The variables that its templates name.
    pub(crate) fn used(&self) -> Scope {
        let Self::Selected(labels) = self else {
            return Scope::default();
        };
        let templates = labels.iter().flat_map(|label| &label.one_of);
        templates.fold(Scope::default(), |used, template| used.and(template.used()))
    }
}

impl LabelTemplate {
    /// `their identity's "id" is the payload's "to"`
    pub(crate) fn in_words(&self) -> String {
        let Self { label, one_of } = self;
        let whose = match label.split_once('.') {
            Some(("user", name)) => format!("their identity's {name:?}"),
            Some(("me", name)) => format!("their remembered {name:?}"),
            _ => "the id of their connection".to_owned(),
        };
        let one_of: Vec<_> = one_of.iter().map(Template::in_words).collect();
        format!("{whose} is {}", one_of.join(" or "))
    }

    /// The field of the identity that the label is.
    pub(crate) fn identity_field(&self) -> Option<&str> {
        let names = self.label.strip_prefix("user.")?;
        names.split('.').next()
    }
}

/// A name that is no label.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no label of members; there are user.*, me.* and socket.id")]
pub(crate) struct NoLabel(String);

/// Checks the name of a label.
///
/// # Errors
/// If members have no such label.
pub(crate) fn check_label(name: &str) -> Result<(), NoLabel> {
    if is_label(name) {
        Ok(())
    } else {
        Err(NoLabel(name.to_owned()))
    }
}

/// The items of an array, or the one value.
pub(crate) fn several(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        one => vec![one],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::language::template::Variable;

    #[test]
    fn other_words_and_labels_are_refused() {
        let scope = Scope::of(&[Variable::User]);
        for (written, part) in [
            (json!("everybody"), "\"everybody\" must be \"all\""),
            (json!({}), "a table of labels"),
            (json!(7), "a table of labels"),
            (json!({"payload.id": 7}), "\"payload.id\" is no label"),
            (json!({"user": 7}), "no label"),
            (json!({"user.id": "{payload.to}"}), "unknown variable"),
        ] {
            let problem = Audience::parse(written.clone(), scope).expect_err("refused");
            assert!(problem.contains(part), "{written}: {problem}");
        }
    }
}
