//! vsn 1.0.0 text frames: `{"topic":..,"event":..,"payload":..,"ref":..}`.
//!
//! A client may add `join_ref`, which is used; the server never sends it.

use std::fmt;

use bytestring::ByteString;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DecodeError, finish_text, name, relayed, slice, text_frame, write_name, write_str};
use crate::frame::Frame;
use crate::message::{Message, Name, PHX_REPLY, RawJson, Ref};

/// The members of the object, unparsed. Of duplicate keys the first counts, as in Phoenix.
struct Object<'a> {
    topic: &'a RawValue,
    event: &'a RawValue,
    payload: &'a RawValue,
    reference: &'a RawValue,
    join_ref: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with topic, event, payload and ref")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found: [Option<&'de RawValue>; 5] = [None; 5];
                const KEYS: [&str; 5] = ["topic", "event", "payload", "ref", "join_ref"];
                while let Some(key) = map.next_key::<String>()? {
                    match KEYS.iter().position(|known| *known == key) {
                        Some(index) if found[index].is_none() => {
                            found[index] = Some(map.next_value()?);
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let required =
                    |index: usize| found[index].ok_or_else(|| Error::missing_field(KEYS[index]));
                Ok(Object {
                    topic: required(0)?,
                    event: required(1)?,
                    payload: required(2)?,
                    reference: required(3)?,
                    join_ref: found[4],
                })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

pub(super) fn decode(text: &ByteString) -> Result<Message, DecodeError> {
    let object: Object<'_> = serde_json::from_str(text)?;
    Ok(Message {
        join_ref: object
            .join_ref
            .map_or(Ref::NULL, |raw| Ref::trusted(slice(text, raw))),
        reference: Ref::trusted(slice(text, object.reference)),
        topic: name(text, object.topic)?,
        event: name(text, object.event)?,
        payload: relayed(text, object.payload),
    })
}

pub(super) fn message(reference: &Ref, topic: &Name, event: &str, payload: &RawJson) -> Frame {
    let mut builder = text_frame(topic, payload);
    let buf = &mut builder.buf;
    buf.extend_from_slice(b"{\"event\":");
    write_str(buf, event);
    buf.extend_from_slice(b",\"payload\":");
    buf.extend_from_slice(payload.get().as_bytes());
    write_tail(buf, reference, topic);
    finish_text(builder)
}

pub(super) fn reply(reference: &Ref, topic: &Name, status: &str, response: &RawJson) -> Frame {
    let mut builder = text_frame(topic, response);
    let buf = &mut builder.buf;
    buf.extend_from_slice(b"{\"event\":");
    write_str(buf, PHX_REPLY);
    buf.extend_from_slice(b",\"payload\":{\"status\":");
    write_str(buf, status);
    buf.extend_from_slice(b",\"response\":");
    buf.extend_from_slice(response.get().as_bytes());
    buf.push(b'}');
    write_tail(buf, reference, topic);
    finish_text(builder)
}

fn write_tail(buf: &mut Vec<u8>, reference: &Ref, topic: &Name) {
    buf.extend_from_slice(b",\"ref\":");
    buf.extend_from_slice(reference.get().as_bytes());
    buf.extend_from_slice(b",\"topic\":");
    write_name(buf, topic);
    buf.push(b'}');
}
