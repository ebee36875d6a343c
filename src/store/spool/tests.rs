mod damage;
mod model;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use super::*;
use crate::log::{Change, Seq};

fn open(dir: &Path, limits: SpoolLimits) -> (Spool, Recovered) {
    Spool::open(dir, limits).expect("the spool opens")
}

fn row(topic: &str, seq: i64, payload: &str) -> Record {
    Record {
        topic: topic.to_owned(),
        seq: Seq::new(seq),
        event: "shout".to_owned(),
        payload: payload.to_owned(),
        client_ref: None,
        change: None,
        at_micros: seq ^ 1_700_000_000_000_000,
    }
}

fn rows(spool: &Spool) -> Vec<Record> {
    let rows: io::Result<_> = spool.rows().collect();
    rows.expect("the rows can be read")
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the folder can be read");
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some());
    paths.sort();
    paths
}

fn on_disk(dir: &Path) -> u64 {
    let paths = segments(dir).into_iter();
    paths.map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// A segment has few rows of 100 bytes.
fn small() -> SpoolLimits {
    SpoolLimits {
        bytes: 1 << 20,
        segment_bytes: 1_000,
    }
}

fn fill(spool: &mut Spool, seqs: std::ops::Range<i64>) -> Vec<Record> {
    let rows: Vec<_> = seqs.map(|seq| row("room", seq, &"x".repeat(100))).collect();
    for row in &rows {
        spool.append(row).expect("there is room");
    }
    rows
}

#[test]
fn a_row_comes_back_as_it_was_appended() {
    let dir = tempdir().unwrap();
    let mut every_kind = vec![
        row("room:1", 1, "{}"),
        row("", i64::MIN, ""),
        row("raum:ü", i64::MAX, "\u{0}\u{10FFFF}"),
    ];
    every_kind[0].client_ref = Some(String::new());
    every_kind[1].change = Some(Change::Update {
        target: Seq::new(-1),
    });
    every_kind[2].change = Some(Change::Delete { target: Seq::MAX });
    every_kind[2].client_ref = Some("ref".to_owned());
    every_kind[2].at_micros = -1;
    every_kind.push(row("room:1", 2, &"long".repeat(1_000_000)));
    let (mut spool, recovered) = open(dir.path(), SpoolLimits::default());
    assert_eq!(recovered, Recovered::default());
    for row in &every_kind {
        spool.append(row).unwrap();
    }
    assert_eq!(spool.peek(10, usize::MAX).unwrap(), every_kind);
    drop(spool);
    let (mut spool, recovered) = open(dir.path(), SpoolLimits::default());
    assert_eq!(recovered.rows, 4);
    assert_eq!(spool.peek(10, usize::MAX).unwrap(), every_kind);
}

#[test]
fn a_borrowed_row_is_appended_like_an_owned_one() {
    let dir = tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), SpoolLimits::default());
    let borrowed = Record {
        topic: "room",
        seq: Seq::new(7),
        event: "shout",
        payload: "{\"a\":1}",
        client_ref: Some("mine"),
        change: None,
        at_micros: 5,
    };
    spool.append(&borrowed).unwrap();
    let [read] = &spool.peek(1, 0).unwrap()[..] else {
        panic!("one row waits");
    };
    assert_eq!(
        (&*read.topic, &*read.payload),
        (borrowed.topic, borrowed.payload)
    );
    assert_eq!(read.client_ref.as_deref(), borrowed.client_ref);
}

#[test]
fn segments_go_when_they_are_passed_and_the_folder_is_empty_in_the_end() {
    let dir = tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), small());
    let all = fill(&mut spool, 1..101);
    let before = segments(dir.path()).len();
    assert!(before > 10, "{before} segments");
    assert_eq!(spool.peek(60, usize::MAX).unwrap(), all[..60]);
    spool.remove(50).unwrap();
    let half = segments(dir.path()).len();
    assert!(
        half <= before / 2 + 1,
        "{half} of {before} segments are left"
    );
    assert_eq!(on_disk(dir.path()), spool.bytes());
    // Rows that were peeked and not removed can still be removed.
    spool.remove(10).unwrap();
    assert_eq!(rows(&spool), all[60..]);
    spool.peek(100, usize::MAX).unwrap();
    spool.remove(1_000).unwrap();
    assert!(spool.is_empty());
    assert_eq!(spool.bytes(), 0);
    assert_eq!(segments(dir.path()), [] as [PathBuf; 0]);
    assert_eq!(spool.heads().count(), 0);
    spool.sync().unwrap();
    let again = fill(&mut spool, 200..203);
    assert_eq!(rows(&spool), again);
}

#[test]
fn a_removed_row_does_not_come_back_after_an_orderly_restart() {
    let dir = tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), small());
    let all = fill(&mut spool, 1..21);
    spool.peek(13, usize::MAX).unwrap();
    spool.remove(13).unwrap();
    drop(spool);
    let (mut spool, recovered) = open(dir.path(), small());
    assert_eq!(recovered.rows, 7);
    assert_eq!(spool.peek(20, usize::MAX).unwrap(), all[13..]);
}

