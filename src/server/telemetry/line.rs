//! An event as one line. Values are quoted and cut here, so that nothing that a client sends can
//! begin a line, pass for another field or move a terminal's cursor; text and JSON have the same
//! fields by construction.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Display, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

use crate::server::config::LogFormat;

/// Bytes of a text that are shown: texts are mostly a client's.
pub(crate) const MAX_TEXT: usize = 200;

/// Bytes of an error that are shown: the database's are long.
const MAX_VALUE: usize = 1_000;

/// The fields that hold what the server and its libraries say. All others may be a client's.
const OWN: [&str; 3] = ["error", "panic", "source"];

/// What stands where something was cut.
const CUT: char = '…';

/// The field that holds an event's name.
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
        let fields = Fields::of(event);
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

/// The line that says why the process ends, with its line break. As text it is for the person at
/// the terminal.
pub(crate) fn fatal(format: LogFormat, error: &dyn Display) -> String {
    let error = error.to_string();
    let mut line = String::new();
    let written = match format {
        LogFormat::Text => writeln!(line, "slackir: {}", OneLined(&error)),
        LogFormat::Json => Line {
            level: Level::ERROR,
            target: "slackir",
            message: "process.failed",
            fields: &[("error", Value::Text(error))],
        }
        .write_json(&mut line),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
    line
}

/// What an event calls itself: its message.
pub(super) fn name(event: &Event<'_>) -> String {
    Fields::of(event).message
}

/// What is written.
struct Line<'a> {
    level: Level,
    target: &'a str,
    message: &'a str,
    fields: &'a [(&'static str, Value)],
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
                Value::Literal(value) => write!(out, " {name}={value}")?,
                Value::Word(value) if is_plain(value) => write!(out, " {name}={value}")?,
                Value::Word(value) | Value::Text(value) => {
                    // As `Debug` of a text, but that apostrophes stay.
                    let quoted = value.escape_debug().to_string().replace("\\'", "'");
                    write!(out, " {name}=\"{quoted}\"")?;
                }
            }
        }
        writeln!(out)
    }

    /// The shape of tracing-subscriber's own JSON.
    fn write_json(&self, out: &mut impl Write) -> fmt::Result {
        let Self { level, target, .. } = self;
        write!(out, "{{\"timestamp\":\"{}\",\"level\":\"{level}\",", now())?;
        write!(out, "\"fields\":{{\"{MESSAGE}\":{}", Json(self.message))?;
        for (name, value) in self.fields {
            match value {
                Value::Literal(value) => write!(out, ",\"{name}\":{value}")?,
                Value::Word(value) | Value::Text(value) => {
                    write!(out, ",\"{name}\":{}", Json(value))?;
                }
            }
        }
        writeln!(out, "}},\"target\":{}}}", Json(target))
    }
}

fn now() -> String {
    let mut now = String::new();
    // It can only fail as a String does: never.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    now
}

/// A field's value.
enum Value {
    /// A number or a truth value.
    Literal(String),
    /// A form that the program has given it; quoted where it needs to be.
    Word(String),
    /// A text, which is always quoted.
    Text(String),
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    fields: Vec<(&'static str, Value)>,
    /// What the crate `log` calls the target.
    target: Option<String>,
}

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    fn add(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match (name, value) {
            (MESSAGE, Value::Literal(text) | Value::Word(text) | Value::Text(text)) => {
                self.message = text;
            }
            ("log.target", Value::Word(text) | Value::Text(text)) => self.target = Some(text),
            ("log.module_path" | "log.file" | "log.line", _) => {}
            (_, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON knows no others.
        let value = if value.is_finite() {
            Value::Literal(value.to_string())
        } else {
            Value::Word(value.to_string())
        };
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Literal(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Literal(value.to_string()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.add(field, Value::Literal(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.add(field, Value::Literal(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Literal(value.to_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(cut(value, MAX_TEXT).into_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = Bounded::new(MAX_VALUE);
        let mut written = write!(text, "{value}");
        let mut cause = value.source();
        while let (Ok(()), Some(error)) = (written, cause) {
            written = write!(text, ": {error}");
            cause = error.source();
        }
        self.add(field, Value::Word(text.finish()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_own = OWN.contains(&field.name());
        let mut text = Bounded::new(if is_own { MAX_VALUE } else { MAX_TEXT });
        // It fails where the bound is, which is what it is for.
        let _ = write!(text, "{value:?}");
        self.add(field, Value::Word(text.finish()));
    }
}

/// Whether a value needs no quotes: nothing in it could pass for another field or another line.
fn is_plain(value: &str) -> bool {
    let plain = |c: char| !matches!(c, '"' | '=' | '\\') && !c.is_whitespace() && is_printable(c);
    !value.is_empty() && value.chars().all(plain)
}

/// Whether it has a form of its own on a terminal; marks that change what is around them have not.
fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

/// The beginning of a text, at most so many bytes of it.
fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}{CUT}", &text[..text.floor_char_boundary(max)]))
}

/// A text that grows up to a bound; whoever writes more is told to stop.
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

/// A text without line breaks and other marks that cannot be seen.
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

/// A text as JSON, in which everything that cannot be seen is escaped.
struct Json<'a>(&'a str);

impl Display for Json<'_> {
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

    fn text_of(value: Value) -> String {
        let mut line = String::new();
        line_with(&[("topic", value)])
            .write_text(false, &mut line)
            .expect("a String takes everything");
        line
    }

    fn line_with<'a>(fields: &'a [(&'static str, Value)]) -> Line<'a> {
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
            (Value::Literal("7".to_owned()), "7"),
            (Value::Word("127.0.0.1:4000".to_owned()), "127.0.0.1:4000"),
            (Value::Word("no such table".to_owned()), "\"no such table\""),
            (Value::Word("a=b".to_owned()), "\"a=b\""),
            (Value::Word(String::new()), "\"\""),
            (Value::Text("random:é".to_owned()), "\"random:é\""),
            (
                Value::Text(EVIL.to_owned()),
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
            ("topic", Value::Text(EVIL.to_owned())),
            ("connection", Value::Literal("7".to_owned())),
            ("face", Value::Word("😀\u{e0001}".to_owned())),
        ];
        let mut line = String::new();
        line_with(&fields)
            .write_json(&mut line)
            .expect("a String takes everything");
        assert!(line.trim_end().chars().all(is_printable), "{line}");
        let mut read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
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
        let json: serde_json::Value =
            serde_json::from_str(&fatal(LogFormat::Json, &error)).expect("JSON");
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
