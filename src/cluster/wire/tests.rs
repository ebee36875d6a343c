use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = ByteString> {
    any::<String>().prop_map(ByteString::from)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn seq() -> impl Strategy<Value = Seq> {
    prop_oneof![any::<i64>(), 0..1_000_i64].prop_map(Seq::new)
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        text().prop_map(Content::Json),
        bytes().prop_map(Content::Binary),
    ]
}

fn stored() -> impl Strategy<Value = Stored> {
    let change = prop_oneof![
        seq().prop_map(Change::Update),
        seq().prop_map(Change::Delete),
    ];
    let client_ref = proptest::option::of(text());
    let parts = (text(), client_ref, proptest::option::of(change), text());
    parts.prop_map(|(event, client_ref, change, payload)| Stored {
        event,
        client_ref,
        change,
        payload,
    })
}

fn live() -> impl Strategy<Value = Live> {
    let direction = prop_oneof![
        Just(Direction::All),
        bytes().prop_map(Direction::To),
        proptest::option::of(bytes()).prop_map(Direction::Close),
    ];
    (text(), content(), direction).prop_map(|(event, payload, direction)| Live {
        event,
        payload,
        direction,
    })
}

fn committed() -> impl Strategy<Value = Committed> {
    let row = (seq(), any::<i64>(), stored()).prop_map(|(seq, at, message)| CommittedRow {
        seq,
        at,
        message,
    });
    (seq(), seq(), any::<i64>(), vec(row, 0..5)).prop_map(|(prev, head, epoch, rows)| Committed {
        prev,
        head,
        epoch: Epoch::new(epoch),
        rows,
    })
}

fn numbered() -> impl Strategy<Value = Numbered> {
    (any::<u64>(), bytes()).prop_map(|(number, bytes)| Numbered { number, bytes })
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    (any::<i64>(), any::<bool>(), text()).prop_map(|(started, leaving, name)| Heartbeat {
        started,
        leaving,
        name,
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        stored().prop_map(Body::Stored),
        live().prop_map(Body::Live),
        Just(Body::Erasure),
        (seq(), vec(seq(), 0..9)).prop_map(|(erasure, seqs)| Body::Erased { erasure, seqs }),
        committed().prop_map(Body::Committed),
        (text(), text(), content()).prop_map(|(topic, event, payload)| Body::Elsewhere {
            topic,
            event,
            payload
        }),
        bytes().prop_map(Body::Presence),
        bytes().prop_map(Body::Counts),
        heartbeat().prop_map(Body::Heartbeat),
        numbered().prop_map(Body::PollRequest),
        numbered().prop_map(Body::PollAnswer),
        seq().prop_map(|through| Body::Pruned { through }),
        Just(Body::Look),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u64>(), any::<i64>(), body()).prop_map(|(author, nonce, at, body)| {
        Message {
            author: NodeId::new(author),
            nonce,
            at,
            body,
        }
    })
}

/// One message with all parts.
fn sample() -> Message {
    Message {
        author: NodeId::new(0x0102_0304_0506_0708),
        nonce: 9,
        at: -1,
        body: Body::Stored(Stored {
            event: "shout".into(),
            client_ref: Some("r1".into()),
            change: Some(Change::Delete(Seq::new(300))),
            payload: "{}".into(),
        }),
    }
}

proptest! {
    #[test]
    fn a_message_is_read_back(message in message()) {
        let encoded = message.encode();
        prop_assert_eq!(Message::decode(encoded.clone()), Ok(message.clone()));
        let header = header(&encoded).expect("a header");
        prop_assert_eq!(header.kind, Some(message.body.kind()));
        prop_assert_eq!(
            (header.author, header.nonce, header.at),
            (message.author, message.nonce, message.at)
        );
    }

    #[test]
    fn bytes_of_a_newer_release_at_the_end_are_ignored(message in message(), more in bytes()) {
        let longer = [message.encode(), more].concat();
        prop_assert_eq!(Message::decode(longer.into()), Ok(message));
    }

    #[test]
    fn a_truncated_message_is_malformed(message in message(), at in any::<prop::sample::Index>()) {
        let encoded = message.encode();
        let cut = encoded.slice(..at.index(encoded.len()));
        prop_assert_eq!(Message::decode(cut), Err(DecodeError::Malformed));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in bytes()) {
        let _ = header(&bytes);
        let _ = place(&bytes);
        let _ = Message::decode(bytes);
    }

    #[test]
    fn any_body_is_read_or_refused(kind in 0..16_u8, body in bytes()) {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[..2].copy_from_slice(&[VERSION, kind]);
        bytes.extend_from_slice(&body);
        let _ = Message::decode(bytes.into());
    }

    #[test]
    fn a_place_in_front_is_split_off(epoch in 0..i64::MAX, seq in 0..i64::MAX, message in message()) {
        let encoded = message.encode();
        prop_assert_eq!(place(&encoded), (None, encoded.clone()));
        let mut placed = format!("{epoch:x} {seq} ").into_bytes();
        placed.extend_from_slice(&encoded);
        let id = MessageId::new(Epoch::new(epoch), Seq::new(seq));
        prop_assert_eq!(place(&placed.into()), (Some(id), encoded));
    }
}

#[test]
fn the_layout_stays_as_it_is() {
    let want = [
        &[1, 1, 0][..],
        &[8, 7, 6, 5, 4, 3, 2, 1],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[0xff; 8],
        &[0b101],
        b"\x05shout\x02r1",
        &[0xac, 0x02],
        b"\x02{}",
    ];
    assert_eq!(&sample().encode()[..], want.concat());
}

#[test]
fn kinds_keep_their_numbers() {
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, at + 1);
        assert_eq!(Kind::from_number(kind as u8), Some(kind));
    }
    let unknown = Kind::ALL.len() as u8 + 1;
    assert_eq!(
        (Kind::from_number(0), Kind::from_number(unknown)),
        (None, None)
    );
}

