//! Messages are read as they were written, and any bytes are read without a panic.

use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(bytes: &[u8]) -> Result<Option<Message>, Malformed> {
    decode(bytes, |_, topic| topic.into())
}

/// A record with these clocks; an entry is present for every second of them.
fn record(clocks: &BTreeSet<Clock>, text: &str, bytes: usize) -> Record {
    let mut record = Record::default();
    for &clock in clocks {
        record.seen.insert(clock, clock);
        if clock % 2 == 0 {
            let meta = json!({"n": clock, "text": "x".repeat(bytes)});
            let entry = Entry {
                process: Process::Elsewhere,
                topic: format!("t{}", clock % 5).into(),
                key: format!("{text}{}", clock % 3).into(),
                meta: meta.into(),
            };
            record.present.insert(clock, Arc::new(entry));
        }
    }
    record
}

proptest! {
    #[test]
    fn changes_are_read_as_they_were_written(
        set in 0..SETS,
        clocks in btree_set(1..200_u64, 1..60),
        far in 0..MAX_CLOCK - 200,
        text in any::<String>(),
        bytes in prop_oneof![Just(0), 10_000..20_000_usize],
    ) {
        let clocks: BTreeSet<_> = clocks.into_iter().map(|clock| clock + far).collect();
        let written = record(&clocks, &text, bytes);
        let mut whole = Record::default();
        let mut before = Clock::MAX;
        for bytes in changes(set, &written) {
            prop_assert!(bytes.len() < 2 * MAX_BYTES);
            let Ok(Some(Message::Changes { set: of, record: part })) = read(&bytes) else {
                panic!("not as written");
            };
            prop_assert_eq!(of, set);
            prop_assert!(part.present.keys().all(|clock| *clock < before), "the highest first");
            before = part.present.keys().next().copied().unwrap_or(before);
            for (first, last) in part.seen.ranges() {
                whole.seen.insert(first, last);
            }
            for (clock, entry) in part.present {
                prop_assert!(part.seen.ranges().any(|(first, last)| first <= clock && clock <= last));
                prop_assert!(whole.present.insert(clock, entry).is_none());
            }
        }
        prop_assert_eq!(whole, written);
    }

    #[test]
    fn other_messages_are_read_as_they_were_written(
        name in any::<String>(),
        incarnation in any::<u64>(),
        (leaving, hello) in any::<(bool, bool)>(),
        clocks in vec(0..=MAX_CLOCK, SETS),
        sets in vec(0..SETS, 0..40),
    ) {
        let heartbeat = Heartbeat {
            name: name.into(),
            incarnation,
            leaving,
            hello,
            clocks: clocks.clone().try_into().expect("as many as sets"),
        };
        let written = read(&heartbeat.encode());
        prop_assert_eq!(written, Ok(Some(Message::Heartbeat(Box::new(heartbeat)))));
        for bytes in ended(3, &clocks) {
            let written = Message::Ended { set: 3, clocks: clocks.clone() };
            prop_assert_eq!(read(&bytes), Ok(Some(written)));
        }
        prop_assert_eq!(read(&request(&sets)), Ok(Some(Message::Request { sets })));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200), kind in 0..6_u8) {
        let _ = read(&bytes);
        let _ = read(&[&[VERSION, kind], &*bytes].concat());
    }

    #[test]
    fn a_damaged_message_is_refused_or_is_another(
        clocks in btree_set(1..200_u64, 1..60),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = changes(0, &record(&clocks, "k", 0)).remove(0).to_vec();
        let at = at.index(bytes.len());
        prop_assert_eq!(read(&bytes[..at]).ok().flatten(), None, "cut");
        bytes[at] = byte;
        if let Ok(Some(Message::Changes { record, .. })) = read(&bytes) {
            prop_assert!(record.seen.last() <= MAX_CLOCK);
        }
    }
}

#[test]
fn other_versions_and_kinds_are_skipped() {
    assert_eq!(read(&[VERSION + 1, 0, 7]), Ok(None));
    assert_eq!(read(&[VERSION, 200, 7]), Ok(None));
    assert_eq!(read(&[]), Err(Malformed));
    assert_eq!(read(&[VERSION]), Err(Malformed));
    let longer = [&request(&[1])[..], &[0]].concat();
    assert_eq!(read(&longer), Err(Malformed));
}

#[test]
fn many_entries_are_split() {
    let clocks: BTreeSet<Clock> = (1..=5_000).collect();
    let messages = changes(0, &record(&clocks, "k", 0));
    assert_eq!(messages.len(), 3, "1,000 entries each, and the rest");
    let scattered = (1..=20_000)
        .map(|clock| 3 * clock)
        .filter(|clock| clock % 2 == 1);
    let scattered = record(&scattered.collect(), "k", 0);
    assert!(changes(0, &scattered).len() >= 2, "ranges have bytes, too");
}
