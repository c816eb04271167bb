//! Segment files: made, filled with zeros once, and given out again and again.
//!
//! A segment is *prepared* before it's used: its file has its full length in written blocks, and its header with a new
//! incarnation is on the disk before the first group. So writing a group changes no metadata of the file system, one
//! fdatasync is one write to the disk, and no crash can leave groups under a header of another use.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use granary_core::id::Lsn;

use super::format::{BODY_START, Incarnation, SegmentHeader};
use super::register::Register;
use crate::storage::files::{File, Files, UNFINISHED};

/// The folder of the log.
pub(crate) const LOG_DIR: &str = "log";
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// One use of a segment file.
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) header: SegmentHeader,
    /// Empty while the file is planned only: places in it are given out before it exists.
    file: OnceLock<Arc<dyn File>>,
    /// Whether the header is on the disk.
    prepared: AtomicBool,
    /// Bytes up to the end of the last record that was placed.
    used: AtomicU64,
    /// Appends that have a place here but aren't in the index yet: the segment can't be freed before they are.
    unindexed: AtomicU32,
}

impl Segment {
    /// A segment that has no file yet.
    pub(super) fn planned(number: u64, header: SegmentHeader) -> Segment {
        Segment {
            name: file_name(number),
            header,
            file: OnceLock::new(),
            prepared: AtomicBool::new(false),
            used: AtomicU64::new(u64::from(BODY_START)),
            unindexed: AtomicU32::new(0),
        }
    }

    /// A segment whose file has its header on the disk already, used up to `used`.
    pub(super) fn existing(name: String, header: SegmentHeader, file: Arc<dyn File>, used: u64) -> Segment {
        Segment {
            name,
            header,
            file: OnceLock::from(file),
            prepared: AtomicBool::new(true),
            used: AtomicU64::new(used),
            unindexed: AtomicU32::new(0),
        }
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.header.incarnation
    }

    /// The file; `None` while the segment is planned only.
    pub(super) fn file(&self) -> Option<&Arc<dyn File>> {
        self.file.get()
    }

    pub(super) fn path(&self) -> String {
        path(&self.name)
    }

    pub(super) fn number(&self) -> u64 {
        file_number(&self.name).expect("segments' names are made of their numbers")
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of records, headers included.
    pub(super) fn live_bytes(&self) -> u64 {
        self.used() - u64::from(BODY_START)
    }

    pub(super) fn set_used(&self, used: u64) {
        self.used.store(used, Ordering::Relaxed);
    }

    /// Holds the segment until the returned value is dropped.
    pub(super) fn hold(self: &Arc<Segment>) -> Hold {
        self.unindexed.fetch_add(1, Ordering::AcqRel);
        Hold(Arc::clone(self))
    }

    /// Whether an append has yet to enter its place here into the index.
    pub(super) fn is_held(&self) -> bool {
        self.unindexed.load(Ordering::Acquire) > 0
    }

    /// The next use of the same file. Its records must be needed no more.
    pub(super) fn next_use(&self, header: SegmentHeader) -> Segment {
        let file = self.file().expect("only segments with a file are used again");
        let next = Segment::existing(self.name.clone(), header, Arc::clone(file), u64::from(BODY_START));
        next.prepared.store(false, Ordering::Release);
        next
    }

    /// Puts the file and its header onto the disk, unless they are there. Must be done before the first group is written.
    pub(super) fn prepare(&self, files: &dyn Files, register: &Register) -> io::Result<()> {
        if self.prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.file() {
            None => self.create(files, register)?,
            Some(file) => {
                // After a crash there is the old header or the new one: it lies within one sector.
                file.write_at(&self.header.encode(), 0)?;
                file.sync()?;
            }
        }
        self.prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the start of the body look untouched.
    pub(super) fn wipe(&self) -> io::Result<()> {
        let file = self.file().expect("only segments with a file are wiped");
        let page = (self.header.file_len - u64::from(BODY_START)).min(u64::from(BODY_START));
        file.write_at(&ZEROS[..page as usize], u64::from(BODY_START))?;
        file.sync()
    }

    /// Makes the file. It gets its name only when it's complete.
    fn create(&self, files: &dyn Files, register: &Register) -> io::Result<()> {
        let unfinished = path(&format!("{}{UNFINISHED}", self.name));
        let file = files.create(&unfinished)?;
        let mut at = 0;
        while at < self.header.file_len {
            let len = (self.header.file_len - at).min(ZEROS.len() as u64);
            file.write_at(&ZEROS[..len as usize], at)?;
            at += len;
        }
        file.write_at(&self.header.encode(), 0)?;
        file.sync()?;
        files.rename(&unfinished, &self.path())?;
        files.sync_dir(LOG_DIR)?;
        register.enter(self.number())?;
        self.file.set(file).ok().expect("a planned segment is made once");
        Ok(())
    }
}

/// Keeps a segment from being freed, see [`Segment::hold`].
pub(crate) struct Hold(Arc<Segment>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.unindexed.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The path of the segment file `name`.
pub(super) fn path(name: &str) -> String {
    format!("{LOG_DIR}/{name}")
}

/// The name of the `number`-th segment file.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:08}.seg")
}

/// The number in a segment file's name.
pub(super) fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Draws nonces: unknown to guests, as they come from a key that never leaves this process.
pub(super) struct Nonces {
    key: [u8; 32],
}

impl Nonces {
    /// Nonces from a new key.
    pub(super) fn draw() -> io::Result<Nonces> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| io::Error::other(format!("the system has no random bytes: {error}")))?;
        Ok(Nonces { key })
    }

    /// The header of a new use.
    pub(super) fn header(&self, incarnation: Incarnation, lsn_floor: Lsn, file_len: u64) -> SegmentHeader {
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&blake3::keyed_hash(&self.key, &incarnation.to_le_bytes()).as_bytes()[..16]);
        SegmentHeader {
            incarnation,
            nonce,
            lsn_floor,
            file_len,
        }
    }
}
