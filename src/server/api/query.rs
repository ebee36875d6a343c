//! [`QueryFields`]: a query, field by field, so that one answer names every wrong one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use super::ApiError;
use super::error::FieldProblems;

const LIMIT: &str = "limit";

/// The items of a list without `limit`, and the most that `limit` may ask for.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// The fields of a query that are not yet read, and the problems of those that are.
pub(super) struct QueryFields<'a> {
    fields: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    problems: FieldProblems,
}

impl<'a> QueryFields<'a> {
    pub(super) fn read(query: &'a str) -> Self {
        let mut fields = BTreeMap::new();
        let mut problems = FieldProblems::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if fields.insert(name.clone(), value).is_some() {
                problems.insert(name.into_owned(), "is there twice".into());
            }
        }
        Self { fields, problems }
    }

    /// A text; `None` if the field is absent or empty.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.fields.remove(name)?.into_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A value that is written as a text.
    pub(super) fn parsed<T: FromStr>(&mut self, name: &str, problem: &'static str) -> Option<T> {
        let parsed = self.text(name)?.parse().ok();
        if parsed.is_none() {
            self.problems.insert(name.to_owned(), problem.into());
        }
        parsed
    }

    /// One of these names.
    pub(super) fn one_of<T: Copy>(&mut self, name: &str, values: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = values.iter().find(|(known, _)| *known == text);
        if found.is_none() {
            let names: Vec<_> = values.iter().map(|(known, _)| *known).collect();
            let problem = format!("must be one of: {}", names.join(", "));
            self.problems.insert(name.to_owned(), problem.into());
        }
        found.map(|(_, value)| *value)
    }

    /// The most items of the answer.
    pub(super) fn limit(&mut self) -> usize {
        let Some(text) = self.fields.remove(LIMIT) else {
            return DEFAULT_LIMIT;
        };
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text.parse().ok().filter(|_| is_number);
        let limit = limit.filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.unwrap_or_else(|| {
            let problem = format!("must be a number from 1 to {MAX_LIMIT}");
            self.problems.insert(LIMIT.to_owned(), problem.into());
            DEFAULT_LIMIT
        })
    }

    /// Fails if a field was wrong or is unknown.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        let unknown = std::mem::take(&mut self.fields).into_keys();
        let unknown = unknown.map(|name| (name.into_owned(), "is not known here".into()));
        self.problems.extend(unknown);
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(self.problems))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(query: &str) -> FieldProblems {
        let mut fields = QueryFields::read(query);
        fields.limit();
        fields.one_of("sort", &[("members", 1), ("topic", 2)]);
        fields.parsed::<std::net::IpAddr>("address", "must be an address");
        match fields.finish() {
            Err(ApiError::Invalid(problems)) => problems,
            _ => FieldProblems::new(),
        }
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        for (query, names) in [
            ("", &[][..]),
            ("limit=1000&sort=topic&address=%3A%3A1", &[]),
            ("address=&sort=", &[]),
            ("limit=0", &["limit"]),
            ("limit=1001", &["limit"]),
            ("limit=%2B5", &["limit"]),
            ("limit=1&limit=1", &["limit"]),
            ("sort=size", &["sort"]),
            ("colour=1&address=here", &["address", "colour"]),
        ] {
            let problems = problems(query);
            assert!(problems.keys().eq(names), "{query}: {problems:?}");
        }
    }
}
