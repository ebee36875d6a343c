//! Properties that hold for any refs, topics, events, payloads and bytes.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Serializer;
use crate::frame::{Frame, Opcode};
use crate::message::{Message, Name, Payload, RawJson, Ref, Reply};

/// The text of a JSON value, which must be relayed unchanged.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |f| f.is_finite().then(|| Value::from(f))),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    });
    value.prop_map(|value| value.to_string())
}

fn any_object() -> impl Strategy<Value = String> {
    (any::<String>(), any_json()).prop_map(|(key, value)| format!("{{{}:{value}}}", json!(key)))
}

/// A ref that has a binary form, and that form.
fn printable_ref() -> impl Strategy<Value = (Ref, String)> {
    let text = |text: String| (trusted(&json!(text).to_string()), text);
    prop_oneof![
        Just((Ref::NULL, String::new())),
        any::<i32>().prop_map(|n| (trusted(&n.to_string()), n.to_string())),
        short().prop_map(text),
    ]
}

/// Text that fits a field of a binary header.
fn short() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("one byte for the length", |text| text.len() < 256)
}

fn trusted(text: &str) -> Ref {
    Ref::trusted(text.into())
}

fn json_payload(text: &str) -> Payload {
    Payload::Json(RawJson::trusted(text.into()))
}

fn any_opcode() -> impl Strategy<Value = Opcode> {
    prop_oneof![Just(Opcode::Text), Just(Opcode::Binary)]
}

fn decode(serializer: Serializer, opcode: Opcode, data: &[u8]) -> Option<Message> {
    match opcode {
        Opcode::Binary => serializer.decode_binary(Bytes::copy_from_slice(data)).ok(),
        _ => {
            let text = String::from_utf8(data.to_vec()).ok()?;
            serializer.decode_text(&text.into()).ok()
        }
    }
}

/// The elements of an array as raw text.
fn elements(frame: &Frame) -> Vec<String> {
    let payload = frame.payload();
    let raw: Vec<&RawValue> = serde_json::from_slice(&payload).expect("a frame is an array");
    raw.into_iter().map(|raw| raw.get().to_owned()).collect()
}

/// A member of an object as raw text.
fn member(frame: &Frame, name: &str) -> String {
    let payload = frame.payload();
    let raw: std::collections::HashMap<String, &RawValue> =
        serde_json::from_slice(&payload).expect("a frame is an object");
    assert_eq!(raw.len(), 4);
    raw[name].get().to_owned()
}

/// A binary frame as the clients read it: kind, the lengths of the fields, the fields, the data.
fn binary(kind: u8, fields: &[&str], data: &[u8]) -> Vec<u8> {
    let lengths = fields.iter().map(|field| field.len() as u8);
    let bytes = fields.iter().flat_map(|field| field.bytes());
    std::iter::once(kind)
        .chain(lengths)
        .chain(bytes)
        .chain(data.iter().copied())
        .collect()
}

