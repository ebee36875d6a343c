//! Plays the recorded scenarios of `tests/fixtures/conformance` against a server and compares what it
//! answers with what Phoenix answered. The README beside the fixtures says what a step means.
//!
//! A scenario ends at its first difference, because those that follow would mostly repeat it, each with a
//! deadline to wait for. Scenarios share topics, so each has a server of its own.
//!
//! The same steps are played over either transport; what a transport cannot play it leaves out itself.
#![allow(dead_code, reason = "no single test uses every word of it")]

use super::server::TestServer;
use super::transport::Wire;
use super::wire::{self, DEADLINE, Frame, RawFrame, WireClient};
use serde_json::{Number, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::{fmt, net::SocketAddr, path::Path, time::Duration};

/// Where the files given to [`check`] are; an absolute path stays what it is.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/conformance");

const KINDS: [&str; 11] = [
    "http", "connect", "send", "binary", "raw", "ping", "recv", "drain", "close", "abort", "wait",
];

/// Why a step cannot be carried out: as a rule the server does not answer, else the fixture is wrong.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// How the scenarios of one file went.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    /// One for each scenario that did not pass.
    pub(crate) failed: Vec<Failure>,
}

/// The first step of a scenario that went otherwise than recorded.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) file: String,
    pub(crate) scenario: String,
    /// Counted from 0.
    pub(crate) step: usize,
    /// The step as the fixture has it, without its "got".
    pub(crate) action: Value,
    pub(crate) want: Value,
    pub(crate) got: Value,
    /// The place of the first difference, or why the step could not be carried out.
    pub(crate) reason: String,
}

/// Plays the scenarios of `file` over a transport, as far as it can play them.
pub(crate) async fn check<W: Wire>(start: impl Fn() -> TestServer, file: &str) -> Report {
    let mut passed = 0;
    let mut failed = Vec::new();
    for scenario in load(file) {
        let name = plain_text(&scenario["name"]);
        let steps = scenario["steps"].as_array();
        let Some(steps) = W::playable(steps.expect("a scenario should have steps")) else {
            continue;
        };
        let server = start();
        match Stage::<W>::new(server.addr).play(file, name, &steps).await {
            None => passed += 1,
            Some(failure) => failed.push(failure),
        }
    }
    Report { passed, failed }
}

fn load(file: &str) -> Vec<Value> {
    let path = Path::new(FIXTURES).join(file);
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("fixture {}: {error}", path.display()));
    let mut fixture: Value = serde_json::from_str(&text).expect("a fixture should be JSON");
    match fixture["scenarios"].take() {
        Value::Array(scenarios) => scenarios,
        other => panic!("{file} should hold a list of scenarios, not {other}"),
    }
}

