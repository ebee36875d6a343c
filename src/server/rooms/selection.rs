//! The members that a rule, or a program, means by a table of labels.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::pubsub::Selector;
use crate::server::language::template::Values;
use crate::server::language::{LabelTemplate, check_label, several};

/// The members whose labels have these values. A value that is null, an array or an object is no member's.
pub(super) fn selector(labels: &[LabelTemplate], values: &Values<'_>) -> Selector {
    labels.iter().fold(Selector::all(), |selector, part| {
        let texts = part.one_of.iter();
        let texts: Vec<_> = texts.filter_map(|value| value.text(values)).collect();
        selector.and(&part.label, texts)
    })
}

/// The members whose labels have the values of this table, as a program writes it.
///
/// # Errors
/// If a name is no label, or a value no text, number or boolean, and no list of those.
pub(crate) fn selector_of(labels: BTreeMap<String, Value>) -> Result<Selector, String> {
    let mut selector = Selector::all();
    for (label, values) in labels {
        check_label(&label).map_err(|problem| problem.to_string())?;
        let texts = several(values).into_iter().map(|value| match value {
            Value::String(text) => Ok(text),
            Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
            _ => Err(format!(
                "{label:?} must be a text, a number or a boolean, or a list of those"
            )),
        });
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        selector = selector.and(&label, texts);
    }
    Ok(selector)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::language::Audience;
    use crate::server::language::template::{Scope, Variable};

    #[test]
    fn a_table_selects_members_by_their_labels() {
        let scope = Scope::of(&[Variable::Payload]);
        let written = json!({"user.id": "{payload.to}", "me.role": ["agent", "{payload.role}"]});
        let Ok(Audience::Selected(labels)) = Audience::parse(written, scope) else {
            panic!("a table of labels");
        };
        let payload = json!({"to": 7, "role": null});
        let values = Values {
            payload: Some(&payload),
            ..Values::default()
        };
        let expected = Selector::label("me.role", "agent").and("user.id", "7");
        assert_eq!(selector(&labels, &values), expected);
    }
}
