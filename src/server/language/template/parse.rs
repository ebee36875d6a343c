//! [`Template`]: a template, parsed and checked.

use serde_json::Value;

use super::path::{Path, Scope};
use super::{MAX_MEMBERS, MAX_TEXT};

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(super) root: Node,
    used: Scope,
    /// Of a table.
    keys: Vec<String>,
}

/// The error of a template, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidTemplate(String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// JSON text.
    Constant(Box<str>),
    /// One placeholder and nothing else.
    Value(Placeholder),
    Text(Vec<Part>),
    Array(Vec<Node>),
    /// Keys as JSON text.
    Object(Vec<(Box<str>, Node)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(Box<str>),
    Placeholder(Placeholder),
}

/// `{a|b|'text'}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder(pub(super) Vec<Alternative>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alternative {
    Path(Path),
    Literal(Box<str>),
}

impl Template {
    /// Parses a value of the configuration, which may name the variables of `scope`.
    ///
    /// # Errors
    /// If a placeholder is malformed or names another variable, or the template is too large.
    pub(crate) fn parse(value: &Value, scope: Scope) -> Result<Self, InvalidTemplate> {
        let mut parser = Parser {
            scope,
            used: Scope::default(),
            text: 0,
            members: 0,
        };
        let root = parser.node(value).map_err(InvalidTemplate)?;
        let keys = match value {
            Value::Object(members) => members.keys().cloned().collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            root,
            used: parser.used,
            keys,
        })
    }

    /// The variables that the template names.
    pub(crate) fn used(&self) -> Scope {
        self.used
    }

    /// The keys of a template that is a table.
    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }
}

struct Parser {
    scope: Scope,
    used: Scope,
    text: usize,
    members: usize,
}

impl Parser {
    fn node(&mut self, value: &Value) -> Result<Node, String> {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.count(items.len())?;
                let items: Result<_, _> = items.iter().map(|item| self.node(item)).collect();
                items.map(Node::Array)
            }
            Value::Object(members) => {
                self.count(members.len())?;
                let members = members.iter().map(|(key, value)| {
                    self.length(key)?;
                    let node = self.node(value);
                    let node = node.map_err(|problem| format!("{key}: {problem}"))?;
                    Ok((Value::from(&**key).to_string().into(), node))
                });
                let members: Result<_, String> = members.collect();
                members.map(Node::Object)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                Ok(Node::Constant(value.to_string().into()))
            }
        }
    }

    fn count(&mut self, members: usize) -> Result<(), String> {
        self.members += members;
        if self.members > MAX_MEMBERS {
            return Err(format!("a template has at most {MAX_MEMBERS} members"));
        }
        Ok(())
    }

    fn length(&mut self, text: &str) -> Result<(), String> {
        self.text += text.len();
        if self.text > MAX_TEXT {
            return Err(format!("a template has at most {MAX_TEXT} bytes of text"));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<Node, String> {
        self.length(text)?;
        let mut parts = self.parts(text)?;
        Ok(match &mut parts[..] {
            [] => Node::Constant("\"\"".into()),
            [Part::Literal(literal)] => Node::Constant(Value::from(&**literal).to_string().into()),
            [Part::Placeholder(_)] => match parts.pop() {
                Some(Part::Placeholder(placeholder)) => Node::Value(placeholder),
                other => Node::Text(other.into_iter().collect()),
            },
            _ => Node::Text(parts),
        })
    }

    fn parts(&mut self, text: &str) -> Result<Vec<Part>, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            literal.push_str(before);
            let doubled = brace.starts_with("{{") || brace.starts_with("}}");
            if doubled || brace.starts_with('}') {
                literal.push_str(&brace[..1]);
                rest = &brace[if doubled { 2 } else { 1 }..];
                continue;
            }
            let inside = &brace[1..];
            let end = closing(inside).ok_or_else(|| format!("{text:?}: a brace is not closed"))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Placeholder(self.placeholder(&inside[..end])?));
            rest = &inside[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Ok(parts)
    }

    fn placeholder(&mut self, text: &str) -> Result<Placeholder, String> {
        let alternatives = split(text).map(|text| {
            if let Some(quoted) = text.strip_prefix('\'') {
                let literal = quoted.strip_suffix('\'');
                let literal =
                    literal.ok_or_else(|| format!("{{{text}}}: a quote is not closed"))?;
                return Ok(Alternative::Literal(literal.into()));
            }
            let path = Path::parse(text, self.scope)?;
            self.used = self.used.and(Scope::of(&[path.variable]));
            Ok(Alternative::Path(path))
        });
        let alternatives: Result<_, String> = alternatives.collect();
        alternatives.map(Placeholder)
    }
}

/// The end of a placeholder: the first closing brace outside quotes.
fn closing(inside: &str) -> Option<usize> {
    let mut is_quoted = false;
    inside.find(|c| {
        is_quoted ^= c == '\'';
        c == '}' && !is_quoted
    })
}

/// The alternatives of a placeholder: the text between bars outside quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '\'';
        c == '|' && !is_quoted
    })
}
