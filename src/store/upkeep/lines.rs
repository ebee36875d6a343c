//! The lines of an export: one JSON object a line, the same from either database.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime, SecondsFormat};
use diesel::prelude::*;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::log::{Epoch, Seq, of_client};
use crate::store::schema::topics;
use crate::store::tables::row::{MessageRow, OwnedRow};

/// The version of the format.
pub(in crate::store) const VERSION: u32 = 1;

/// The first line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct ExportHeader {
    pub(in crate::store) slackir_export: u32,
}

/// The run of a topic. It precedes the topic's messages.
#[derive(Clone, Debug, Deserialize, Queryable, Selectable, Serialize)]
#[diesel(table_name = topics)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct TopicLine {
    pub(in crate::store) topic: String,
    pub(in crate::store) epoch: Epoch,
    pub(in crate::store) last_seq: Seq,
    pub(in crate::store) pruned_through: Seq,
    pub(in crate::store) clean: bool,
    /// Absent in exports of version 0.1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(in crate::store) past: String,
}

/// A row as a line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct MessageLine<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    seq: Seq,
    #[serde(borrow)]
    event: Cow<'a, str>,
    /// The payload as JSON, for people and other programs.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    /// The payload as text, if it is no JSON or has line breaks.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload_text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client_ref: Option<Cow<'a, str>>,
    target: Option<Seq>,
    #[serde(serialize_with = "time", deserialize_with = "read_time")]
    inserted_at: NaiveDateTime,
    #[serde(serialize_with = "time", deserialize_with = "read_time")]
    updated_at: NaiveDateTime,
}

impl<'a> From<&'a MessageRow<'_>> for MessageLine<'a> {
    fn from(row: &'a MessageRow<'_>) -> Self {
        let text = &*row.payload;
        let payload = serde_json::from_str::<&RawValue>(text).ok();
        // Only text that serde reads back unchanged: not null, and no surrounding spaces.
        let payload = payload
            .filter(|json| json.get() == text && text != "null" && !text.contains(['\n', '\r']));
        Self {
            topic: Cow::Borrowed(&*row.topic),
            seq: row.seq,
            event: Cow::Borrowed(&*row.event),
            payload,
            payload_text: payload.is_none().then_some(Cow::Borrowed(text)),
            name: row.name.as_deref().map(Cow::Borrowed),
            message: row.message.as_deref().map(Cow::Borrowed),
            client_ref: of_client(row.client_ref.as_deref()).map(Cow::Borrowed),
            target: row.target,
            inserted_at: row.inserted_at,
            updated_at: row.updated_at,
        }
    }
}

impl MessageLine<'_> {
    /// The row; `None` if the line has no payload or both kinds.
    pub(in crate::store) fn into_row(self) -> Option<OwnedRow> {
        let payload = match (self.payload, self.payload_text) {
            (Some(json), None) => json.get().to_owned(),
            (None, Some(text)) => text.into_owned(),
            (None, None) | (Some(_), Some(_)) => return None,
        };
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Some(MessageRow {
            topic: owned(self.topic),
            seq: self.seq,
            event: owned(self.event),
            payload: payload.into(),
            name: self.name.map(owned),
            message: self.message.map(owned),
            client_ref: self.client_ref.map(owned),
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
    // Microseconds, the precision of both databases.
    DateTime::from_timestamp_micros(at.timestamp_micros())
        .map(|at| at.naive_utc())
        .ok_or_else(|| D::Error::custom(format!("{text:?} is out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(payload: &str) -> OwnedRow {
        let at = DateTime::from_timestamp_micros(1_700_000_000_000_007).expect("in range");
        MessageRow {
            topic: "room:\"a\"\n".into(),
            seq: Seq::new(7),
            event: "shout".into(),
            payload: payload.to_owned().into(),
            name: Some("ada".into()),
            message: None,
            client_ref: Some("".into()),
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
