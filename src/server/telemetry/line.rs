//! Formats an event as one line. Values are quoted and cut here: a client's text cannot begin a line, forge a
//! field or move a terminal's cursor. Text and JSON have the same fields by construction.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Display, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

use crate::server::config::LogFormat;

/// The most bytes of a text value: most texts come from clients.
pub(crate) const MAX_TEXT: usize = 200;

/// The most bytes of an error: those of the database are long.
const MAX_VALUE: usize = 1_000;

/// The fields whose values come from the server and its libraries. All others may come from a client.
const OWN: [&str; 3] = ["error", "panic", "source"];

/// The mark at the end of a cut value.
const CUT: char = '…';

/// The field with an event's name.
const MESSAGE: &str = "message";

/// Formats events.
pub(super) struct OneLine {
    format: LogFormat,
}

impl OneLine {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, DefaultFields> for OneLine {
    fn format_event(
        &self,
        _: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let fields = EventFields::of(event);
        let line = Line {
            level: *event.metadata().level(),
            target: fields
                .target
                .as_deref()
                .unwrap_or(event.metadata().target()),
            message: &fields.message,
            fields: &fields.fields,
        };
        match self.format {
            LogFormat::Text => line.write_text(writer.has_ansi_escapes(), &mut writer),
            LogFormat::Json => line.write_json(&mut writer),
        }
    }
}

/// The line with the error that ends the process, and a line break. As text it has no time and no level: it
/// is read at a terminal.
pub(crate) fn fatal(format: LogFormat, error: &dyn Display) -> String {
    let error = error.to_string();
    let mut line = String::new();
    let written = match format {
        LogFormat::Text => writeln!(line, "slackir: {}", OneLined(&error)),
        LogFormat::Json => Line {
            level: Level::ERROR,
            target: "slackir",
            message: "process.failed",
            fields: &[("error", FieldValue::Text(error))],
        }
        .write_json(&mut line),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
    line
}

/// The name of an event: its message.
pub(super) fn name(event: &Event<'_>) -> String {
    EventFields::of(event).message
}

/// The name of an event and its fields.
pub(super) fn json_fields(event: &Event<'_>) -> (String, Map<String, Value>) {
    let EventFields {
        message, fields, ..
    } = EventFields::of(event);
    let fields = fields.into_iter().map(|(name, value)| {
        let value = match value {
            FieldValue::Literal(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            FieldValue::Word(text) | FieldValue::Text(text) => Value::String(text),
        };
        (name.to_owned(), value)
    });
    (message, fields.collect())
}

/// The parts of a line.
struct Line<'a> {
    level: Level,
    target: &'a str,
    message: &'a str,
    fields: &'a [(&'static str, FieldValue)],
}

impl Line<'_> {
    fn write_text(&self, ansi: bool, out: &mut impl Write) -> fmt::Result {
        let (color, plain) = match (ansi, self.level) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
            (true, _) => ("\x1b[32m", "\x1b[0m"),
        };
        let Self { level, target, .. } = self;
        write!(out, "{} {color}{level:>5}{plain} {target}: ", now())?;
        write!(out, "{}", OneLined(self.message))?;
        for (name, value) in self.fields {
            match value {
                FieldValue::Literal(value) => write!(out, " {name}={value}")?,
                FieldValue::Word(value) if is_plain(value) => write!(out, " {name}={value}")?,
                FieldValue::Word(value) | FieldValue::Text(value) => {
                    // As `Debug` of a text, without escaping apostrophes.
                    let quoted = value.escape_debug().to_string().replace("\\'", "'");
                    write!(out, " {name}=\"{quoted}\"")?;
                }
            }
        }
        writeln!(out)
    }

    /// The shape of tracing-subscriber's JSON.
    fn write_json(&self, out: &mut impl Write) -> fmt::Result {
        let Self { level, target, .. } = self;
        write!(out, "{{\"timestamp\":\"{}\",\"level\":\"{level}\",", now())?;
        write!(out, "\"fields\":{{\"{MESSAGE}\":{}", JsonText(self.message))?;
        for (name, value) in self.fields {
            match value {
                FieldValue::Literal(value) => write!(out, ",\"{name}\":{value}")?,
                FieldValue::Word(value) | FieldValue::Text(value) => {
                    write!(out, ",\"{name}\":{}", JsonText(value))?;
                }
            }
        }
        writeln!(out, "}},\"target\":{}}}", JsonText(target))
    }
}

fn now() -> String {
    let mut now = String::new();
    // Writing to a String never fails.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    now
}

/// A field's value.
enum FieldValue {
    /// A number or a boolean.
    Literal(String),
    /// A value that the program has formatted; quoted if necessary.
    Word(String),
    /// A text, which is always quoted.
    Text(String),
}

