//! A template in words, for readers who do not know the language.

use serde_json::Value;

use super::parse::{Alternative, Node, Part, Placeholder, Template};
use super::path::{Convert, Path, Variable};

impl Template {
    /// The value that the template makes, as a phrase.
    pub(crate) fn in_words(&self) -> String {
        node(&self.root)
    }

    /// The members of a table, each with its value as a phrase; `None` for a template that is no table.
    pub(crate) fn members_in_words(&self) -> Option<Vec<(String, String)>> {
        let Node::Object(members) = &self.root else {
            return None;
        };
        let members = members.iter();
        Some(
            members
                .map(|(key, value)| (name(key), node(value)))
                .collect(),
        )
    }

    /// The members of a table whose values name a variable.
    pub(crate) fn members_that_name(&self, variable: Variable) -> Vec<String> {
        let Node::Object(members) = &self.root else {
            return Vec::new();
        };
        let naming = members.iter().filter(|(_, value)| {
            let mut found = false;
            visit(value, &mut |path| found |= path.variable == variable);
            found
        });
        naming.map(|(key, _)| name(key)).collect()
    }

    /// The names behind a variable: `id` of `{user.id}`.
    pub(crate) fn names_of(&self, variable: Variable) -> Vec<String> {
        let mut names = Vec::new();
        visit(&self.root, &mut |path| {
            if path.variable == variable
                && let Some(name) = path.steps.first()
            {
                names.push(name.to_string());
            }
        });
        names
    }
}

/// Calls `see` with each path of a template.
fn visit(root: &Node, see: &mut impl FnMut(&Path)) {
    let mut look = |Placeholder(alternatives): &Placeholder| {
        for alternative in alternatives {
            if let Alternative::Path(path) = alternative {
                see(path);
            }
        }
    };
    match root {
        Node::Constant(_) => {}
        Node::Value(placeholder) => look(placeholder),
        Node::Text(parts) => parts.iter().for_each(|part| match part {
            Part::Literal(_) => {}
            Part::Placeholder(placeholder) => look(placeholder),
        }),
        Node::Array(items) => items.iter().for_each(|item| visit(item, see)),
        Node::Object(members) => members.iter().for_each(|(_, value)| visit(value, see)),
    }
}

fn node(node_of: &Node) -> String {
    match node_of {
        Node::Constant(json) => json.to_string(),
        Node::Value(one) => placeholder(one),
        Node::Text(parts) => {
            let parts = parts.iter().map(|part| match part {
                Part::Literal(text) => quoted(text),
                Part::Placeholder(one) => placeholder(one),
            });
            format!("the text {}", parts.collect::<Vec<_>>().join(" + "))
        }
        Node::Array(items) => {
            let items: Vec<_> = items.iter().map(node).collect();
            format!("[{}]", items.join(", "))
        }
        Node::Object(members) => {
            let members = members
                .iter()
                .map(|(key, value)| format!("{}: {}", name(key), node(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A key of a table without its quotes.
fn name(key: &str) -> String {
    serde_json::from_str(key).unwrap_or_else(|_| key.to_owned())
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn placeholder(Placeholder(alternatives): &Placeholder) -> String {
    let alternatives = alternatives.iter().map(|alternative| match alternative {
        Alternative::Path(path) => in_words(path),
        Alternative::Literal(text) => quoted(text),
    });
    alternatives.collect::<Vec<_>>().join(", or else ")
}

fn in_words(path: &Path) -> String {
    let steps: Vec<&str> = path.steps.iter().map(|step| &**step).collect();
    let of = |whole: &str, owner: &str| match steps[..] {
        [] => whole.to_owned(),
        _ => format!("{owner} {}", quoted(&steps.join("."))),
    };
    let words = match path.variable {
        Variable::User => of("the identity", "the identity's"),
        Variable::Me => of("the memory", "the remembered"),
        Variable::Params => of("the join params", "the join param"),
        Variable::Connect => of("the connect params", "the connect param"),
        Variable::Token => of("the content of the token", "the token's"),
        Variable::Payload => of("the payload", "the payload's"),
        Variable::Topic => match steps[..] {
            [] => "the topic".to_owned(),
            [_, place] => format!("part {place}, between colons, of the * in the topic"),
            _ => "the * in the topic".to_owned(),
        },
        Variable::Event => "the name of the event".to_owned(),
        Variable::Id => "the id of the message".to_owned(),
        Variable::Uuid => "a random UUID".to_owned(),
        Variable::Now => time("the time", &steps),
        Variable::Inserted => time("the time of saving", &steps),
        Variable::Socket => "the random id of the connection".to_owned(),
    };
    match path.convert {
        None => words,
        Some(Convert::ToString) => format!("{words} as text"),
        Some(Convert::ToInt) => format!("{words} as a whole number"),
    }
}

fn time(which: &str, steps: &[&str]) -> String {
    let unit = match steps {
        ["ms"] => "in milliseconds",
        ["s"] => "in seconds",
        _ => "as an ISO 8601 text",
    };
    format!("{which} {unit}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::path::Scope;
    use super::*;

    fn template(value: &Value) -> Template {
        let scope = Scope::of(&[
            Variable::User,
            Variable::Topic,
            Variable::Now,
            Variable::Payload,
        ]);
        Template::parse(value, scope).expect("a template")
    }

    #[test]
    fn a_template_is_a_phrase() {
        for (written, words) in [
            (json!("{user.name}"), "the identity's \"name\""),
            (
                json!("{payload.user.id:string|'nobody'}"),
                "the payload's \"user.id\" as text, or else \"nobody\"",
            ),
            (
                json!("users:{user.id}"),
                "the text \"users:\" + the identity's \"id\"",
            ),
            (
                json!({"a": [1, "{now.s}"]}),
                "{a: [1, the time in seconds]}",
            ),
            (json!("{topic.1}"), "the * in the topic"),
            (json!("{payload}"), "the payload"),
        ] {
            assert_eq!(template(&written).in_words(), words);
        }
    }

    #[test]
    fn a_table_knows_what_its_members_name() {
        let table = template(&json!({"a": "{user.id} {user.role|payload.role}", "b": 1}));
        assert_eq!(table.members_that_name(Variable::User), ["a"]);
        assert_eq!(table.names_of(Variable::User), ["id", "role"]);
        assert_eq!(table.names_of(Variable::Now), [""; 0]);
    }
}
