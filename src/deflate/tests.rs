use std::io::Read;

use flate2::read::GzDecoder;
use miniz_oxide::inflate::decompress_to_vec;
use proptest::prelude::*;

use super::*;
use crate::frame::Opcode;

const LIMIT: usize = 1_000_000;

/// The payload of a compressed message, made by the same compressor as frames, however long it is.
fn deflate(message: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(message.len() + 1_000);
    let mut deflate = Compress::new(Compression::new(6), false);
    let status = deflate.compress_vec(message, &mut output, FlushCompress::Sync);
    assert_eq!(status.ok(), Some(Status::Ok));
    output.truncate(output.len() - FLUSHED.len());
    output
}

/// Text of a chat.
fn text(len: usize) -> String {
    const WORDS: [&str; 8] = [
        "the ", "server ", "of ", "a ", "room ", "sends ", "it ", "all ",
    ];
    let words = (0..).map(|n: usize| WORDS[n * n % 7 + n % 2]);
    words.flat_map(str::chars).take(len).collect()
}

#[test]
fn the_examples_of_the_rfc_are_inflated() {
    // RFC 7692 section 7.2.3: a compressed block, one without compression, a final block, two blocks, nothing.
    for (payload, message) in [
        (&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], "Hello"),
        (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"),
        (
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
            "Hello",
        ),
        (b"\x00", ""),
        // A final block without the byte that should follow.
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"),
        // Two streams.
        (
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
            "HelloHello",
        ),
    ] {
        assert_eq!(inflate(payload, 100), Ok(message.into()), "{payload:?}");
    }
}

#[test]
fn what_is_not_a_whole_compressed_message_is_corrupt() {
    let whole = deflate(text(5_000).as_bytes());
    for payload in [
        b"",
        &b"\xff"[..],
        b"Hello, this was never compressed",
        b"\x06",
        &whole[..whole.len() - 1],
        &whole[..whole.len() / 2],
        &whole[..1],
        &whole[3..],
        // A distance beyond the beginning.
        b"\x4b\x04\x12\x00",
    ] {
        let inflated = inflate(payload, LIMIT);
        assert_eq!(inflated, Err(InflateError::Corrupt), "{payload:?}");
    }
    assert_eq!(
        inflate(&whole, LIMIT),
        Ok(text(5_000).into()),
        "no harm done"
    );
    let finals = [&b"\x03\x00".repeat(MAX_FINAL_BLOCKS)[..], b"\x00"].concat();
    assert_eq!(inflate(&finals, LIMIT), Ok(Vec::new()));
    let finals = [&b"\x03\x00".repeat(MAX_FINAL_BLOCKS + 2)[..], b"\x00"].concat();
    assert_eq!(inflate(&finals, LIMIT), Err(InflateError::Corrupt));
}

#[test]
fn a_message_may_have_as_many_bytes_as_the_limit_and_takes_no_more_memory() {
    for len in [100, FIRST_ROOM, 100_000, 3_000_000] {
        let payload = deflate(&vec![0; len]);
        assert_eq!(inflate(&payload, len).map(|message| message.len()), Ok(len));
        assert_eq!(inflate(&payload, len - 1), Err(InflateError::TooBig));
    }
    let bomb = deflate(&vec![0; 50_000_000]);
    assert!(bomb.len() < 60_000);
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        decompressor.reset(false);
        let mut inflating = Inflating {
            decompressor,
            message: Vec::new(),
            limit: LIMIT,
            final_blocks: 0,
        };
        assert!(inflating.run(&bomb).is_err());
        assert!(inflating.message.capacity() <= LIMIT + 1);
        // It stops there, and does not inflate the rest.
        assert!(inflating.decompressor.total_out() <= LIMIT as u64 + 1);
    });
}

#[test]
fn a_frame_that_would_not_be_shorter_is_not_compressed() {
    let mut noise = 1u32;
    let payload: Vec<u8> = (0..2_000)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .collect();
    assert!(deflated(&Frame::new(Opcode::Binary, &payload)).is_none());
    assert!(gzip(&payload, b"").is_none());
    let frame = Frame::new(Opcode::Text, text(2_000).as_bytes());
    assert!(deflated(&frame).is_some_and(|deflated| deflated.len() < frame.len() / 2));
}

