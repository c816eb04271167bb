//! Which segment files the log has.
//!
//! A segment that is gone leaves no gap that the others would show when it was the oldest, the newest, or the only one. So the files
//! are written down: a file is entered before its first group is written and struck out before it's removed. A start
//! that misses a file knows it; one that finds a file that isn't entered knows that nothing in it counts.
//!
//! ```text
//! granary log 1
//! 0
//! 3
//! end <blake3 of the lines above>
//! ```

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use super::segment::LOG_DIR;
use crate::storage::StorageError;
use crate::storage::files::{Files, read_all, write_atomically};

/// The register's file in the log's folder.
pub(crate) const REGISTER: &str = "segments";
const FIRST_LINE: &str = "granary log 1";
const UNPOISONED: &str = "no thread panics while it holds the register's lock";

/// See the module.
pub(super) struct Register {
    files: Arc<dyn Files>,
    numbers: Mutex<BTreeSet<u64>>,
}

impl Register {
    pub(super) fn new(files: Arc<dyn Files>, numbers: BTreeSet<u64>) -> Register {
        Register {
            files,
            numbers: Mutex::new(numbers),
        }
    }

    /// Enters a file; lasts on return.
    pub(super) fn enter(&self, number: u64) -> io::Result<()> {
        self.change(|numbers| numbers.insert(number))
    }

    /// Strikes a file out; lasts on return.
    pub(super) fn strike(&self, number: u64) -> io::Result<()> {
        self.change(|numbers| numbers.remove(&number))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) -> io::Result<()> {
        // Held over the write: two changes must not overtake each other on the disk.
        let mut numbers = self.numbers.lock().expect(UNPOISONED);
        if change(&mut numbers) {
            write(&*self.files, &numbers)?;
        }
        Ok(())
    }
}

/// What the register says; `None` when there is none.
pub(crate) fn read(files: &dyn Files) -> Result<Option<BTreeSet<u64>>, StorageError> {
    let bytes = match read_all(files, &format!("{LOG_DIR}/{REGISTER}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    parse(&bytes).map(Some).ok_or_else(|| {
        StorageError::Corrupt(format!(
            "{LOG_DIR}/{REGISTER}, the list of the log's files, is damaged; `granary repair` makes another of the files that \
             are there"
        ))
    })
}

/// Writes the register; lasts on return.
pub(crate) fn write(files: &dyn Files, numbers: &BTreeSet<u64>) -> io::Result<()> {
    let mut text = format!("{FIRST_LINE}\n");
    numbers.iter().for_each(|number| text.push_str(&format!("{number}\n")));
    let end = format!("end {}\n", blake3::hash(text.as_bytes()).to_hex());
    write_atomically(files, LOG_DIR, REGISTER, (text + &end).as_bytes())
}

fn parse(bytes: &[u8]) -> Option<BTreeSet<u64>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (lines, end) = text.split_at_checked(text.rfind("end ")?)?;
    if end != format!("end {}\n", blake3::hash(lines.as_bytes()).to_hex()) {
        return None;
    }
    let mut lines = lines.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    lines.map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::faulty::{FaultyFiles, Power};

    #[test]
    fn a_register_is_read_back_and_any_flipped_bit_is_noticed() {
        let files = FaultyFiles::new(Power::steady());
        assert_eq!(read(&files).unwrap(), None);
        for numbers in [BTreeSet::new(), BTreeSet::from([0, 3, 170])] {
            write(&files, &numbers).unwrap();
            assert_eq!(read(&files).unwrap(), Some(numbers));
        }
        let good = files.bytes("log/segments");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bad), None, "bit {bit}");
        }
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len]), None, "{len} bytes");
        }
    }
}
