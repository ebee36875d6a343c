//! [`Listing`]: the query of a list, which names a page of a topic's messages.

use std::borrow::Cow;

use super::ApiError;
use super::error::FieldProblems;
use crate::log::{MessageId, Seq};
use crate::store::Window;

const BEFORE: &str = "before";
const AFTER: &str = "after";
const LIMIT: &str = "limit";

/// The messages of a page without `limit`, and the most that `limit` may ask for.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1_000;

/// A page: its bounds, and its most messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) window: Window,
    pub(super) limit: usize,
}

impl Listing {
    /// Reads `before`, `after` and `limit`.
    pub(super) fn read(query: &str) -> Result<Self, ApiError> {
        let (mut before, mut after, mut limit) = (None, None, None);
        let mut problems = FieldProblems::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let problem = match &*name {
                BEFORE => set(&mut before, seq(&value)),
                AFTER => set(&mut after, seq(&value)),
                LIMIT => set(&mut limit, limited(&value)),
                _ => Err("is not known here".into()),
            };
            if let Err(problem) = problem {
                problems.insert(name.into_owned(), problem);
            }
        }
        if !problems.is_empty() {
            return Err(ApiError::Invalid(problems));
        }
        Ok(Self {
            window: Window { after, before },
            limit: limit.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

type Problem = Cow<'static, str>;

fn set<T>(field: &mut Option<T>, value: Result<T, Problem>) -> Result<(), Problem> {
    match field.replace(value?) {
        None => Ok(()),
        Some(_) => Err("is there twice".into()),
    }
}

fn seq(text: &str) -> Result<Seq, Problem> {
    let id: Result<MessageId, _> = text.parse();
    id.map(|id| id.seq)
        .map_err(|_| "must be the id of a message".into())
}

fn limited(text: &str) -> Result<usize, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|_| digits);
    limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| format!("must be a number from 1 to {MAX_LIMIT}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_page() {
        for (query, after, before, limit) in [
            ("", None, None, 50),
            ("limit=1000", None, None, 1_000),
            ("before=2f-17", None, Some(17), 50),
            ("after=0-0&limit=1", Some(0), None, 1),
            ("after=1-2&before=3-4", Some(2), Some(4), 50),
        ] {
            let read = Listing::read(query).expect("sound");
            let window = Window {
                after: after.map(Seq::new),
                before: before.map(Seq::new),
            };
            assert_eq!(read, Listing { window, limit }, "{query}");
        }
    }

    #[test]
    fn each_parameter_that_is_wrong_is_named() {
        for (query, names) in [
            ("limit=0", &["limit"][..]),
            ("limit=1001", &["limit"]),
            ("limit=%2B5", &["limit"]),
            ("limit=", &["limit"]),
            ("limit=1&limit=2", &["limit"]),
            ("before=17", &["before"]),
            ("before=", &["before"]),
            ("after=x&limit=x&colour=1", &["after", "colour", "limit"]),
        ] {
            let Err(ApiError::Invalid(problems)) = Listing::read(query) else {
                panic!("{query} is sound");
            };
            assert!(problems.keys().eq(names), "{query}: {problems:?}");
        }
    }
}