#[test]
fn a_new_run_never_writes_before_a_front_that_is_further_than_the_file() {
    let dir = tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), SpoolLimits::default());
    let all = fill(&mut spool, 1..4);
    spool.peek(2, usize::MAX).unwrap();
    spool.remove(2).unwrap();
    drop(spool);
    // A power cut: the removal of the rows is durable, and the rows are not.
    let segment = &segments(dir.path())[0];
    let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.set_len(fs::metadata(segment).unwrap().len() / 3)
        .unwrap();
    let (mut spool, recovered) = open(dir.path(), SpoolLimits::default());
    assert_eq!(recovered.rows, 0);
    spool.append(&all[2]).unwrap();
    drop(spool);
    assert_eq!(rows(&open(dir.path(), SpoolLimits::default()).0), all[2..]);
}

#[test]
fn peek_keeps_its_limits_and_gives_one_row_at_least() {
    let dir = tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), small());
    let all = fill(&mut spool, 1..31);
    let each = all[0].text_bytes();
    assert_eq!(spool.peek(0, usize::MAX).unwrap(), []);
    assert_eq!(spool.peek(7, usize::MAX).unwrap(), all[..7]);
    assert_eq!(spool.peek(30, 0).unwrap(), all[..1]);
    assert_eq!(spool.peek(30, each * 5).unwrap(), all[..5]);
    assert_eq!(spool.peek(30, each * 6 - 1).unwrap(), all[..5]);
    assert_eq!(spool.len(), 30);
}

#[test]
fn a_full_spool_refuses_and_takes_rows_again_once_a_segment_has_gone() {
    let dir = tempdir().unwrap();
    let limits = SpoolLimits {
        bytes: 8_000,
        segment_bytes: 8_000_000,
    };
    let (mut spool, _) = open(dir.path(), limits);
    let mut seq = 0;
    let refused = loop {
        seq += 1;
        if let Err(error) = spool.append(&row("room", seq, &"x".repeat(100))) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Full { bytes } if bytes == spool.bytes()));
    assert!(spool.bytes() <= limits.bytes && spool.bytes() > limits.bytes - 200);
    assert_eq!(spool.len() as i64, seq - 1);
    let peeked = spool.peek(10, usize::MAX).unwrap().len();
    spool.remove(peeked).unwrap();
    spool.append(&row("room", seq, &"x".repeat(100))).unwrap();
    let read = rows(&spool)
        .iter()
        .map(|row| row.seq.get())
        .collect::<Vec<_>>();
    assert_eq!(read, (11..=seq).collect::<Vec<_>>());
}

#[test]
fn one_row_enters_an_empty_spool_however_large_it_is() {
    let dir = tempdir().unwrap();
    let limits = SpoolLimits {
        bytes: 10,
        segment_bytes: 10,
    };
    let (mut spool, _) = open(dir.path(), limits);
    spool.append(&row("room", 1, "{}")).unwrap();
    let refused = spool.append(&row("room", 2, "{}"));
    assert!(matches!(refused, Err(AppendError::Full { .. })));
    let too_large = row("room", 3, &"x".repeat(64 << 20));
    let refused = spool.append(&too_large);
    assert!(matches!(refused, Err(AppendError::TooLarge { bytes }) if bytes > 64 << 20));
    assert_eq!(spool.len(), 1);
}

#[test]
fn heads_are_the_highest_seqs_of_what_waits() {
    let dir = tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), small());
    for (topic, seq) in [("a", 5), ("b", 1), ("a", 9), ("c", 3)] {
        spool.append(&row(topic, seq, "{}")).unwrap();
    }
    let heads = |spool: &Spool| -> BTreeMap<String, i64> {
        let heads = spool
            .heads()
            .map(|(topic, seq)| (topic.to_owned(), seq.get()));
        heads.collect()
    };
    let expected = [("a", 9), ("b", 1), ("c", 3)].map(|(topic, seq)| (topic.to_owned(), seq));
    assert_eq!(heads(&spool), BTreeMap::from(expected));
    spool.peek(2, usize::MAX).unwrap();
    spool.remove(2).unwrap();
    drop(spool);
    let (spool, _) = open(dir.path(), small());
    assert_eq!(spool.head("a"), Some(Seq::new(9)));
    assert_eq!(spool.head("b"), None);
    assert_eq!(heads(&spool).len(), 2);
}

#[test]
fn a_spool_has_one_owner() {
    let dir = tempdir().unwrap();
    let first = open(dir.path(), small());
    let second = Spool::open(dir.path(), small());
    assert!(matches!(second, Err(OpenError::InUse(path)) if path == dir.path()));
    drop(first);
    open(dir.path(), small());
}

#[test]
fn what_another_version_wrote_is_refused_and_left_alone() {
    let dir = tempdir().unwrap();
    let later = dir.path().join("segment-00000000000000000001.v2");
    fs::write(&later, "rows of the future").unwrap();
    let refused = Spool::open(dir.path(), small());
    assert!(matches!(refused, Err(OpenError::Unsupported(path)) if path == later));
    assert_eq!(fs::read(&later).unwrap(), b"rows of the future");
    fs::rename(&later, dir.path().join("notes.v2")).unwrap();
    open(dir.path(), small());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("missing").join("spool");
    let refused = Spool::open(&path, small()).expect_err("its parent is missing");
    let text = refused.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
}
