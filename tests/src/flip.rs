//! One wrong bit in a file, as a disk may return it.

use std::path::PathBuf;

/// The bit in the middle of what a file holds before its zeros.
#[derive(Debug)]
pub struct Flip {
    path: PathBuf,
    at: usize,
}

impl Flip {
    /// Flips it.
    pub fn make(path: PathBuf) -> Flip {
        let bytes = std::fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let flip = Flip { path, at: used / 2 };
        flip.turn();
        flip
    }

    /// Flips it back.
    pub fn undo(self) {
        self.turn();
    }

    fn turn(&self) {
        let mut bytes = std::fs::read(&self.path).unwrap();
        bytes[self.at] ^= 0x10;
        std::fs::write(&self.path, &bytes).unwrap();
    }
}
