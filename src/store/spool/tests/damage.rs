//! Damaged files: after a crash, from a bad disk, or written by another program.

use std::fs::OpenOptions;
use std::io::Write;

use proptest::prelude::*;

use super::super::reader::{RecordReader, SpoolItem};
use super::super::record::{HEADER, MARKER};
use super::*;

/// The records of a new spool's only segment, and the end of each.
fn one_segment(rows: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let (mut file, mut buffer) = (Vec::new(), Vec::new());
    let ends = rows.iter().map(|row| {
        row.encode(&mut buffer).unwrap();
        file.extend_from_slice(&buffer);
        file.len()
    });
    let ends = ends.collect();
    (file, ends)
}

fn segment(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("segment-{id:020}.v1"))
}

fn opened(bytes: &[u8]) -> (Vec<Record>, Recovered) {
    let dir = tempdir().unwrap();
    fs::write(segment(dir.path(), 1), bytes).unwrap();
    let (spool, recovered) = open(dir.path(), SpoolLimits::default());
    let rows = rows(&spool);
    assert_eq!(rows.len(), spool.len());
    (rows, recovered)
}

fn three() -> Vec<Record> {
    let mut rows: Vec<_> = (1..4).map(|seq| row("room:é", seq, "{\"a\":1}")).collect();
    rows[2].client_ref = Some("mine".to_owned());
    rows[2].change = Some(Change::Update {
        target: Seq::new(1),
    });
    rows
}

#[test]
fn a_torn_last_record_is_cut_off_wherever_it_is_torn() {
    let (file, ends) = one_segment(&three());
    for torn in ends[1]..ends[2] {
        let dir = tempdir().unwrap();
        fs::write(segment(dir.path(), 1), &file[..torn]).unwrap();
        let (mut spool, recovered) = open(dir.path(), small());
        assert_eq!(recovered.torn_bytes, (torn - ends[1]) as u64);
        assert_eq!(
            (recovered.rows, recovered.damaged),
            (2, 0),
            "torn at {torn}"
        );
        // The next row is in another segment than the incomplete record.
        spool.append(&row("room", 9, "{}")).unwrap();
        drop(spool);
        let (spool, recovered) = open(dir.path(), small());
        assert_eq!((recovered.torn_bytes, recovered.damaged), (0, 0));
        let seqs = rows(&spool).iter().map(|row| row.seq).collect::<Vec<_>>();
        assert_eq!(seqs, [1, 2, 9]);
    }
}

#[test]
fn a_last_record_whose_pages_were_not_written_is_cut_off() {
    let (mut file, ends) = one_segment(&three());
    for from in [ends[1], ends[1] + HEADER, ends[2] - 1] {
        file[from..].fill(0);
        file.resize(ends[2] + 5_000, 0);
        let (rows, recovered) = opened(&file);
        assert_eq!(rows, three()[..2]);
        assert_eq!(recovered.torn_bytes, (file.len() - ends[1]) as u64);
        file = one_segment(&three()).0;
    }
}

#[test]
fn damage_in_the_middle_costs_its_record_and_is_reported() {
    let (file, ends) = one_segment(&three());
    for at in ends[0]..ends[1] {
        let mut file = file.clone();
        file[at] ^= 0x10;
        let (rows, recovered) = opened(&file);
        assert_eq!(
            rows,
            [three()[0].clone(), three()[2].clone()],
            "damaged at {at}"
        );
        assert_eq!((recovered.damaged, recovered.torn_bytes), (1, 0));
        assert_eq!(recovered.damaged_bytes, (ends[1] - ends[0]) as u64);
        let [place] = &recovered.damage[..] else {
            panic!("one place is damaged");
        };
        assert!(place.path.ends_with("segment-00000000000000000001.v1"));
        assert_eq!((place.from, place.to), (ends[0] as u64, ends[1] as u64));
    }
}

#[test]
fn the_end_of_an_earlier_segment_is_damage_and_not_torn() {
    let dir = tempdir().unwrap();
    let (file, ends) = one_segment(&three());
    fs::write(segment(dir.path(), 1), &file[..ends[2] - 1]).unwrap();
    fs::write(segment(dir.path(), 2), &file).unwrap();
    let (spool, recovered) = open(dir.path(), small());
    assert_eq!(
        (recovered.rows, recovered.damaged, recovered.torn_bytes),
        (5, 1, 0)
    );
    assert_eq!(rows(&spool).len(), 5);
}

#[test]
fn many_damaged_places_are_counted_and_the_first_are_told() {
    let rows: Vec<_> = (0..100).map(|seq| row("room", seq, "{}")).collect();
    let (mut file, ends) = one_segment(&rows);
    for end in ends.iter().step_by(2) {
        file[end - 1] ^= 1;
    }
    let (read, recovered) = opened(&file);
    assert_eq!((read.len(), recovered.damaged), (50, 50));
    assert_eq!(recovered.damage.len(), 16);
}

#[test]
fn a_marker_across_the_border_of_what_is_read_at_a_time_is_found() {
    for border in (64 << 10) - 8..(64 << 10) + 8 {
        let mut file = vec![0xAA; border];
        file.extend(one_segment(&three()).0);
        let (rows, recovered) = opened(&file);
        assert_eq!(rows, three(), "after {border} bytes");
        assert_eq!(recovered.damaged_bytes, border as u64);
    }
}