#[test]
fn versions_and_kinds_of_newer_releases_are_told_apart_from_damage() {
    let changed = |at: usize, to: u8| {
        let mut bytes = sample().encode().to_vec();
        bytes[at] = to;
        Message::decode(bytes.into())
    };
    assert_eq!(changed(0, 2), Err(DecodeError::Unknown));
    assert_eq!(changed(1, 99), Err(DecodeError::Unknown));
    assert_eq!(changed(2, 0xff), Ok(sample()), "flags are not used yet");
    // An update and a deletion at once; a text that is not UTF-8.
    assert_eq!(changed(HEADER_LEN, 0b111), Err(DecodeError::Malformed));
    assert_eq!(changed(HEADER_LEN + 2, 0xff), Err(DecodeError::Malformed));
    assert_eq!(Message::decode(Bytes::new()), Err(DecodeError::Malformed));

    let mut newer = sample().encode().to_vec();
    newer[1] = 99;
    let header = header(&newer).expect("the author of a newer kind can be read");
    assert_eq!((header.kind, header.author), (None, sample().author));
}

#[test]
fn a_list_that_claims_too_much_reserves_nothing() {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[..2].copy_from_slice(&[VERSION, Kind::Erased as u8]);
    bytes.push(7);
    bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(Message::decode(bytes.into()), Err(DecodeError::Malformed));
}

#[test]
fn text_that_is_no_place_is_left() {
    for text in [
        "",
        " ",
        "a",
        "a ",
        "a 1",
        " 1 x",
        "a  1 x",
        "+a 1 x",
        "-a 1 x",
        "a -1 x",
        "a x 1 ",
        "8000000000000000 1 x",
        "a 9223372036854775808 x",
    ] {
        let bytes = Bytes::from_static(text.as_bytes());
        assert_eq!(place(&bytes), (None, bytes.clone()), "{text:?}");
    }
}

#[test]
fn payloads_are_slices_of_the_message() {
    let encoded = sample().encode();
    let Ok(Message {
        body: Body::Stored(stored),
        ..
    }) = Message::decode(encoded.clone())
    else {
        panic!("a stored message");
    };
    let range = encoded.as_ptr_range();
    assert!(range.contains(&stored.payload.as_bytes().as_ptr()));
    assert!(range.contains(&stored.event.as_bytes().as_ptr()));
}
