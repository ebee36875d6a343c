//! The query of an erasure: `name`, the author of the messages.

use super::ApiError;
use super::error::FieldProblems;

pub(super) const NAME: &str = "name";

/// Reads `name`; `None` if it is absent.
pub(super) fn name(query: &str) -> Result<Option<String>, ApiError> {
    let mut found = None;
    let mut problems = FieldProblems::new();
    for (field, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let problem = match &*field {
            NAME if value.is_empty() || value.contains('\0') => {
                "must be a text of at least one character, without NUL"
            }
            NAME => match found.replace(value.into_owned()) {
                None => continue,
                Some(_) => "is there twice",
            },
            _ => "is not known here",
        };
        problems.insert(field.into_owned(), problem.into());
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(ApiError::Invalid(problems))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_writer_or_none() {
        for (query, found) in [
            ("", None),
            ("name=ada", Some("ada")),
            ("name=ada%20%26+co", Some("ada & co")),
        ] {
            assert_eq!(name(query).expect("sound").as_deref(), found, "{query}");
        }
        for (query, field) in [
            ("name=", NAME),
            ("name", NAME),
            ("name=a%00", NAME),
            ("name=a&name=b", NAME),
            ("nmae=ada", "nmae"),
        ] {
            let Err(ApiError::Invalid(problems)) = name(query) else {
                panic!("{query} is sound");
            };
            assert!(problems.keys().eq([field]), "{query}: {problems:?}");
        }
    }
}
