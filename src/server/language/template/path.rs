//! [`Variable`] and [`Path`]: the content of placeholders.

use std::fmt;

use serde_json::Value;

use super::MAX_STEPS;

/// A value that a placeholder can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    /// The identity of the socket.
    User,
    /// The memory of this membership.
    Me,
    /// The join params.
    Params,
    /// The connect params.
    Connect,
    /// The content of a token.
    Token,
    Payload,
    Topic,
    Event,
    /// The id of the message.
    Id,
    Uuid,
    Now,
    Socket,
    /// The time of a stored message.
    Inserted,
}

impl Variable {
    const ALL: [(&'static str, Self); 13] = [
        ("user", Self::User),
        ("me", Self::Me),
        ("params", Self::Params),
        ("connect", Self::Connect),
        ("token", Self::Token),
        ("payload", Self::Payload),
        ("topic", Self::Topic),
        ("event", Self::Event),
        ("id", Self::Id),
        ("uuid", Self::Uuid),
        ("now", Self::Now),
        ("socket", Self::Socket),
        ("inserted", Self::Inserted),
    ];

    fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(known, _)| *known == name).map(|&(_, it)| it)
    }

    fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|&&(_, it)| it == self)
            .map_or("", |&(name, _)| name)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The variables that a template may name in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope(u16);

impl Scope {
    pub(crate) const fn of(variables: &[Variable]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < variables.len() {
            bits |= variables[at].bit();
            at += 1;
        }
        Self(bits)
    }

    pub(crate) const fn has(self, variable: Variable) -> bool {
        self.0 & variable.bit() != 0
    }

    /// These variables and the others.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Variable::ALL.iter().filter(|(_, it)| self.has(*it));
        let names: Vec<_> = known.map(|(name, _)| *name).collect();
        f.write_str(&names.join(", "))
    }
}

/// A conversion behind a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convert {
    /// Strings, numbers and booleans as text.
    ToString,
    /// Integers, and strings of digits.
    ToInt,
}

/// `payload.user.id:string`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) variable: Variable,
    pub(super) steps: Vec<Box<str>>,
    pub(super) convert: Option<Convert>,
}

impl Path {
    /// Parses the text of a path.
    ///
    /// # Errors
    /// The problem, in words.
    pub(super) fn parse(text: &str, scope: Scope) -> Result<Self, String> {
        let (names, convert) = match text.split_once(':') {
            None => (text, None),
            Some((names, "string")) => (names, Some(Convert::ToString)),
            Some((names, "int")) => (names, Some(Convert::ToInt)),
            Some((_, other)) => {
                return Err(format!(
                    "{{{text}}}: \":{other}\" must be \":string\" or \":int\""
                ));
            }
        };
        let mut steps = names.split('.');
        let variable = steps.next().unwrap_or_default();
        let known = Variable::named(variable).filter(|&variable| scope.has(variable));
        let Some(known) = known else {
            return Err(format!("{{{text}}}: unknown variable; here are {scope}"));
        };
        let steps: Vec<Box<str>> = steps.map(Box::from).collect();
        if steps.len() > MAX_STEPS {
            return Err(format!("{{{text}}}: a path has at most {MAX_STEPS} steps"));
        }
        if steps.iter().any(|step| !is_name(step)) {
            return Err(format!(
                "{{{text}}}: a path is made of names with dots between them"
            ));
        }
        if let Some(problem) = known.misused(&steps) {
            return Err(format!("{{{text}}}: {problem}"));
        }
        Ok(Self {
            variable: known,
            steps,
            convert,
        })
    }
}

fn is_name(step: &str) -> bool {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "{}|'\"".contains(c);
    !step.is_empty() && !step.contains(is_odd)
}

impl Variable {
    /// The problem with these steps after the variable, if there is one.
    fn misused(self, steps: &[Box<str>]) -> Option<String> {
        let name = self.name();
        let steps: Vec<&str> = steps.iter().map(|step| &**step).collect();
        let is_place = |step: &&str| step.parse::<usize>().is_ok_and(|place| place > 0);
        let fits = match self {
            Self::User | Self::Params | Self::Connect | Self::Token | Self::Payload => {
                return None;
            }
            Self::Me => !steps.is_empty(),
            Self::Now | Self::Inserted => matches!(steps[..], ["ms" | "s" | "iso"]),
            Self::Socket => steps == ["id"],
            Self::Topic => {
                matches!(steps[..], [] | ["1"])
                    || matches!(steps[..], ["1", place] if is_place(&place))
            }
            Self::Event | Self::Id | Self::Uuid => steps.is_empty(),
        };
        let forms = match self {
            Self::Me => "me.NAME",
            Self::Now => "now.ms, now.s or now.iso",
            Self::Inserted => "inserted.ms, inserted.s or inserted.iso",
            Self::Socket => "socket.id",
            Self::Topic => "topic, topic.1 or topic.1.2",
            _ => name,
        };
        (!fits).then(|| format!("must be {forms}"))
    }
}

/// Whether members have a label of this name: `user.*`, `me.*`, `socket.id`.
pub(crate) fn is_label(name: &str) -> bool {
    const SCOPE: Scope = Scope::of(&[Variable::User, Variable::Me, Variable::Socket]);
    name.contains('.') && !name.contains(':') && Path::parse(name, SCOPE).is_ok()
}

/// Follows names through objects, and numbers through arrays.
pub(super) fn follow(
    mut value: &Value,
    steps: impl IntoIterator<Item = impl AsRef<str>>,
) -> Option<&Value> {
    for step in steps {
        let step = step.as_ref();
        value = match value {
            Value::Object(members) => members.get(step)?,
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}
