//! [`Mark`]: what a message of the load says of itself, and [`Template`]: the payload around it. Pure.
//!
//! A receiver finds the mark without parsing the frame, mostly at the place where it was in the last one.

use memchr::memmem::Finder;
use serde_json::{Map, Value};

/// Where the mark is in a payload.
const PLACE: &str = "{mark}";
/// Bytes of a mark: `@@`, the run, when the message was due, its publisher and its number.
const LEN: usize = 2 + RUN + DUE + PUBLISHER + NUMBER;
/// Digits of the parts.
const RUN: usize = 8;
const DUE: usize = 16;
const PUBLISHER: usize = 4;
const NUMBER: usize = 8;

/// A message of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Nanoseconds from the beginning of the load to the time at which the message was due.
    pub(super) due: u64,
    /// The publisher among those of its topic.
    pub(super) publisher: u16,
    /// The number of the message among those of its publisher, from 0.
    pub(super) number: u32,
}

/// The marks of one run. Those of earlier runs, which a history may contain, are not found.
pub(super) struct Marks {
    /// `@@` and the run.
    begin: String,
    finder: Finder<'static>,
    /// Where the last mark began.
    last: usize,
}

impl Marks {
    pub(super) fn new(run: u32) -> Self {
        let begin = format!("@@{run:08x}");
        Self {
            finder: Finder::new(begin.as_bytes()).into_owned(),
            begin,
            last: 0,
        }
    }

    fn text(&self, mark: Mark) -> String {
        let Mark {
            due,
            publisher,
            number,
        } = mark;
        format!("{}{due:016x}{publisher:04x}{number:08x}", self.begin)
    }

    /// The mark in a frame.
    pub(super) fn find(&mut self, frame: &[u8]) -> Option<Mark> {
        let begin = self.begin.as_bytes();
        let is_at_last = frame
            .get(self.last..)
            .is_some_and(|rest| rest.starts_with(begin));
        if !is_at_last {
            self.last = self.finder.find(frame)?;
        }
        let digits = frame.get(self.last + begin.len()..self.last + LEN)?;
        let digits = std::str::from_utf8(digits).ok()?;
        let (due, digits) = digits.split_at_checked(DUE)?;
        let (publisher, number) = digits.split_at_checked(PUBLISHER)?;
        Some(Mark {
            due: u64::from_str_radix(due, 16).ok()?,
            publisher: u16::from_str_radix(publisher, 16).ok()?,
            number: u32::from_str_radix(number, 16).ok()?,
        })
    }
}

/// The payload of the messages.
pub(super) struct Template {
    before: String,
    after: String,
    /// Bytes of the payload.
    size: usize,
}

impl Template {
    /// `None` if the text has no place for the mark, or is then no JSON object.
    pub(super) fn new(text: &str, size: usize) -> Option<Self> {
        let (before, after) = text.split_once(PLACE)?;
        let filled = format!("{before}@@{after}");
        serde_json::from_str::<Map<String, Value>>(&filled).ok()?;
        Some(Self {
            before: before.to_owned(),
            after: after.to_owned(),
            size,
        })
    }

    /// A payload of the template's size, which the mark and letters behind it fill.
    pub(super) fn payload(&self, marks: &Marks, mark: Mark) -> String {
        let letters = self
            .size
            .saturating_sub(self.before.len() + LEN + self.after.len());
        let mark = marks.text(mark);
        // A width of `format!` has at most 16 bits.
        let letters = "x".repeat(letters);
        format!("{}{mark}{letters}{}", self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark {
        due: 1_234_567_890,
        publisher: 7,
        number: 42,
    };

    #[test]
    fn a_mark_is_found_wherever_it_is() {
        let template = Template::new(r#"{"text":"{mark}"}"#, 100).expect("sound");
        let mut marks = Marks::new(3);
        let payload = template.payload(&marks, MARK);
        assert_eq!(payload.len(), 100);
        serde_json::from_str::<Value>(&payload).expect("JSON");
        for before in ["[", "[null,null,", "[", ""] {
            let frame = format!("{before}{payload}");
            assert_eq!(marks.find(frame.as_bytes()), Some(MARK));
        }
        assert_eq!(marks.find(b"[]"), None);
        assert_eq!(
            Marks::new(4).find(payload.as_bytes()),
            None,
            "of another run"
        );
        let large = Template::new(r#"{"text":"{mark}"}"#, 70_000).expect("sound");
        assert_eq!(large.payload(&marks, MARK).len(), 70_000);
        let cut = &payload.as_bytes()[..40];
        assert_eq!(marks.find(cut), None);
    }

    #[test]
    fn a_template_needs_a_string_for_its_mark() {
        for text in ["{}", "[\"{mark}\"]", r#"{"text":{mark}}"#, "{mark}"] {
            assert!(Template::new(text, 10).is_none(), "{text}");
        }
    }
}
