//! The lines of an export: JSON, one object a line, the same from either database.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime, SecondsFormat};
use diesel::prelude::*;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::readable::Readable;
use super::schema::{messages, topics};

/// The version of the lines.
pub(super) const VERSION: u32 = 1;

/// The first line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) slackir_export: u32,
}

/// The run of a topic; before the topic's messages.
#[derive(Clone, Debug, Deserialize, Queryable, Selectable, Serialize)]
#[diesel(table_name = topics)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicLine {
    pub(super) topic: String,
    pub(super) epoch: i64,
    pub(super) last_seq: i64,
    pub(super) pruned_through: i64,
    pub(super) clean: bool,
    /// Exports of version 0.1 have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) past: String,
}

/// A row of `messages`.
#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = messages, treat_none_as_default_value = false)]
pub(super) struct Row {
    pub(super) topic: String,
    pub(super) seq: i64,
    pub(super) event: String,
    pub(super) payload: String,
    pub(super) name: Option<String>,
    pub(super) message: Option<String>,
    pub(super) client_ref: Option<String>,
    pub(super) target: Option<i64>,
    pub(super) inserted_at: NaiveDateTime,
    pub(super) updated_at: NaiveDateTime,
}

/// A row of `messages` as it was found.
#[derive(Queryable, Selectable)]
#[diesel(table_name = messages)]
pub(super) struct FoundRow {
    topic: String,
    pub(super) seq: i64,
    event: Readable<String>,
    payload: Readable<String>,
    name: Option<Readable<String>>,
    message: Option<Readable<String>>,
    client_ref: Option<Readable<String>>,
    target: Option<i64>,
    inserted_at: Readable<NaiveDateTime>,
    updated_at: Readable<NaiveDateTime>,
}

/// A row as a line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageLine<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    seq: i64,
    #[serde(borrow)]
    event: Cow<'a, str>,
    /// As it is, for people and for other programs.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    /// As text, where it is no JSON or has more than one line.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload_text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client_ref: Option<Cow<'a, str>>,
    target: Option<i64>,
    #[serde(serialize_with = "time", deserialize_with = "read_time")]
    inserted_at: NaiveDateTime,
    #[serde(serialize_with = "time", deserialize_with = "read_time")]
    updated_at: NaiveDateTime,
}

impl FoundRow {
    /// `None` if a column of it cannot be read.
    pub(super) fn into_row(self) -> Option<Row> {
        let text = |column: Option<Readable<String>>| match column {
            None => Some(None),
            Some(Readable(text)) => text.map(Some),
        };
        Some(Row {
            topic: self.topic,
            seq: self.seq,
            event: self.event.0?,
            payload: self.payload.0?,
            name: text(self.name)?,
            message: text(self.message)?,
            client_ref: text(self.client_ref)?,
            target: self.target,
            inserted_at: self.inserted_at.0?,
            updated_at: self.updated_at.0?,
        })
    }
}

impl Row {
    /// What it takes to keep it for a while, about.
    pub(super) fn bytes(&self) -> usize {
        self.payload.len() + self.message.as_ref().map_or(0, String::len)
    }
}

impl<'a> From<&'a Row> for MessageLine<'a> {
    fn from(row: &'a Row) -> Self {
        let text = &*row.payload;
        let payload = serde_json::from_str::<&RawValue>(text).ok();
        // Read back it must be the same: null would be nothing, and spaces round it would be lost.
        let payload = payload
            .filter(|json| json.get() == text && text != "null" && !text.contains(['\n', '\r']));
        let text_of = |column: &'a Option<String>| column.as_deref().map(Cow::Borrowed);
        Self {
            topic: Cow::Borrowed(&row.topic),
            seq: row.seq,
            event: Cow::Borrowed(&row.event),
            payload,
            payload_text: payload.is_none().then_some(Cow::Borrowed(text)),
            name: text_of(&row.name),
            message: text_of(&row.message),
            client_ref: text_of(&row.client_ref),
            target: row.target,
            inserted_at: row.inserted_at,
            updated_at: row.updated_at,
        }
    }
}

impl MessageLine<'_> {
    /// The row; `None` when the line has no payload, or two.
    pub(super) fn into_row(self) -> Option<Row> {
        let payload = match (self.payload, self.payload_text) {
            (Some(json), None) => json.get().to_owned(),
            (None, Some(text)) => text.into_owned(),
            (None, None) | (Some(_), Some(_)) => return None,
        };
        Some(Row {
            topic: self.topic.into_owned(),
            seq: self.seq,
            event: self.event.into_owned(),
            payload,
            name: self.name.map(Cow::into_owned),
            message: self.message.map(Cow::into_owned),
            client_ref: self.client_ref.map(Cow::into_owned),
            target: self.target,
            inserted_at: self.inserted_at,
            updated_at: self.updated_at,
        })
    }
}

fn time<S: Serializer>(at: &NaiveDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let at = at.and_utc();
    serializer.collect_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn read_time<'de, D: Deserializer<'de>>(input: D) -> Result<NaiveDateTime, D::Error> {
    let text = Cow::<'de, str>::deserialize(input)?;
    let at = DateTime::parse_from_rfc3339(&text);
    let at = at.map_err(|error| D::Error::custom(format!("{text:?} is no time: {error}")))?;
    // As both databases keep it.
    DateTime::from_timestamp_micros(at.timestamp_micros())
        .map(|at| at.naive_utc())
        .ok_or_else(|| D::Error::custom(format!("{text:?} is out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(payload: &str) -> Row {
        let at = DateTime::from_timestamp_micros(1_700_000_000_000_007).expect("in range");
        Row {
            topic: "room:\"a\"\n".to_owned(),
            seq: 7,
            event: "shout".to_owned(),
            payload: payload.to_owned(),
            name: Some("ada".to_owned()),
            message: None,
            client_ref: Some(String::new()),
            target: None,
            inserted_at: at.naive_utc(),
            updated_at: at.naive_utc(),
        }
    }

    #[test]
    fn every_payload_comes_back_as_it_was() {
        for (payload, as_json) in [
            (r#"{"a": 1.50, "b":"\u0000\ud800é"}"#, true),
            ("[]", true),
            ("7", true),
            ("null", false),
            (" {}", false),
            ("{}\n", false),
            ("{\n}", false),
            ("{\r}", false),
            ("not JSON", false),
            ("", false),
        ] {
            let row = row(payload);
            let line = serde_json::to_string(&MessageLine::from(&row)).expect("JSON");
            assert_eq!(line.contains("\"payload\":"), as_json, "{line}");
            assert!(!line.contains(['\n', '\r']), "{line}");
            assert!(line.contains("\"2023-11-14T22:13:20.000007Z\""), "{line}");
            let back: MessageLine<'_> = serde_json::from_str(&line).expect("a line");
            let back = back.into_row().expect("one payload");
            assert_eq!(format!("{back:?}"), format!("{row:?}"));
        }
    }
}
