//! [`Ceiling`]: a seq that no topic has reached yet, for runs that begin without the database.
//!
//! The clock alone does not tell: it may have been ahead when the topic was last written to, or be put
//! back. So the ceiling stands in a file beside the spool, for a start without the database.

use std::fs;
use std::path::{Path, PathBuf};

/// The file says a seq that is so far beyond what was given that it is seldom written.
const MARGIN: i64 = 1 << 32;
const FILE: &str = "ceiling";

pub(super) struct Ceiling {
    seq: i64,
    /// What the file says.
    noted: i64,
    file: Option<PathBuf>,
}

impl Ceiling {
    /// What the folder of the spool says, where there is one.
    pub(super) fn read(folder: Option<&Path>) -> Self {
        let file = folder.map(|folder| folder.join(FILE));
        let noted = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let noted = noted.and_then(|text| text.trim().parse().ok());
        let noted = noted.unwrap_or_default();
        Self {
            seq: noted,
            noted,
            file,
        }
    }

    /// No topic has a seq beyond this.
    pub(super) fn seq(&self) -> i64 {
        self.seq
    }

    /// A topic may have seqs up to this.
    pub(super) fn raise(&mut self, seq: i64) {
        self.seq = self.seq.max(seq);
        if self.seq > self.noted.saturating_sub(MARGIN / 2) {
            self.noted = self.seq.saturating_add(MARGIN);
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
            tracing::warn!(%error, "store.ceiling.not_written");
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
        assert_eq!(ceiling.seq(), 0);
        ceiling.raise(7);
        ceiling.raise(3);
        assert_eq!(ceiling.seq(), 7);
    }

    #[test]
    fn the_next_run_begins_beyond_what_this_one_may_have_given() {
        let folder = tempdir().expect("a folder");
        let mut ceiling = Ceiling::read(Some(folder.path()));
        ceiling.raise(1_000);
        // No seq of these is written down.
        ceiling.raise(1_000 + MARGIN / 4);
        let next = Ceiling::read(Some(folder.path()));
        assert_eq!(next.seq(), 1_000 + MARGIN);
        ceiling.raise(1_000 + MARGIN);
        let next = Ceiling::read(Some(folder.path()));
        assert_eq!(next.seq(), 1_000 + 2 * MARGIN);
    }
}
