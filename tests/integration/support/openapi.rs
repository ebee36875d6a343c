//! The server's own OpenAPI document as a judge: what a request was answered must stand in it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::wire::HttpAnswer;

/// A document that was read from a server.
pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn new(text: &[u8]) -> Self {
        Self(serde_json::from_slice(text).expect("the document is JSON"))
    }

    /// Every operation: method in upper case, path.
    pub(crate) fn operations(&self) -> Vec<(String, String)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let operations = paths.iter().flat_map(|(path, item)| {
            let members = item.as_object().expect("a path item").keys();
            let methods = members.filter(|name| *name != "parameters");
            methods.map(|method| (method.to_uppercase(), path.clone()))
        });
        operations.collect()
    }

    /// Every operation by its id: method in upper case, path.
    pub(crate) fn operations_by_id(&self) -> BTreeMap<String, (String, String)> {
        let operations = self.operations().into_iter();
        let by_id = operations.map(|(method, path)| {
            let operation = &self.0["paths"][&path][method.to_lowercase()];
            (text(&operation["operationId"]).to_owned(), (method, path))
        });
        by_id.collect()
    }

    /// Whether the answer to this request is one that the document promises: status, headers, body.
    /// What it does not list must not be served.
    pub(crate) fn judge(&self, method: &str, target: &str, answer: &HttpAnswer) {
        let request = format!("{method} {target}");
        let Some(operation) = self.operation(method, target) else {
            assert!(
                matches!(answer.status, 404 | 405),
                "{request} is not listed, and answered: {answer:?}"
            );
            self.check(&self.0["components"]["schemas"]["Error"], &json(answer));
            return;
        };
        let listed = &operation["responses"][answer.status.to_string()];
        assert!(!listed.is_null(), "{request} may not answer {answer:?}");
        let listed = self.resolve(listed);
        let headers = listed["headers"].as_object();
        for name in headers.into_iter().flat_map(|headers| headers.keys()) {
            let there = answer.headers.contains_key(&name.to_lowercase());
            assert!(there, "{request}: header {name} is missing: {answer:?}");
        }
        match &listed["content"] {
            Value::Null => assert!(answer.body.is_empty(), "{request}: {answer:?}"),
            content => {
                let schema = &content["application/json"]["schema"];
                self.check(schema, &json(answer));
            }
        }
    }

    fn operation(&self, method: &str, target: &str) -> Option<&Value> {
        let path = target.split('?').next().unwrap_or_default();
        let matches = |template: &str| {
            let (mut want, mut have) = (template.split('/'), path.split('/'));
            loop {
                match (want.next(), have.next()) {
                    (None, None) => return true,
                    (Some(variable), Some(value)) if variable.starts_with('{') => {
                        if value.is_empty() {
                            return false;
                        }
                    }
                    (want, have) if want == have => {}
                    _ => return false,
                }
            }
        };
        let mut paths = self.0["paths"].as_object().expect("paths").iter();
        let (_, item) = paths.find(|(template, _)| matches(template))?;
        item.get(method.to_lowercase())
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.trim_start_matches('#');
                self.0
                    .pointer(pointer)
                    .expect("a reference that leads somewhere")
            }
            None => value,
        }
    }

    fn check(&self, schema: &Value, value: &Value) {
        if let Err(problem) = self.holds(schema, value) {
            panic!("{problem} in {value}");
        }
    }

    /// The part of JSON Schema that the document uses; it may use no other.
    fn holds(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema).as_object().expect("a schema");
        for (keyword, rule) in schema {
            let holds = match &**keyword {
                "type" => match rule {
                    Value::Array(types) => types.iter().any(|name| is(name, value)),
                    name => is(name, value),
                },
                "enum" => list(rule).contains(value),
                "required" => list(rule)
                    .iter()
                    .all(|name| value.get(text(name)).is_some()),
                "minLength" => value.as_str().is_none_or(|text| text.len() >= number(rule)),
                "maxLength" => value.as_str().is_none_or(|text| text.len() <= number(rule)),
                "minimum" => value.as_u64().is_some_and(|n| n as usize >= number(rule)),
                "maxItems" => list(value).len() <= number(rule),
                "minProperties" => value.as_object().is_some_and(|o| o.len() >= number(rule)),
                "pattern" => value.as_str().is_some_and(is_id),
                "format" => value.as_str().is_some_and(is_time),
                "oneOf" => {
                    let fitting = list(rule).iter();
                    fitting.filter(|one| self.holds(one, value).is_ok()).count() == 1
                }
                "items" => {
                    list(value)
                        .iter()
                        .try_for_each(|item| self.holds(rule, item))?;
                    true
                }
                "properties" | "additionalProperties" => {
                    self.members(schema, value)?;
                    true
                }
                "description" | "examples" => true,
                other => panic!("the document uses {other}, which nobody checks"),
            };
            if !holds {
                return Err(format!("{keyword} {rule} does not hold"));
            }
        }
        Ok(())
    }

    fn members(
        &self,
        schema: &serde_json::Map<String, Value>,
        value: &Value,
    ) -> Result<(), String> {
        for (name, member) in value.as_object().into_iter().flatten() {
            let known = schema.get("properties").and_then(|known| known.get(name));
            match known.or_else(|| schema.get("additionalProperties")) {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err(format!("{name} is not listed")),
                Some(rule) => self
                    .holds(rule, member)
                    .map_err(|problem| format!("{name}: {problem}"))?,
            }
        }
        Ok(())
    }
}

fn json(answer: &HttpAnswer) -> Value {
    let content_type = answer.headers.get("content-type").map(String::as_str);
    assert_eq!(content_type, Some("application/json"), "{answer:?}");
    serde_json::from_slice(&answer.body).expect("the body is JSON")
}

fn is(name: &Value, value: &Value) -> bool {
    match text(name) {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the document uses the type {other}, which nobody checks"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).expect("a small one")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// The one pattern of the document.
fn is_id(text: &str) -> bool {
    text.parse::<slackir::log::MessageId>().is_ok()
}

/// Microseconds and Z, as the one format of the document is written here.
fn is_time(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "0000-00-00T00:00:00.000000Z"
}
