//! Tables of (bytes in, result out), for both serializers and both directions.

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::{Value, json};

use super::{EncodeError, Serializer};
use crate::frame::Frame;
use crate::message::{Message, Name, Payload, RawJson, Ref, Reply};

fn reference(json: &'static str) -> Ref {
    Ref::trusted(ByteString::from_static(json))
}

fn text(frame: &Frame) -> Value {
    const FIN_TEXT: u8 = 0x81;
    assert_eq!(frame.wire()[0], FIN_TEXT);
    serde_json::from_slice(&frame.payload()).expect("a text frame holds JSON")
}

fn decode(serializer: Serializer, text: &str) -> Option<Message> {
    serializer.decode_text(&text.into()).ok()
}

/// Requirement 12.
#[test]
fn vsn_is_negotiated_as_phoenix_does() {
    use Serializer::{V1, V2};
    for (vsn, chosen) in [
        (None, Some(V1)),
        (Some("1.0.0"), Some(V1)),
        (Some("1.0.7"), Some(V1)),
        (Some("2.0.0"), Some(V2)),
        (Some("2.0.1"), Some(V2)),
        (Some("2.0.0+build"), Some(V2)),
        (Some("2"), None),
        (Some("2.0"), None),
        (Some("2.1.0"), None),
        (Some("1.1.0"), None),
        (Some("3.0.0"), None),
        (Some("02.0.0"), None),
        (Some(""), None),
        (Some("abc"), None),
        (Some(" 2.0.0"), None),
        (Some("2.0.0-rc.1"), None),
    ] {
        assert_eq!(Serializer::negotiate(vsn), chosen, "{vsn:?}");
    }
}

