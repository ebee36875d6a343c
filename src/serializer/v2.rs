//! vsn 2.0.0 text frames: `[join_ref, ref, topic, event, payload]`.

use std::fmt;

use bytestring::ByteString;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{DecodeError, finish_text, name, relayed, slice, text_frame, write_name, write_str};
use crate::frame::Frame;
use crate::message::{Message, Name, PHX_REPLY, RawJson, Ref};

/// The five elements, unparsed. Elements after the fifth are ignored, as Phoenix ignores them.
struct Array<'a>([&'a RawValue; 5]);

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Array<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[join_ref, ref, topic, event, payload]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut next = |index| {
                    seq.next_element::<&'de RawValue>()?
                        .ok_or_else(|| Error::invalid_length(index, &self))
                };
                let elements = [next(0)?, next(1)?, next(2)?, next(3)?, next(4)?];
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Array(elements))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

pub(super) fn decode(text: &ByteString) -> Result<Message, DecodeError> {
    let Array([join_ref, reference, topic, event, payload]) = serde_json::from_str(text)?;
    Ok(Message {
        join_ref: Ref::trusted(slice(text, join_ref)),
        reference: Ref::trusted(slice(text, reference)),
        topic: name(text, topic)?,
        event: name(text, event)?,
        payload: relayed(text, payload),
    })
}

pub(super) fn message(
    join_ref: &Ref,
    reference: &Ref,
    topic: &Name,
    event: &str,
    payload: &RawJson,
) -> Frame {
    let mut builder = text_frame(topic, payload);
    let buf = &mut builder.buf;
    write_refs(buf, join_ref, reference);
    write_name(buf, topic);
    buf.push(b',');
    write_str(buf, event);
    buf.push(b',');
    buf.extend_from_slice(payload.get().as_bytes());
    buf.push(b']');
    finish_text(builder)
}

pub(super) fn reply(
    join_ref: &Ref,
    reference: &Ref,
    topic: &Name,
    status: &str,
    response: &RawJson,
) -> Frame {
    let mut builder = text_frame(topic, response);
    let buf = &mut builder.buf;
    write_refs(buf, join_ref, reference);
    write_name(buf, topic);
    buf.push(b',');
    write_str(buf, PHX_REPLY);
    buf.extend_from_slice(b",{\"status\":");
    write_str(buf, status);
    buf.extend_from_slice(b",\"response\":");
    buf.extend_from_slice(response.get().as_bytes());
    buf.extend_from_slice(b"}]");
    finish_text(builder)
}

fn write_refs(buf: &mut Vec<u8>, join_ref: &Ref, reference: &Ref) {
    buf.push(b'[');
    buf.extend_from_slice(join_ref.get().as_bytes());
    buf.push(b',');
    buf.extend_from_slice(reference.get().as_bytes());
    buf.push(b',');
}