#[test]
fn long_messages_of_a_client_with_a_small_window_stay_as_they_are() {
    let is_compressed = |len, bits: &str| {
        let window = Window::parse(bits).expect("a window");
        is_worthwhile(&Frame::new(Opcode::Text, &vec![b'x'; len]), window)
    };
    assert!(!is_compressed(WORTHWHILE - 10, "15"));
    assert!(is_compressed(WORTHWHILE, "15"));
    assert!(is_compressed(100_000, "15"));
    assert!(is_compressed(1_000, "10"));
    assert!(!is_compressed(1_025, "10"));
    assert!(!is_compressed(WORTHWHILE, "8"));
    let pong = Frame::new(Opcode::Pong, &[0; WORTHWHILE]);
    assert!(!is_worthwhile(&pong, Window::MAX), "a control frame");
}

#[test]
fn a_thread_compresses_so_much_a_second_and_no_more() {
    let mut compressor = Compressor {
        deflate: Compress::new(Compression::new(LEVEL), false),
        output: Vec::new(),
        spent: Bucket::default(),
    };
    let mut compressed_at = |second| {
        let now = Duration::from_secs(second);
        let long = (0..100).filter(|_| compressor.may_compress(1_000_000, now));
        long.count()
    };
    assert_eq!(compressed_at(1), 15);
    assert_eq!(compressed_at(1), 0);
    assert!((15..=16).contains(&compressed_at(2)));
}

#[test]
fn gzip_is_read_by_others() {
    for len in [600, 70_000, 1_000_000] {
        let body = text(len);
        let (text, secret) = body.as_bytes().split_at(len - 50);
        let zipped = gzip(text, secret).expect("text is shorter");
        assert!(zipped.len() < len);
        let mut read = String::new();
        let unzipped = GzDecoder::new(&zipped[..]).read_to_string(&mut read);
        assert_eq!(unzipped.ok(), Some(len));
        assert_eq!(read, body);
    }
}

#[test]
fn the_length_of_a_zipped_body_shows_nothing_of_the_secret_in_it() {
    let text = format!("{} my guess is c2VjcmV0IHRva2Vu", text(2_000));
    let zipped = |secret: &[u8]| gzip(text.as_bytes(), secret).map(|zipped| zipped.len());
    assert!(zipped(b"c2VjcmV0IHRva2Vu").is_some());
    assert_eq!(zipped(b"c2VjcmV0IHRva2Vu"), zipped(b"YW5vdGhlciB0b2tl"));
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        runs in prop::collection::vec((any::<u8>(), 1usize..400), 1..60),
        binary in any::<bool>(),
    ) {
        let payload: Vec<u8> = runs
            .iter()
            .flat_map(|(byte, times)| std::iter::repeat_n(byte & 0x7F, *times))
            .collect();
        let opcode = if binary { Opcode::Binary } else { Opcode::Text };
        let frame = Frame::new(opcode, &payload);
        if let Some(deflated) = deflated(&frame) {
            prop_assert!(deflated.len() < frame.len());
            prop_assert_eq!(deflated.wire()[0], frame.wire()[0] | 0x40);
            prop_assert_eq!(inflate(&deflated.payload(), payload.len()), Ok(payload.clone()));
            let whole = [&deflated.payload()[..], &TAIL].concat();
            prop_assert_eq!(decompress_to_vec(&whole).ok(), Some(payload));
        }
    }

    #[test]
    fn any_bytes_are_inflated_or_refused_within_the_limit(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        limit in 0usize..2_000,
    ) {
        if let Ok(message) = inflate(&payload, limit) {
            prop_assert!(message.len() <= limit);
        }
    }

    #[test]
    fn a_damaged_message_does_no_harm(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut payload = deflate(text(3_000).as_bytes());
        let at = at.index(payload.len());
        payload[at] = byte;
        let _ = inflate(&payload, 10_000);
        let whole = deflate(b"the next message");
        prop_assert_eq!(inflate(&whole, 100), Ok(b"the next message".to_vec()));
    }
}
