//! Random ids. If the system has no randomness they repeat. That does no harm: nothing is looked up by them.

use std::fmt;

/// A random id of 128 bits.
pub(super) fn random_id() -> String {
    let [high, low] = halves();
    format!("{high:016x}{low:016x}")
}

/// A random UUID, version 4.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uuid([u64; 2]);

impl Uuid {
    pub(super) fn random() -> Self {
        let [high, low] = halves();
        Self([
            (high & 0xffff_ffff_ffff_0fff) | 0x4000,
            (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000,
        ])
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([high, low]) = self;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff,
        )
    }
}

fn halves() -> [u64; 2] {
    [(); 2].map(|()| getrandom::u64().unwrap_or_default())
}