#[test]
fn a_payload_cannot_pass_for_a_record_where_its_own_is_damaged() {
    // A payload cannot contain the bytes of a record.
    let (inner, _) = one_segment(&[row("forged", 1, "{}")]);
    let text: String = inner.iter().map(|&byte| char::from(byte)).collect();
    let (mut file, _) = one_segment(&[row("room", 1, &text), row("room", 2, "{}")]);
    file[5] ^= 1;
    let (rows, _) = opened(&file);
    assert_eq!(rows, [row("room", 2, "{}")]);
    assert!(std::str::from_utf8(&MARKER[..1]).is_err());
}

#[test]
fn a_declared_length_reserves_no_memory() {
    let mut file = MARKER.to_vec();
    file.extend_from_slice(&(63_u32 << 20).to_le_bytes());
    file.extend_from_slice(&[0; 4]);
    file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
    file.extend(one_segment(&three()).0);
    let dir = tempdir().unwrap();
    let path = dir.path().join("segment");
    fs::write(&path, &file).unwrap();
    let mut reader = RecordReader::open(&path, 0, file.len() as u64).unwrap();
    let damage = SpoolItem::Damage { from: 0, to: 16 };
    assert_eq!(reader.next().unwrap(), Some(damage));
    let mut rows = 0;
    while reader.next().unwrap().is_some() {
        rows += 1;
    }
    assert_eq!(rows, 3);
    assert!(reader.memory() < 1 << 20, "{} bytes", reader.memory());
}

#[test]
fn without_a_front_the_oldest_segment_comes_again_in_order() {
    for note in [
        None,
        Some(&b"nonsense"[..]),
        Some(&[0xFF; 20][..]),
        Some(&[][..]),
    ] {
        let dir = tempdir().unwrap();
        let (mut spool, _) = open(dir.path(), small());
        let all = fill(&mut spool, 1..21);
        spool.peek(13, usize::MAX).unwrap();
        spool.remove(13).unwrap();
        drop(spool);
        let front = dir.path().join("front");
        match note {
            None => fs::remove_file(front).unwrap(),
            Some(note) => fs::write(front, note).unwrap(),
        }
        let read = rows(&open(dir.path(), small()).0);
        assert!(read.len() >= 7 && read.len() < 13, "{} rows", read.len());
        assert_eq!(read, all[all.len() - read.len()..]);
    }
}

#[test]
fn rows_that_are_spoiled_while_the_spool_is_open_are_given_up() {
    let dir = tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), small());
    let all = fill(&mut spool, 1..21);
    let paths = segments(dir.path());
    let spoil = |path: &Path| {
        let bytes = fs::metadata(path).unwrap().len() as usize;
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(&vec![0; bytes]).unwrap();
    };
    spoil(&paths[0]);
    let read = spool.peek(1, usize::MAX).unwrap();
    let lost = read[0].seq.get() as usize - 1;
    assert!(lost > 1, "{lost} rows of the first segment");
    spool.remove(1).unwrap();
    assert_eq!(spool.len(), 20 - lost - 1);
    assert_eq!(rows(&spool), all[lost + 1..]);
    paths[1..].iter().for_each(|path| spoil(path));
    assert_eq!(spool.peek(1, usize::MAX).unwrap(), []);
    assert!(spool.is_empty());
    assert_eq!(spool.heads().count(), 0);
    let again = fill(&mut spool, 30..33);
    assert_eq!(spool.peek(5, usize::MAX).unwrap(), again);
}

/// Complete records, damaged ones and bytes that resemble records.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let record = (any::<i64>(), ".{0,20}").prop_map(|(seq, payload)| {
        let (bytes, _) = one_segment(&[row("room", seq, &payload)]);
        bytes
    });
    let broken = (record.clone(), any::<prop::sample::Index>(), any::<u8>());
    let broken = broken.prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let cut = (record.clone(), any::<prop::sample::Index>());
    let cut = cut.prop_map(|(bytes, at)| bytes[..at.index(bytes.len())].to_vec());
    let noise = prop::collection::vec(any::<u8>(), 0..100);
    let part = prop_oneof![record, broken, cut, noise, Just(MARKER.to_vec())];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_are_more_than_damage(
        files in prop::collection::vec(file(), 1..4),
        front in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let dir = tempdir().unwrap();
        for (id, bytes) in files.iter().enumerate() {
            fs::write(segment(dir.path(), id as u64), bytes).unwrap();
        }
        fs::write(dir.path().join("front"), front).unwrap();
        let (mut spool, recovered) = open(dir.path(), small());
        let waiting = rows(&spool);
        prop_assert_eq!(waiting.len(), recovered.rows);
        spool.append(&row("last", 1, "{}")).unwrap();
        while !spool.is_empty() {
            let peeked = spool.peek(3, usize::MAX).unwrap().len();
            prop_assert!(peeked > 0);
            spool.remove(peeked).unwrap();
        }
        prop_assert_eq!(segments(dir.path()), [] as [PathBuf; 0]);
    }
}
