//! [`Step`]: a line of a trial. Pure.

use bytestring::ByteString;
use serde_json::{Map, Value};

use crate::message::Message;
use crate::serializer::Serializer;
use crate::transport::parse_query;

/// A line of a trial.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    /// The line.
    pub(super) text: &'a str,
    pub(super) action: Action<'a>,
}

/// The action of a step.
#[derive(Debug)]
pub(super) enum Action<'a> {
    /// An empty line or a comment.
    Nothing,
    /// `ada connect name=ada`
    Connect(&'a str, Map<String, Value>),
    /// `ada close`
    Close(&'a str),
    /// `ada ["1","1","room:1","phx_join",{}]`
    Send(&'a str, Message),
}

/// A line that is no step.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct InvalidStep {
    /// The number of the line, from 1.
    line: usize,
    problem: String,
}

/// Reads all lines of a trial.
///
/// # Errors
/// At the first line that is no step.
pub(crate) fn parse(text: &str) -> Result<Vec<Step<'_>>, InvalidStep> {
    let steps = text.lines().enumerate().map(|(index, text)| {
        let action = action(text.trim()).map_err(|problem| InvalidStep {
            line: index + 1,
            problem,
        })?;
        Ok(Step { text, action })
    });
    steps.collect()
}

fn action(text: &str) -> Result<Action<'_>, String> {
    if text.is_empty() || text.starts_with('#') {
        return Ok(Action::Nothing);
    }
    let (client, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim_start();
    if rest.starts_with('[') {
        let message = Serializer::V2.decode_text(&ByteString::from(rest));
        let message = message.map_err(|error| error.to_string())?;
        return Ok(Action::Send(client, message));
    }
    let mut words = rest.split_whitespace();
    match (words.next(), words.clone().next()) {
        (Some("connect"), _) => {
            let query: Vec<_> = words.collect();
            let params = parse_query(&query.join("&")).map_err(|error| error.to_string())?;
            Ok(Action::Connect(client, params))
        }
        (Some("close"), None) => Ok(Action::Close(client)),
        _ => Err(format!(
            "{text:?} must be NAME connect PARAM=VALUE .., NAME close, or NAME and a frame \
             [join_ref, ref, topic, event, payload]"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_a_step() {
        let text = "# two clients\n\nada connect name=Ada+L roles[]=x  vsn=2.0.0\nada close\nbob [null,\"1\",\"phoenix\",\"heartbeat\",{}]";
        let steps = parse(text).expect("steps");
        let actions: Vec<_> = steps.iter().map(|step| &step.action).collect();
        assert!(matches!(actions[0], Action::Nothing) && matches!(actions[1], Action::Nothing));
        let Action::Connect("ada", params) = actions[2] else {
            panic!("{:?}", actions[2]);
        };
        let expected = json!({"name": "Ada L", "roles": ["x"], "vsn": "2.0.0"});
        assert_eq!(Value::Object(params.clone()), expected);
        assert!(matches!(actions[3], Action::Close("ada")));
        assert!(matches!(actions[4], Action::Send("bob", _)));
    }

    #[test]
    fn a_line_that_is_no_step_is_named() {
        for (text, problem) in [
            ("ada", "line 1: \"ada\" must be NAME connect"),
            ("\nada say hi", "line 2: \"ada say hi\" must be"),
            ("ada close now", "must be NAME connect"),
            ("ada [1,2]", "line 1: not a message"),
            ("ada connect name=%ff", "not UTF-8"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
