//! [`TopicPattern`]: the topics of a route, a log rule or a room. Phoenix: the topic of `channel/3`.
//!
//! If several patterns match a topic, the first one counts, everywhere.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One topic, or all topics with a prefix: `"lobby"`, `"room:*"`, `"*"`.
///
/// ```
/// use slackir::pattern::TopicPattern;
///
/// let rooms: TopicPattern = "room:*".parse().unwrap();
/// assert!(rooms.matches("room:1") && rooms.matches("room:"));
/// assert!(!rooms.matches("news"));
/// assert!("room:*:typing".parse::<TopicPattern>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicPattern {
    /// Without the `*`.
    fixed: Box<str>,
    is_prefix: bool,
}

/// The pattern has a `*` before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'*' may only stand at the end of a pattern")]
#[non_exhaustive]
pub struct InvalidPattern;

impl TopicPattern {
    /// A pattern that is part of the program. Use [`str::parse`] for input.
    ///
    /// # Panics
    /// If the pattern has a `*` before its end.
    pub fn new(pattern: &str) -> Self {
        match pattern.parse() {
            Ok(pattern) => pattern,
            Err(invalid) => panic!("{invalid}: {pattern:?}"),
        }
    }

    /// Whether the pattern matches this topic.
    pub fn matches(&self, topic: &str) -> bool {
        if self.is_prefix {
            topic.starts_with(&*self.fixed)
        } else {
            *self.fixed == *topic
        }
    }

    /// The part of the topic for which the `*` stands; `None` if the pattern has no `*` or does not match.
    ///
    /// ```
    /// # use slackir::pattern::TopicPattern;
    /// assert_eq!(TopicPattern::new("room:*").rest("room:12"), Some("12"));
    /// ```
    pub fn rest<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&*self.fixed).filter(|_| self.is_prefix)
    }

    /// Whether the pattern matches every topic that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        self.matches(&other.fixed) && (self.is_prefix || !other.is_prefix)
    }
}

impl FromStr for TopicPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let prefix = text.strip_suffix('*');
        let fixed = prefix.unwrap_or(text);
        if fixed.contains('*') {
            return Err(InvalidPattern);
        }
        Ok(Self {
            fixed: fixed.into(),
            is_prefix: prefix.is_some(),
        })
    }
}

/// A pattern, or its text in the program.
///
/// ```
/// use slackir::pattern::{IntoPattern, TopicPattern};
///
/// let pattern = "room:*".into_pattern();
/// assert!(pattern.matches("room:lobby"));
/// // Text from outside the program may be no pattern, and is parsed instead:
/// assert!("room:*:x".parse::<TopicPattern>().is_err());
/// ```
pub trait IntoPattern {
    /// The pattern.
    ///
    /// # Panics
    /// If a text has a `*` before its end.
    fn into_pattern(self) -> TopicPattern;
}

impl IntoPattern for TopicPattern {
    fn into_pattern(self) -> Self {
        self
    }
}

impl IntoPattern for &TopicPattern {
    fn into_pattern(self) -> TopicPattern {
        self.clone()
    }
}

impl IntoPattern for &String {
    fn into_pattern(self) -> TopicPattern {
        TopicPattern::new(self)
    }
}

impl IntoPattern for &str {
    fn into_pattern(self) -> TopicPattern {
        TopicPattern::new(self)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fixed)?;
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

/// A value that applies to the topics of a pattern.
pub(crate) trait ForTopics {
    /// Its pattern.
    fn pattern(&self) -> &TopicPattern;
}

impl<T: ForTopics> ForTopics for Arc<T> {
    fn pattern(&self) -> &TopicPattern {
        (**self).pattern()
    }
}

/// The first value whose pattern matches the topic.
pub(crate) fn first_match<'a, T: ForTopics>(
    values: impl IntoIterator<Item = &'a T>,
    topic: &str,
) -> Option<&'a T> {
    values
        .into_iter()
        .find(|value| value.pattern().matches(topic))
}

/// The positions of two values of which the first covers the topics of the second, if there are any.
pub(crate) fn shadowed(values: &[impl ForTopics]) -> Option<(usize, usize)> {
    values.iter().enumerate().find_map(|(later, value)| {
        let pattern = value.pattern();
        let mut earlier = values[..later].iter();
        let first = earlier.position(|earlier| earlier.pattern().covers(pattern))?;
        Some((first, later))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ForTopics for TopicPattern {
        fn pattern(&self) -> &TopicPattern {
            self
        }
    }

    fn patterns(texts: &[&str]) -> Vec<TopicPattern> {
        texts.iter().map(|text| TopicPattern::new(text)).collect()
    }

    #[test]
    fn the_first_match_counts() {
        let patterns = patterns(&["room:lobby", "room:*", "*"]);
        for (topic, matched) in [
            ("room:lobby", "room:lobby"),
            ("room:lobby2", "room:*"),
            ("news", "*"),
        ] {
            let first = first_match(&patterns, topic).expect("one matches");
            assert_eq!(first.to_string(), matched);
        }
        assert!(first_match(&patterns[..2], "news").is_none());
    }

    #[test]
    fn a_pattern_behind_a_wider_one_is_shadowed() {
        for (texts, expected) in [
            (&["room:*", "room:a"][..], Some((0, 1))),
            (&["a", "*", "room:*"], Some((1, 2))),
            (&["a", "b", "a"], Some((0, 2))),
            (&["room:a", "room:*"], None),
            (&["room:a", "room:a*"], None),
        ] {
            assert_eq!(shadowed(&patterns(texts)), expected, "{texts:?}");
        }
    }
}