/// The fields of an event.
#[derive(Default)]
struct EventFields {
    message: String,
    fields: Vec<(&'static str, FieldValue)>,
    /// The target of an event that comes from the crate `log`.
    target: Option<String>,
}

impl EventFields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    fn add(&mut self, field: &Field, value: FieldValue) {
        let name = field.name();
        match (name, value) {
            (
                MESSAGE,
                FieldValue::Literal(text) | FieldValue::Word(text) | FieldValue::Text(text),
            ) => {
                self.message = text;
            }
            ("log.target", FieldValue::Word(text) | FieldValue::Text(text)) => {
                self.target = Some(text);
            }
            ("log.module_path" | "log.file" | "log.line", _) => {}
            (_, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for EventFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON knows no others.
        let value = if value.is_finite() {
            FieldValue::Literal(value.to_string())
        } else {
            FieldValue::Word(value.to_string())
        };
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, FieldValue::Literal(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, FieldValue::Literal(value.to_string()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.add(field, FieldValue::Literal(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.add(field, FieldValue::Literal(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, FieldValue::Literal(value.to_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, FieldValue::Text(cut(value, MAX_TEXT).into_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = Bounded::new(MAX_VALUE);
        let mut written = write!(text, "{value}");
        let mut cause = value.source();
        while let (Ok(()), Some(error)) = (written, cause) {
            written = write!(text, ": {error}");
            cause = error.source();
        }
        self.add(field, FieldValue::Word(text.finish()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_own = OWN.contains(&field.name());
        let mut text = Bounded::new(if is_own { MAX_VALUE } else { MAX_TEXT });
        // It fails at the bound, on purpose.
        let _ = write!(text, "{value:?}");
        self.add(field, FieldValue::Word(text.finish()));
    }
}

/// Whether a value needs no quotes: it cannot be read as another field or another line.
fn is_plain(value: &str) -> bool {
    let plain = |c: char| !matches!(c, '"' | '=' | '\\') && !c.is_whitespace() && is_printable(c);
    !value.is_empty() && value.chars().all(plain)
}

/// Whether a character is visible and does not change the characters around it.
fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

/// The beginning of a text, at most `max` bytes.
fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}{CUT}", &text[..text.floor_char_boundary(max)]))
}

/// A text with a bound: a write beyond it fails.
struct Bounded {
    text: String,
    max: usize,
    is_cut: bool,
}

impl Bounded {
    fn new(max: usize) -> Self {
        Self {
            text: String::new(),
            max,
            is_cut: false,
        }
    }

    fn finish(mut self) -> String {
        if self.is_cut {
            self.text.push(CUT);
        }
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.max - self.text.len();
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        self.is_cut = true;
        self.max = self.text.len();
        Err(fmt::Error)
    }
}

/// Displays a text with its line breaks and other invisible characters escaped.
struct OneLined<'a>(&'a str);

impl Display for OneLined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if is_printable(c) {
                f.write_char(c)
            } else {
                write!(f, "{}", c.escape_debug())
            }
        })
    }
}

/// Displays a text as JSON, with all invisible characters escaped.
struct JsonText<'a>(&'a str);

impl Display for JsonText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                _ if is_printable(c) => f.write_char(c)?,
                _ => {
                    let units = &mut [0; 2];
                    for unit in c.encode_utf16(units) {
                        write!(f, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EVIL: &str = "a\n2026 ERROR x: forged\u{1b}[31m\u{9b}2J\u{202e} b=\"c\" '\\";

    fn text_of(value: FieldValue) -> String {
        let mut line = String::new();
        line_with(&[("topic", value)])
            .write_text(false, &mut line)
            .expect("a String takes everything");
        line
    }

    fn line_with<'a>(fields: &'a [(&'static str, FieldValue)]) -> Line<'a> {
        Line {
            level: Level::INFO,
            target: "slackir::socket",
            message: "socket.topic.unknown",
            fields,
        }
    }

    #[test]
    fn a_text_line_is_one_line_whose_values_are_quoted_where_they_need_it() {
        for (value, shown) in [
            (FieldValue::Literal("7".to_owned()), "7"),
            (
                FieldValue::Word("127.0.0.1:4000".to_owned()),
                "127.0.0.1:4000",
            ),
            (
                FieldValue::Word("no such table".to_owned()),
                "\"no such table\"",
            ),
            (FieldValue::Word("a=b".to_owned()), "\"a=b\""),
            (FieldValue::Word(String::new()), "\"\""),
            (FieldValue::Text("random:é".to_owned()), "\"random:é\""),
            (
                FieldValue::Text(EVIL.to_owned()),
                "\"a\\n2026 ERROR x: forged\\u{1b}[31m\\u{9b}2J\\u{202e} b=\\\"c\\\" '\\\\\"",
            ),
        ] {
            let line = text_of(value);
            let wanted = format!(" INFO slackir::socket: socket.topic.unknown topic={shown}\n");
            assert!(line.ends_with(&wanted), "{line} {wanted}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
        }
    }

    #[test]
    fn a_json_line_is_json_without_a_byte_that_a_terminal_obeys() {
        let fields = [
            ("topic", FieldValue::Text(EVIL.to_owned())),
            ("connection", FieldValue::Literal("7".to_owned())),
            ("face", FieldValue::Word("😀\u{e0001}".to_owned())),
        ];
        let mut line = String::new();
        line_with(&fields)
            .write_json(&mut line)
            .expect("a String takes everything");
        assert!(line.trim_end().chars().all(is_printable), "{line}");
        let mut read: Value = serde_json::from_str(&line).expect("JSON");
        assert!(read["timestamp"].take().is_string(), "{line}");
        let wanted = json!({
            "timestamp": null,
            "level": "INFO",
            "fields": {
                "message": "socket.topic.unknown",
                "topic": EVIL,
                "connection": 7,
                "face": "😀\u{e0001}",
            },
            "target": "slackir::socket",
        });
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_fatal_error_is_one_line_in_both_forms() {
        let error = "it\nfailed";
        assert_eq!(fatal(LogFormat::Text, &error), "slackir: it\\nfailed\n");
        let json: Value = serde_json::from_str(&fatal(LogFormat::Json, &error)).expect("JSON");
        assert_eq!(json["level"], "ERROR");
        assert_eq!(json["fields"]["error"], error);
    }

    #[test]
    fn values_are_cut_between_characters() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöü", 5), "äö…");
        let mut bounded = Bounded::new(5);
        assert!(write!(bounded, "{:?}", "äöü".repeat(1_000)).is_err());
        assert!(write!(bounded, "more").is_err());
        assert_eq!(bounded.finish(), "\"äö…");
    }
}
