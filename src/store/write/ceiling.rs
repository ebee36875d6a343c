//! [`Ceiling`]: a seq that no topic has reached, for runs that begin without the database.
//!
//! The clock alone is not enough: it may have been set back since the topic's last message. So the ceiling is stored
//! in a file in the folder of the spool.

use std::fs;
use std::path::{Path, PathBuf};

use crate::log::Seq;
use crate::store::tables::run::JUMP;

/// The seq in the file is so far ahead that the file is seldom written, and that no open run reaches it.
const MARGIN: i64 = JUMP;
const FILE: &str = "ceiling";

pub(in crate::store) struct Ceiling {
    seq: Seq,
    /// The seq in the file.
    noted: Seq,
    file: Option<PathBuf>,
}

impl Ceiling {
    /// Reads the ceiling in the spool's folder, if there is one.
    pub(in crate::store) fn read(folder: Option<&Path>) -> Self {
        let file = folder.map(|folder| folder.join(FILE));
        let noted = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let noted = noted.and_then(|text| text.trim().parse().ok().map(Seq::new));
        let noted = noted.unwrap_or_default();
        Self {
            seq: noted,
            noted,
            file,
        }
    }

    /// No topic has a seq beyond this one.
    pub(in crate::store) fn seq(&self) -> Seq {
        self.seq
    }

    /// A topic may have seqs up to this one.
    pub(in crate::store) fn raise(&mut self, seq: Seq) {
        self.seq = self.seq.max(seq);
        if self.seq > self.noted.plus(-MARGIN / 2) {
            self.noted = self.seq.plus(MARGIN);
            self.write();
        }
    }

    fn write(&self) {
        let Some(file) = &self.file else {
            return;
        };
        let next = file.with_extension("next");
        let written =
            fs::write(&next, self.noted.to_string()).and_then(|()| fs::rename(&next, file));
        if let Err(error) = written {
            tracing::warn!(
                %error,
                "store.ceiling.not_written: see that the spool's folder is writable and its disk \
                 has room"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn it_never_falls() {
        let mut ceiling = Ceiling::read(None);
        assert_eq!(ceiling.seq(), Seq::ZERO);
        ceiling.raise(Seq::new(7));
        ceiling.raise(Seq::new(3));
        assert_eq!(ceiling.seq(), Seq::new(7));
    }

    #[test]
    fn the_next_run_begins_beyond_what_this_one_may_have_given() {
        let folder = tempdir().expect("a folder");
        let mut ceiling = Ceiling::read(Some(folder.path()));
        ceiling.raise(Seq::new(1_000));
        // None of these seqs is written to the file.
        ceiling.raise(Seq::new(1_000 + MARGIN / 4));
        let next = Ceiling::read(Some(folder.path()));
        assert_eq!(next.seq(), Seq::new(1_000 + MARGIN));
        ceiling.raise(Seq::new(1_000 + MARGIN));
        let next = Ceiling::read(Some(folder.path()));
        assert_eq!(next.seq(), Seq::new(1_000 + 2 * MARGIN));
    }
}
