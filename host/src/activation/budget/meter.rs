//! What the process takes, as the kernel says.
//!
//! - **Private memory**: heap, stacks, kept copies of pages, caches, all that waits. From `/proc/self/statm`: resident less shared.
//! - **Memories of grains**: blocks of the slab's memory file, whether this process has them mapped or not.
//! - **Page tables**: each memory that was ever used keeps some. From `/proc/self/status`, which is dearer and asked less often.
//!
//! Not counted: pages of files (the program itself, the page cache), which the kernel takes back when it needs them.
//! Two system calls, some 2 us: cheap enough after every eviction, too dear for every turn.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::fstat;

/// Page tables are read with one measurement of so many.
const TABLES_EVERY: u64 = 16;

/// Asks the kernel.
#[derive(Debug)]
pub(crate) struct Meter {
    statm: File,
    status: File,
    slab: OwnedFd,
    page_bytes: u64,
    count: AtomicU64,
    /// What was read last, for when reading fails.
    private: AtomicU64,
    tables: AtomicU64,
}

/// What the process takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Heap, stacks, copies.
    pub(crate) private: u64,
    /// Grains' memories.
    pub(crate) memories: u64,
    /// Page tables.
    pub(crate) tables: u64,
}

impl Taken {
    pub(crate) fn bytes(&self) -> u64 {
        self.private + self.memories + self.tables
    }
}

impl Meter {
    /// A meter for this process with its memories in the file `slab`.
    pub(crate) fn new(slab: BorrowedFd<'_>) -> io::Result<Meter> {
        let meter = Meter {
            statm: File::open("/proc/self/statm")?,
            status: File::open("/proc/self/status")?,
            slab: slab.try_clone_to_owned()?,
            page_bytes: page_bytes()?,
            count: AtomicU64::new(0),
            private: AtomicU64::new(0),
            tables: AtomicU64::new(0),
        };
        meter.private().ok_or(io::ErrorKind::InvalidData)?;
        Ok(meter)
    }

    pub(crate) fn taken(&self) -> Taken {
        if self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(TABLES_EVERY)
            && let Some(tables) = self.tables()
        {
            self.tables.store(tables, Ordering::Relaxed);
        }
        if let Some(private) = self.private() {
            self.private.store(private, Ordering::Relaxed);
        }
        Taken {
            private: self.private.load(Ordering::Relaxed),
            memories: fstat(&self.slab).map_or(0, |stat| stat.st_blocks.max(0) as u64 * 512),
            tables: self.tables.load(Ordering::Relaxed),
        }
    }

    fn private(&self) -> Option<u64> {
        let mut text = [0; 256];
        private_pages(read(&self.statm, &mut text)?).map(|pages| pages * self.page_bytes)
    }

    fn tables(&self) -> Option<u64> {
        let mut text = [0; 4096];
        page_tables(read(&self.status, &mut text)?)
    }
}

fn read<'a>(file: &File, text: &'a mut [u8]) -> Option<&'a str> {
    let len = file.read_at(text, 0).ok()?;
    std::str::from_utf8(&text[..len]).ok()
}

/// Of a line `size resident shared ...`.
fn private_pages(statm: &str) -> Option<u64> {
    let mut numbers = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

/// The system's page, the unit of `statm`.
fn page_bytes() -> io::Result<u64> {
    let mut text = [0; 4096];
    let maps = File::open("/proc/self/smaps")?;
    let first = read(&maps, &mut text).and_then(|text| kib(text, "KernelPageSize:"));
    first.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn page_tables(status: &str) -> Option<u64> {
    kib(status, "VmPTE:")
}

/// The figure of a line `NAME 12 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        assert_eq!(private_pages("9000 500 120 3 0 77 0\n"), Some(380));
        assert_eq!(private_pages("9000 500"), None);
        assert_eq!(page_tables("VmLck:\t 0 kB\nVmPTE:\t     52 kB\n"), Some(52 << 10));
        assert_eq!(page_tables("VmLck:\t 0 kB\n"), None);
    }

    #[test]
    fn heap_and_memories_are_seen() {
        const BYTES: usize = 32 << 20;
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        let meter = Meter::new(file.as_fd()).unwrap();
        let before = meter.taken();
        assert!(before.private > 0 && before.tables > 0);
        let heap = std::hint::black_box(vec![1_u8; BYTES]);
        File::from(file.try_clone().unwrap()).write_all_at(&heap, 0).unwrap();
        let after = meter.taken();
        assert_eq!(after.memories - before.memories, BYTES as u64);
        // Other tests of this process take and give back memory at the same time.
        assert!(
            after.private > before.private + BYTES as u64 / 2,
            "{before:?} {after:?}"
        );
        drop(heap);
    }
}
