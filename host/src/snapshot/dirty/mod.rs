//! Which pages of a memory may have changed.

mod compare;
mod mapping;
mod userfaultfd;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use granary_core::page::PAGE_SIZE;
use rustix::fs::{SeekFrom, seek};

use self::compare::Compare;
#[cfg(test)]
pub(super) use self::mapping::Mapping;
use self::userfaultfd::Userfaultfd;
use super::{Choice, SnapshotConfig, Span};

/// Finds pages that may have changed. Between `arm` and `scan` no write to an armed page may stay unseen; pages that have not
/// changed may be found, too.
pub(super) trait Dirty: Send + Sync {
    /// Whether writes to armed pages are seen by themselves. Otherwise every page has to be compared with a copy.
    fn sees_writes(&self) -> bool;

    /// From now on a write to one of these pages is one that `scan` finds.
    fn arm(&self, span: &Span<'_>, pages: std::ops::Range<usize>) -> io::Result<()>;

    /// Adds the pages of `pages` that may have been written since they were armed, in rising order.
    fn scan(&self, span: &Span<'_>, pages: std::ops::Range<usize>, found: &mut Vec<u32>) -> io::Result<()>;
}

/// How changed pages are found on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Write protection and its log in the page tables.
    Userfaultfd,
    /// Comparing with copies.
    Compare,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Userfaultfd => "userfaultfd",
            Method::Compare => "compare",
        })
    }
}

/// The host asked for userfaultfd, and this system lacks a part of it.
#[derive(Debug)]
pub struct TrackingError {
    /// The part.
    pub missing: String,
}

impl fmt::Display for TrackingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dirty tracking by userfaultfd wants Linux >= 6.7 and permission for it: {}; `compare` works everywhere",
            self.missing
        )
    }
}

impl std::error::Error for TrackingError {}

/// The way of this host, and the pool of kept copies that all grains share.
pub struct Tracking {
    pub(super) dirty: Box<dyn Dirty>,
    method: Method,
    reason: Option<String>,
    /// Copies kept now, in pages.
    kept: AtomicUsize,
    most: usize,
    pub(super) quiet_commits: u8,
}

impl Tracking {
    /// Chooses, for memories that all lie in `reservation` (address, length), a shared mapping of a memory file.
    pub fn new(config: &SnapshotConfig, reservation: (*const u8, usize)) -> Result<Arc<Tracking>, TrackingError> {
        let (dirty, method, reason): (Box<dyn Dirty>, _, _) = match config.choice {
            Choice::Compare => (Box::new(Compare), Method::Compare, None),
            choice => match Userfaultfd::new(reservation) {
                Ok(userfaultfd) => (Box::new(userfaultfd), Method::Userfaultfd, None),
                Err(missing) if choice == Choice::Userfaultfd => return Err(TrackingError { missing }),
                Err(missing) => {
                    tracing::warn!(%missing, "no dirty tracking by userfaultfd: memories are compared with copies");
                    (Box::new(Compare), Method::Compare, Some(missing))
                }
            },
        };
        Ok(Arc::new(Tracking {
            dirty,
            method,
            reason,
            kept: AtomicUsize::new(0),
            most: config.hot_bytes / PAGE_SIZE,
            quiet_commits: config.quiet_commits,
        }))
    }

    /// The way that was chosen.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Why it isn't userfaultfd, if nobody asked for another.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Pages kept as copies now, over all grains.
    pub fn kept_pages(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Takes room for one copy. Without it a page can't be hot; comparing can't do without copies and always gets it.
    pub(super) fn take_copy(&self) -> bool {
        let before = self.kept.fetch_add(1, Ordering::Relaxed);
        if before < self.most || !self.dirty.sees_writes() {
            return true;
        }
        self.kept.fetch_sub(1, Ordering::Relaxed);
        false
    }

    pub(super) fn return_copies(&self, copies: usize) {
        self.kept.fetch_sub(copies, Ordering::Relaxed);
    }
}

impl fmt::Debug for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracking({})", self.method)
    }
}

/// Adds the pages of `pages` that were ever written: those that the memory file has. All others are zeros.
pub(super) fn written_ever(span: &Span<'_>, pages: std::ops::Range<usize>, found: &mut Vec<u32>) -> io::Result<()> {
    let end = span.offset + (pages.end * PAGE_SIZE) as u64;
    let mut at = span.offset + (pages.start * PAGE_SIZE) as u64;
    while at < end {
        let data = match seek(span.file, SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            // None behind `at`.
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(span.file, SeekFrom::Hole(data))?.min(end);
        let page = |place: u64| ((place - span.offset) / PAGE_SIZE as u64) as u32;
        found.extend(page(data)..page(hole + PAGE_SIZE as u64 - 1));
        at = hole;
    }
    Ok(())
}
