//! Compares random operations and restarts of a spool with a queue in memory.

use std::fs::OpenOptions;
use std::io::Write;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        topic: u8,
        bytes: usize,
    },
    Take {
        peek: usize,
        remove: usize,
    },
    Sync,
    Restart,
    /// The process is killed while it writes a record, after this many bytes.
    Torn {
        bytes: usize,
    },
    /// The power is cut before the note of the front is durable.
    FrontLost,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4_u8, 0..400_usize).prop_map(|(topic, bytes)| Step::Append { topic, bytes }),
        4 => (0..9_usize, 0..12_usize).prop_map(|(peek, remove)| Step::Take { peek, remove }),
        1 => Just(Step::Sync),
        1 => Just(Step::Restart),
        1 => (1..60_usize).prop_map(|bytes| Step::Torn { bytes }),
        1 => Just(Step::FrontLost),
    ]
}

struct Model {
    dir: tempfile::TempDir,
    /// `None` only during a restart.
    spool: Option<Spool>,
    appended: Vec<Record>,
    removed: usize,
}

impl Model {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let spool = Some(open(dir.path(), small()).0);
        Self {
            dir,
            spool,
            appended: Vec::new(),
            removed: 0,
        }
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().expect("it is open between steps")
    }

    fn restart(&mut self, crash: impl FnOnce(&Path)) -> Recovered {
        drop(self.spool.take());
        crash(self.dir.path());
        let (spool, recovered) = open(self.dir.path(), small());
        self.spool = Some(spool);
        recovered
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Append { topic, bytes } => {
                let seq = self.appended.len() as i64;
                let mut row = row(&format!("room:{topic}"), seq, &"x".repeat(bytes));
                row.client_ref = (bytes % 3 == 0).then(|| seq.to_string());
                row.change = (bytes % 5 == 0).then_some(Change::Delete {
                    target: Seq::new(seq - 1),
                });
                self.spool().append(&row).unwrap();
                self.appended.push(row);
            }
            Step::Take { peek, remove } => {
                let peeked = self.spool().peek(peek, usize::MAX).unwrap();
                let waiting = &self.appended[self.removed..];
                assert_eq!(peeked, waiting[..peek.min(waiting.len())]);
                self.removed += remove.min(peeked.len());
                self.spool().remove(remove).unwrap();
            }
            Step::Sync => self.spool().sync().unwrap(),
            Step::Restart => {
                self.restart(|_| {});
            }
            Step::Torn { bytes } => {
                let mut torn = 0;
                let recovered = self.restart(|dir| torn = tear(dir, bytes));
                assert_eq!(recovered.torn_bytes, torn);
            }
            Step::FrontLost => {
                self.restart(|dir| fs::remove_file(dir.join("front")).unwrap());
                let again = rows(self.spool()).len();
                let waiting = self.appended.len() - self.removed;
                assert!(again >= waiting, "{again} of {waiting} rows are left");
                self.removed = self.appended.len() - again;
            }
        }
    }

    fn check(&mut self) {
        let waiting = self.appended[self.removed..].to_vec();
        let spool = self.spool();
        assert_eq!(rows(spool), waiting);
        assert_eq!(spool.len(), waiting.len());
        assert_eq!(spool.is_empty(), waiting.is_empty());
        let heads = waiting.iter().map(|row| (&*row.topic, row.seq));
        let heads: BTreeMap<_, _> = heads.collect();
        assert_eq!(spool.heads().collect::<BTreeMap<_, _>>(), heads);
        let on_disk = on_disk(self.dir.path());
        assert_eq!(self.spool().bytes(), on_disk);
    }
}

/// Appends the beginning of a record to the last segment, if there is one.
fn tear(dir: &Path, bytes: usize) -> u64 {
    let Some(last) = segments(dir).pop() else {
        return 0;
    };
    let mut record = Vec::new();
    row("torn", 1, &"x".repeat(100))
        .encode(&mut record)
        .unwrap();
    let mut file = OpenOptions::new().append(true).open(last).unwrap();
    file.write_all(&record[..bytes]).unwrap();
    bytes as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_is_a_queue_whatever_happens_between_two_steps(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
            model.check();
        }
    }
}