impl Report {
    /// Fails the test unless `count` scenarios passed and none failed. The count is there because
    /// leaving out everything must not pass.
    #[track_caller]
    pub(crate) fn expect_passed(&self, count: usize) {
        assert!(self.failed.is_empty(), "{self}");
        assert_eq!(self.passed, count, "the number of scenarios played");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed.len())?;
        self.failed.iter().try_for_each(|one| write!(f, "\n{one}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.file, self.scenario)?;
        writeln!(f, "  step {}: {}", self.step, short(&self.action))?;
        writeln!(f, "  {}", self.reason)?;
        writeln!(f, "  want {}", short(&self.want))?;
        write!(f, "  got  {}", short(&self.got))
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

/// What one scenario has built up so far.
struct Stage<W> {
    addr: SocketAddr,
    /// The connections by their "c".
    clients: HashMap<String, W>,
    /// What "save" kept for `${...}`.
    saved: BTreeMap<String, String>,
    placeholders: Placeholders,
}

impl<W: Wire> Stage<W> {
    fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            clients: HashMap::new(),
            saved: BTreeMap::new(),
            placeholders: Placeholders::default(),
        }
    }

    /// Plays the steps until one goes wrong.
    async fn play(mut self, file: &str, scenario: String, steps: &[Value]) -> Option<Failure> {
        let mut failure = None;
        for (step, recorded) in steps.iter().enumerate() {
            let mut action = recorded.clone();
            let want = action.as_object_mut().and_then(|step| step.remove("got"));
            let expected = want.as_ref().and_then(Value::as_array).map_or(0, Vec::len);
            let outcome = self.perform(&action, expected).await;
            let reason = match (&want, &outcome) {
                (_, Err(error)) => Some(format!("not carried out: {error}")),
                (Some(want), Ok(got)) => difference(want, got, action["unordered"] == true),
                (None, Ok(_)) => None,
            };
            if let Some(reason) = reason {
                failure = Some(Failure {
                    file: file.to_owned(),
                    scenario,
                    step,
                    action,
                    want: want.unwrap_or_default(),
                    got: outcome.unwrap_or_default(),
                    reason,
                });
                break;
            }
        }
        failure
    }

    /// Carries out one step and returns what there is to compare; `expected` says how many frames
    /// were recorded.
    async fn perform(&mut self, step: &Value, expected: usize) -> Result<Value, Error> {
        let mut step = step.clone();
        self.fill(&mut step)?;
        let of_kind = |&kind: &&'static str| Some((kind, step.get(kind)?));
        let (kind, value) = KINDS.iter().find_map(of_kind).ok_or("no known step")?;
        let name = plain_text(&step["c"]);
        match kind {
            "http" => return self.request(&step).await,
            "connect" => return self.connect(name, &step).await,
            "wait" => tokio::time::sleep(milliseconds(value)?).await,
            "abort" => match self.clients.remove(&name) {
                Some(client) => client.abort().await,
                None => return Err("no such connection".into()),
            },
            _ => {
                let client = self.clients.get_mut(&name).ok_or("no such connection")?;
                let frames = match kind {
                    "recv" => client.recv(natural(value)?, DEADLINE).await,
                    "drain" => {
                        client
                            .received()
                            .drain(expected, milliseconds(value)?)
                            .await
                    }
                    _ => {
                        // A server that has gone meanwhile shows in what the next step receives.
                        let _ = client.send_frame(&outgoing(kind, value)?).await;
                        if kind != "close" {
                            return Ok(Value::Null);
                        }
                        let silence = Duration::from_millis(500);
                        client.received().drain(expected, silence).await
                    }
                };
                let mut shown = frames.into_iter().map(as_recorded).collect();
                self.placeholders.put(&mut shown);
                return Ok(shown);
            }
        }
        Ok(Value::Null)
    }

    async fn connect(&mut self, name: String, step: &Value) -> Result<Value, Error> {
        // Recorded over WebSocket, whatever the transport is now.
        let recorded = plain_text(&step["connect"]);
        let target = recorded.replacen(WireClient::PATH, W::PATH, 1);
        let (client, answer) = W::dial(self.addr, &target, &headers(step)).await?;
        self.clients.extend(client.map(|client| (name, client)));
        let mut got = json!({"status": answer.status});
        if let Some(subprotocol) = answer.subprotocol {
            got["subprotocol"] = json!(subprotocol);
        }
        Ok(got)
    }

    async fn request(&mut self, step: &Value) -> Result<Value, Error> {
        let (method, target) = (plain_text(&step["http"]), plain_text(&step["path"]));
        let body = step.get("body").map(plain_text).unwrap_or_default();
        let headers = headers(step);
        let answer = wire::http(self.addr, &method, &target, &headers, body.as_bytes()).await?;
        let mut body = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&answer.body)));
        for (name, path) in step["save"].as_object().into_iter().flatten() {
            let found = items(path).try_fold(&body, |inside, key| inside.get(key.as_str()?));
            if let Some(found) = found {
                self.saved.insert(name.clone(), plain_text(found));
            }
        }
        if let Some(Value::Array(messages)) = body.get_mut("messages") {
            messages.iter_mut().for_each(parse_message);
        }
        let mut got = json!({"status": answer.status, "body": null});
        if step["status_only"] != true {
            self.placeholders.put(&mut body);
            got["body"] = body;
        }
        for name in items(&step["headers_of_interest"]).map(plain_text) {
            got["headers"][&name] = json!(answer.headers.get(&name));
        }
        Ok(got)
    }

    /// Puts in what `${name}`, `${name:q}` (percent-encoded) and `{"$repeat": [text, times]}` stand for.
    fn fill(&self, value: &mut Value) -> Result<(), Error> {
        match value {
            Value::String(text) => {
                for (name, saved) in &self.saved {
                    *text = text.replace(&format!("${{{name}}}"), saved);
                    *text = text.replace(&format!("${{{name}:q}}"), &percent_encoded(saved));
                }
                if text.contains("${") {
                    return Err(format!("nothing was saved for {text:?}").into());
                }
            }
            Value::Object(fields) => match fields.get("$repeat") {
                Some(repeat) => {
                    *value = plain_text(&repeat[0]).repeat(natural(&repeat[1])?).into();
                }
                None => fields.values_mut().try_for_each(|field| self.fill(field))?,
            },
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.fill(item))?,
            _ => {}
        }
        Ok(())
    }
}

fn outgoing(kind: &str, value: &Value) -> Result<RawFrame, Error> {
    Ok(match kind {
        "send" => RawFrame::new(1, plain_text(value)),
        "binary" => RawFrame::new(2, unhex(value)?),
        "close" => RawFrame::new(8, u16::try_from(natural(value)?)?.to_be_bytes()),
        "ping" => RawFrame::new(9, unhex(value)?),
        _ => {
            let times = value.get("repeat").map_or(Ok(1), natural)?;
            let payload = unhex(&value["hex"])?.repeat(times);
            let mut frame = RawFrame::new(u8::try_from(natural(&value["opcode"])?)?, payload);
            frame.fin = value["fin"] != false;
            frame
        }
    })
}

/// A frame in the words of the fixtures.
fn as_recorded(frame: Frame) -> Value {
    match frame {
        Frame::Text(value) => json!({"text": value}),
        Frame::RawText(text) => json!({"raw_text": text}),
        Frame::Binary(bytes) => json!({"binary": hex(&bytes)}),
        Frame::Pong(bytes) => json!({"pong": hex(&bytes)}),
        Frame::Close(code) => json!({"close": code}),
        Frame::Eof => json!({"eof": true}),
        Frame::Violation(what) => json!({"violation": what}),
    }
}