/// Requirement 60.
#[test]
fn v2_text_is_decoded_into_slices() {
    let message = decode(
        Serializer::V2,
        r#" [ "3" , 4, "room:1", "n\u0065w", {"b": [1.0]}, 6] "#,
    )
    .expect("five elements and one more");
    assert_eq!(message.join_ref.get(), "\"3\"");
    assert_eq!(message.reference.get(), "4");
    assert_eq!(message.topic.as_str(), Some("room:1"));
    assert_eq!(message.event.as_str(), Some("new"));
    assert_eq!(
        message.payload,
        Payload::Json(RawJson::trusted(r#"{"b": [1.0]}"#.into()))
    );
}

/// Requirements 61, 69.
#[test]
fn undecodable_text_is_refused() {
    for bad in [
        "",
        "x",
        "{}",
        "[]",
        "[1,2,3,4]",
        "[1,2,3,4,5] x",
        "\u{feff}[1,2,3,4,5]",
        "[1,2,3,4,1e400]",
        r#"[1,2,3,4,"\ud800"]"#,
    ] {
        assert_eq!(decode(Serializer::V2, bad), None, "{bad}");
    }
    for bad in ["[]", r#"{"topic":"t","event":"e","payload":{}}"#, "null"] {
        assert_eq!(decode(Serializer::V1, bad), None, "{bad}");
    }
}

#[test]
fn names_of_other_types_are_kept_for_the_reply() {
    let message = decode(Serializer::V2, "[null,null,7,null,1]").expect("right shape");
    assert_eq!(message.topic, Name::Other(RawJson::trusted("7".into())));
    assert_eq!(message.event.as_str(), None);
}

/// Requirements 69, 82.
#[test]
fn v1_takes_join_ref_if_it_is_there_and_the_first_of_duplicate_keys() {
    let message = decode(
        Serializer::V1,
        r#"{"topic":"a","event":"e","payload":1,"ref":null,"topic":"b","join_ref":"9","x":[]}"#,
    )
    .expect("all required keys");
    assert_eq!(message.topic.as_str(), Some("a"));
    assert_eq!(message.join_ref.get(), "\"9\"");
    assert!(message.reference.is_null());
}

/// Requirement 82.
#[test]
fn of_duplicate_keys_of_a_payload_the_first_is_relayed_and_parsed() {
    let payload = r#"{"a":1,"b":{"c":2,"c":3},"a":4}"#;
    for (serializer, text) in [
        (
            Serializer::V1,
            format!(r#"{{"topic":"t","event":"e","payload":{payload},"ref":"1"}}"#),
        ),
        (Serializer::V2, format!(r#"["1","1","t","e",{payload}]"#)),
    ] {
        let message = decode(serializer, &text).expect("a message");
        let first = json!({"a": 1, "b": {"c": 2}});
        assert_eq!(message.payload.parse::<Value>().ok(), Some(first.clone()));
        let relayed = serializer.broadcast("t", "e", &message.payload).unwrap();
        let relayed = String::from_utf8(relayed.payload().to_vec()).expect("text");
        assert!(relayed.contains(&first.to_string()), "{relayed}");
    }
}

/// Requirements 63, 64, 65.
#[test]
fn text_frames_have_the_documented_shape() {
    let topic = Name::from("room:\"1\"");
    let payload = Payload::from(json!({"body": "hi"}));
    let reply = Reply::ok(json!({"a": 1}));
    let (three, seven) = (reference("\"3\""), reference("7"));
    let v1 = Serializer::V1;
    let v2 = Serializer::V2;

    let frame = v2.push(&three, &topic, "new", &payload).unwrap();
    assert_eq!(
        text(&frame),
        json!(["3", null, "room:\"1\"", "new", {"body": "hi"}])
    );
    let frame = v2.reply(&three, &seven, &topic, &reply).unwrap();
    let body = json!({"status": "ok", "response": {"a": 1}});
    assert_eq!(
        text(&frame),
        json!(["3", 7, "room:\"1\"", "phx_reply", body])
    );
    let frame = v2.broadcast("t", "new", &payload).unwrap();
    assert_eq!(
        text(&frame),
        json!([null, null, "t", "new", {"body": "hi"}])
    );
    let frame = v2.ending(&three, &topic, "phx_close", &RawJson::EMPTY_OBJECT);
    assert_eq!(
        text(&frame),
        json!(["3", "3", "room:\"1\"", "phx_close", {}])
    );

    let frame = v1.push(&three, &topic, "new", &payload).unwrap();
    let want =
        json!({"topic": "room:\"1\"", "event": "new", "payload": {"body": "hi"}, "ref": null});
    assert_eq!(text(&frame), want);
    let frame = v1.reply(&three, &seven, &topic, &reply).unwrap();
    let want = json!({"topic": "room:\"1\"", "event": "phx_reply", "payload": body, "ref": 7});
    assert_eq!(text(&frame), want);
    let frame = v1.ending(&three, &topic, "phx_error", &RawJson::CHANNEL_CRASH);
    let want = json!({"topic": "room:\"1\"", "event": "phx_error", "payload": {"reason": "channel_crash"}, "ref": "3"});
    assert_eq!(text(&frame), want);
}

/// Requirements 68, 72.
#[test]
fn what_has_no_form_on_the_wire_is_the_senders_error() {
    let topic = Name::from("t");
    let list = Payload::from(json!([1]));
    let binary = Payload::Binary(Bytes::from_static(b"\x01"));
    let push =
        |serializer: Serializer, payload| serializer.push(&Ref::NULL, &topic, "e", payload).err();
    assert_eq!(push(Serializer::V2, &list), Some(EncodeError::NotAnObject));
    assert_eq!(push(Serializer::V1, &list), None);
    assert_eq!(push(Serializer::V1, &binary), Some(EncodeError::NoBinary));
    let long = Serializer::V2.broadcast(&"t".repeat(256), "e", &binary);
    assert_eq!(long.err(), Some(EncodeError::FieldTooLong));
    let reply = Reply::ok(binary);
    let object = reference("{\"a\":1}");
    let unprintable = Serializer::V2.reply(&object, &Ref::NULL, &topic, &reply);
    assert_eq!(unprintable.err(), Some(EncodeError::UnprintableRef));
}

/// Example bytes of Phoenix's own frames.
/// Requirement 74.
#[test]
fn binary_frames_match_the_recorded_bytes() {
    let v2 = Serializer::V2;
    let incoming = Bytes::from_static(b"\x00\x01\x01\x06\x0434conf:aecho\x01\x02");
    let message = v2.decode_binary(incoming).unwrap();
    assert_eq!(message.join_ref.get(), "\"3\"");
    assert_eq!(message.event.as_str(), Some("echo"));
    let data = message.payload.clone();
    assert_eq!(data, Payload::Binary(Bytes::from_static(b"\x01\x02")));

    let topic = Name::from("conf:a");
    let (three, four) = (reference("\"3\""), reference("4"));
    let reply = v2
        .reply(&three, &four, &topic, &Reply::ok(data.clone()))
        .unwrap();
    assert_eq!(
        &reply.payload()[..],
        b"\x01\x01\x01\x06\x0234conf:aok\x01\x02"
    );
    let push = v2.push(&three, &topic, "pushed", &data).unwrap();
    assert_eq!(
        &push.payload()[..],
        b"\x00\x01\x06\x063conf:apushed\x01\x02"
    );
    let bcast = v2.broadcast("conf:a", "bcast", &data).unwrap();
    assert_eq!(&bcast.payload()[..], b"\x02\x06\x05conf:abcast\x01\x02");
    const FIN_BINARY: u8 = 0x82;
    assert_eq!(bcast.wire()[0], FIN_BINARY);
}

/// One byte holds the length of a field.
/// Requirement 79.
#[test]
fn no_field_of_a_binary_header_is_longer_than_255_bytes() {
    let v2 = Serializer::V2;
    let data = Payload::Binary(Bytes::from_static(b"\x01"));
    let encode = |field: &str, len: usize| {
        let long = "x".repeat(len);
        let text = |name| if name == field { long.as_str() } else { "x" };
        let number = |name| Ref::trusted(format!("\"{}\"", text(name)).into());
        let topic = Name::from(text("topic"));
        let reply = Reply::with_status(text("status").to_owned(), data.clone());
        let (join_ref, reference) = (number("join_ref"), number("ref"));
        [
            v2.push(&join_ref, &topic, text("event"), &data).err(),
            v2.reply(&join_ref, &reference, &topic, &reply).err(),
            v2.broadcast(text("topic"), text("event"), &data).err(),
        ]
    };
    let long = Some(EncodeError::FieldTooLong);
    for (field, refused) in [
        ("join_ref", [long, long, None]),
        ("ref", [None, long, None]),
        ("topic", [long, long, long]),
        ("event", [long, None, long]),
        ("status", [None, long, None]),
    ] {
        assert_eq!(encode(field, 255), [None; 3], "{field}");
        assert_eq!(encode(field, 256), refused, "{field}");
    }
}

/// Requirement 75.
#[test]
fn truncated_and_foreign_binary_frames_are_refused() {
    for bad in [
        &b""[..],
        b"\x00\x01",
        b"\x01\x00\x00\x00\x00",
        b"\x00\x00\x00\x05\x00abc",
    ] {
        assert!(
            Serializer::V2
                .decode_binary(Bytes::copy_from_slice(bad))
                .is_err(),
            "{bad:?}"
        );
    }
}