proptest! {
    /// Requirements 60, 62.
    #[test]
    fn any_v2_text_is_read_as_it_was_written(
        join_ref in any_json(), reference in any_json(),
        topic in any::<String>(), event in any::<String>(), payload in any_json(),
    ) {
        let (name, what) = (json!(topic), json!(event));
        let text = format!("[{join_ref},{reference},{name},{what},{payload}]");
        let message = decode(Serializer::V2, Opcode::Text, text.as_bytes()).expect("a message");
        prop_assert_eq!(message, Message {
            join_ref: trusted(&join_ref),
            reference: trusted(&reference),
            topic: Name::from(&*topic),
            event: Name::from(&*event),
            payload: json_payload(&payload),
        });
    }

    /// Requirements 69, 71.
    #[test]
    fn any_v1_text_is_read_as_it_was_written(
        join_ref in any_json(), reference in any_json(),
        topic in any::<String>(), event in any::<String>(), payload in any_json(),
    ) {
        let (name, what) = (json!(topic), json!(event));
        let text = format!(
            r#"{{"event":{what},"join_ref":{join_ref},"payload":{payload},"ref":{reference},"topic":{name}}}"#
        );
        let message = decode(Serializer::V1, Opcode::Text, text.as_bytes()).expect("a message");
        prop_assert_eq!(&message, &Message {
            join_ref: trusted(&join_ref),
            reference: trusted(&reference),
            topic: Name::from(&*topic),
            event: Name::from(&*event),
            payload: json_payload(&payload),
        });
        prop_assert_eq!(decode(Serializer::V1, Opcode::Binary, text.as_bytes()), Some(message));
    }

    /// Requirement 74.
    #[test]
    fn any_binary_push_is_read_as_it_was_written(
        fields in [short(), short(), short(), short()], data in any::<Vec<u8>>(),
    ) {
        let frame = binary(0, &fields.each_ref().map(String::as_str), &data);
        let message = decode(Serializer::V2, Opcode::Binary, &frame).expect("a message");
        let [join_ref, reference, topic, event] = &fields;
        prop_assert_eq!(message, Message {
            join_ref: trusted(&json!(join_ref).to_string()),
            reference: trusted(&json!(reference).to_string()),
            topic: Name::from(&**topic),
            event: Name::from(&**event),
            payload: Payload::Binary(data.into()),
        });
    }

    /// Requirements 62, 63, 64, 65, 67, 70.
    #[test]
    fn any_text_frame_says_what_it_was_given(
        join_ref in any_json(), reference in any_json(), topic in any::<String>(),
        event in any::<String>(), status in any::<String>(), payload in any_object(),
        response in any_json(),
    ) {
        let (own, asked, topic) = (trusted(&join_ref), trusted(&reference), Name::from(&*topic));
        let (name, what) = (json!(topic.as_str()).to_string(), json!(event).to_string());
        let null = "null".to_owned();
        let content = json_payload(&payload);
        let reply = Reply::with_status(status.clone(), json_payload(&response));
        let answer = format!(r#"{{"status":{},"response":{response}}}"#, json!(status));
        for v2 in [Serializer::V2, Serializer::V2Text] {
            let push = v2.push(&own, &topic, &event, &content).expect("an object");
            let pushed = [&join_ref, &null, &name, &what, &payload].map(String::clone);
            prop_assert_eq!(elements(&push), pushed);
            let replied = v2.reply(&own, &asked, &topic, &reply).expect("JSON");
            let phx_reply = "\"phx_reply\"".to_owned();
            let replied_with = [&join_ref, &reference, &name, &phx_reply, &answer];
            prop_assert_eq!(elements(&replied), replied_with.map(String::clone));
            let topic = topic.as_str().expect("a string");
            let broadcast = v2.broadcast(topic, &event, &content).expect("an object");
            prop_assert_eq!(&elements(&broadcast)[..2], [null.clone(), null.clone()]);
            prop_assert_eq!(&elements(&broadcast)[2..], &elements(&push)[2..]);
        }
        let push = Serializer::V1.push(&own, &topic, &event, &content).expect("JSON");
        let replied = Serializer::V1.reply(&own, &asked, &topic, &reply).expect("JSON");
        prop_assert_eq!([member(&push, "ref"), member(&replied, "ref")], [null, reference]);
        prop_assert_eq!([member(&push, "topic"), member(&replied, "topic")], [name.clone(), name]);
        prop_assert_eq!([member(&push, "event"), member(&push, "payload")], [what, payload]);
        prop_assert_eq!(member(&replied, "payload"), answer);
    }

    /// Requirements 76, 77, 78.
    #[test]
    fn any_binary_frame_says_what_it_was_given(
        (join_ref, own) in printable_ref(), (reference, asked) in printable_ref(),
        topic in short(), event in short(), status in short(), data in any::<Vec<u8>>(),
    ) {
        let v2 = Serializer::V2;
        let content = Payload::Binary(data.clone().into());
        let name = Name::from(&*topic);
        let push = v2.push(&join_ref, &name, &event, &content).expect("short fields");
        prop_assert_eq!(&push.payload()[..], binary(0, &[&own, &topic, &event], &data));
        let reply = Reply::with_status(status.clone(), content.clone());
        let reply = v2.reply(&join_ref, &reference, &name, &reply).expect("short fields");
        prop_assert_eq!(&reply.payload()[..], binary(1, &[&own, &asked, &topic, &status], &data));
        let broadcast = v2.broadcast(&topic, &event, &content).expect("short fields");
        prop_assert_eq!(&broadcast.payload()[..], binary(2, &[&topic, &event], &data));
    }

    /// Requirement 61.
    #[test]
    fn no_bytes_make_a_decoder_panic(data in any::<Vec<u8>>(), opcode in any_opcode()) {
        for serializer in [Serializer::V1, Serializer::V2, Serializer::V2Text] {
            decode(serializer, opcode, &data);
        }
    }

    /// Requirements 61, 75.
    #[test]
    fn no_damaged_message_makes_a_decoder_panic(
        payload in any_json(), data in any::<Vec<u8>>(),
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
    ) {
        let text = format!(r#"["1","2","t","e",{payload}]"#);
        let object = format!(r#"{{"topic":"t","event":"e","payload":{payload},"ref":"1"}}"#);
        let push = binary(0, &["1", "2", "t", "e"], &data);
        for (serializer, opcode, mut bytes) in [
            (Serializer::V2, Opcode::Text, text.into_bytes()),
            (Serializer::V1, Opcode::Text, object.into_bytes()),
            (Serializer::V2, Opcode::Binary, push),
        ] {
            decode(serializer, opcode, &bytes[..cut.index(bytes.len())]);
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            decode(serializer, opcode, &bytes);
        }
    }
}
