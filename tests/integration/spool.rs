//! The spool on a disk that is full for real: a small tmpfs, and the system's limit on the size of
//! a file. Both are properties of a process, so each test runs itself again in one of its own.

use std::path::Path;
use std::process::{Command, Output};

use slackir::log::Seq;
use slackir::store::spool::{AppendError, Record, Spool, SpoolLimits};
use tempfile::tempdir;

/// Where the process on the full disk finds it.
const DISK: &str = "SLACKIR_TEST_FULL_DISK";
/// A script's exit code for a disk that this machine does not let it make.
const NOT_ALLOWED: i32 = 77;

/// Runs a test of this file again, from a shell script that ends in `exec "$0" "$@"`.
fn again(test: &str, script: &str, disk: &Path) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.arg(std::env::current_exe().expect("a test knows its own file"));
    command.args(["--exact", test, "--nocapture"]);
    command.env(DISK, disk).output().expect("a shell runs")
}

fn passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let ran = output.status.success() && text.contains("1 passed");
    assert!(ran, "{}\n{text}\n{errors}", output.status);
}

fn open(dir: &Path) -> (Spool, usize) {
    let limits = SpoolLimits::default()
        .bytes(64_000_000)
        .segment_bytes(100_000);
    let (spool, recovered) = Spool::open(dir, limits).expect("the spool opens");
    assert_eq!((recovered.torn_bytes, recovered.damaged), (0, 0));
    (spool, recovered.rows)
}

fn row(seq: i64, payload: &str) -> Record<&str> {
    Record {
        topic: "random:lobby",
        seq: Seq::new(seq),
        event: "shout",
        payload,
        client_ref: None,
        change: None,
        at_micros: 0,
    }
}

/// Appends until the disk is full; the next seq that was not taken.
fn fill(spool: &mut Spool, mut seq: i64, payload: &str) -> i64 {
    loop {
        match spool.append(&row(seq, payload)) {
            Ok(()) => seq += 1,
            Err(AppendError::DiskFull(_)) => return seq,
            Err(error) => panic!("no full disk, but {error}"),
        }
        assert!(seq < 100_000, "this disk is never full");
    }
}

/// What happens on the full disk: nothing that was taken is lost, nothing else is there, and once
/// there is room it goes on.
fn fill_and_empty(disk: &Path) {
    let dir = disk.join("spool");
    let payload = "x".repeat(997);
    let (mut spool, _) = open(&dir);
    let taken = fill(&mut spool, 0, &payload);
    assert!(taken > 50, "{taken} rows");
    // Refused again; the rows before are whole all the same.
    assert_eq!(fill(&mut spool, taken, &payload), taken);
    assert_eq!(spool.len() as i64, taken);
    drop(spool);
    let (mut spool, rows) = open(&dir);
    assert_eq!(rows as i64, taken);
    let mut next = 0;
    while !spool.is_empty() {
        let peeked = spool.peek(40, usize::MAX).expect("a full disk can be read");
        for record in &peeked {
            assert_eq!((record.seq, &record.payload), (Seq::new(next), &payload));
            next += 1;
        }
        spool
            .remove(peeked.len())
            .expect("a full disk lets go of files");
    }
    assert_eq!(next, taken);
    let more = fill(&mut spool, taken, &payload);
    assert!(
        more > taken + 50,
        "{} rows in the room that came back",
        more - taken
    );
    spool.sync().expect("a full disk keeps what it has");
}

#[test]
fn a_full_disk_tears_no_record() {
    const SCRIPT: &str = r#"unshare --mount true || exit 77
        exec unshare --mount sh -c '
        mount -t tmpfs -o size=500k tmpfs "$SLACKIR_TEST_FULL_DISK" || exit 77
        exec "$0" "$@"' "$0" "$@""#;
    if let Some(disk) = std::env::var_os(DISK) {
        return fill_and_empty(Path::new(&disk));
    }
    let disk = tempdir().expect("a folder for it");
    let output = again("spool::a_full_disk_tears_no_record", SCRIPT, disk.path());
    // Where nobody may mount, the limit below stands for both.
    if output.status.code() != Some(NOT_ALLOWED) {
        passed(&output);
    }
}

#[test]
fn a_file_that_may_not_grow_tears_no_record() {
    // In blocks of 512 bytes: too little for a segment.
    const SCRIPT: &str = r#"trap "" XFSZ; ulimit -f 130; exec "$0" "$@""#;
    if let Some(disk) = std::env::var_os(DISK) {
        return fill_and_empty(Path::new(&disk));
    }
    let disk = tempdir().expect("a folder for it");
    passed(&again(
        "spool::a_file_that_may_not_grow_tears_no_record",
        SCRIPT,
        disk.path(),
    ));
}