/// A long-poll message is a string; the order of keys inside means nothing, so it is compared parsed.
fn parse_message(message: &mut Value) {
    if let Value::String(text) = message {
        *message = match serde_json::from_str::<Value>(text) {
            Ok(value) => json!({"text": value}),
            Err(_) => json!({"raw_text": text}),
        };
    }
}

/// Gives values that are new in every run the names that the recording gave them: numbered as they
/// first appear, the same value always under the same name.
#[derive(Default)]
struct Placeholders(HashMap<(&'static str, String), String>);

impl Placeholders {
    fn name(&mut self, kind: &'static str, value: &Value) -> Value {
        let name = format!("<{kind}{}>", self.0.len() + 1);
        let known = self.0.entry((kind, value.to_string()));
        json!(known.or_insert(name))
    }

    fn put(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let long = value.as_str().is_some_and(|text| text.len() > 30);
                    match key.as_str() {
                        "phx_ref" | "phx_ref_prev" => *value = self.name("ref", value),
                        "token" if long => *value = self.name("token", value),
                        _ => self.put(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.put(item)),
            Value::String(text) => {
                if let Some(short) = as_repeat(text) {
                    *value = short;
                }
            }
            _ => {}
        }
    }
}

/// A long run of one character, as the fixtures abbreviate it.
fn as_repeat(text: &str) -> Option<Value> {
    let first = text.chars().next()?;
    let count = text.chars().count();
    let uniform = count > 1000 && text.chars().all(|other| other == first);
    uniform.then(|| json!({"$repeat": [first, count]}))
}

/// Where `got` first differs from `want`; unordered lists are compared as multisets.
fn difference(want: &Value, got: &Value, unordered: bool) -> Option<String> {
    let (Value::Array(wanted), Value::Array(arrived), true) = (want, got, unordered) else {
        return first_difference(want, got, "got");
    };
    let mut left: Vec<&Value> = arrived.iter().collect();
    for frame in wanted {
        let same = |other: &&Value| first_difference(frame, other, "").is_none();
        match left.iter().position(same) {
            Some(found) => drop(left.remove(found)),
            None => return Some(format!("missing, in any order: {}", short(frame))),
        }
    }
    let extra = left.first()?;
    Some(format!("not expected: {}", short(extra)))
}

fn first_difference(want: &Value, got: &Value, at: &str) -> Option<String> {
    match (want, got) {
        (Value::Array(wanted), Value::Array(arrived)) => {
            let mut pairs = wanted.iter().zip(arrived).enumerate();
            let inside = |(i, (want, got))| first_difference(want, got, &format!("{at}[{i}]"));
            let (wanted, arrived) = (wanted.len(), arrived.len());
            let count = format!("{at} has {arrived} elements instead of {wanted}");
            let other_count = (wanted != arrived).then_some(count);
            pairs.find_map(inside).or(other_count)
        }
        (Value::Object(wanted), Value::Object(arrived)) if wanted.len() == arrived.len() => {
            let inside = |(key, want): (&String, _)| match arrived.get(key) {
                Some(got) => first_difference(want, got, &format!("{at}.{key}")),
                None => Some(format!("{at}.{key} is missing")),
            };
            wanted.iter().find_map(inside)
        }
        (Value::Number(want), Value::Number(got)) if same_number(want, got) => None,
        _ if want == got => None,
        _ => Some(format!("{at}: want {}, got {}", short(want), short(got))),
    }
}

/// `1` and `1.0` are one number, and integers are compared to the last digit.
fn same_number(want: &Number, got: &Number) -> bool {
    let whole = |float: f64| (float.fract() == 0.0 && float.abs() < 1e38).then_some(float as i128);
    let integer = |n: &Number| n.as_i128().or_else(|| n.as_f64().and_then(whole));
    match (integer(want), integer(got)) {
        (None, None) => want.as_f64() == got.as_f64(),
        (want, got) => want == got,
    }
}

fn headers(step: &Value) -> Vec<(&str, Option<&str>)> {
    let headers = step["headers"].as_object().into_iter().flatten();
    headers
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A string without its quotes, anything else as JSON.
fn plain_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn natural(value: &Value) -> Result<usize, Error> {
    let number = value
        .as_u64()
        .ok_or_else(|| format!("{value} is no count"))?;
    Ok(usize::try_from(number)?)
}

fn milliseconds(value: &Value) -> Result<Duration, Error> {
    Ok(Duration::from_millis(natural(value)? as u64))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(value: &Value) -> Result<Vec<u8>, Error> {
    let digits = value.as_str().ok_or("no hexadecimal string")?;
    let starts = (0..digits.len()).step_by(2);
    let pairs = starts.map(|start| digits.get(start..start + 2).ok_or("half a byte"));
    pairs
        .map(|pair| Ok(u8::from_str_radix(pair?, 16)?))
        .collect()
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
            char::from(byte).into()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
