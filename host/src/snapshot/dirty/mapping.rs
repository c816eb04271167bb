//! A memory file and a shared mapping of all of it: memories of the kind that guests have, for trying things out.
#![allow(unsafe_code, reason = "maps memory")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::Span;

/// A mapped memory file.
pub(crate) struct Mapping {
    start: *mut u8,
    len: usize,
    file: OwnedFd,
}

impl Mapping {
    pub(crate) fn new(len: usize) -> io::Result<Mapping> {
        let file = memfd_create("granary-trial", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, len as u64)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new shared mapping of our own file at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            start: start.cast(),
            len,
            file,
        })
    }

    /// Address and length.
    pub(crate) fn range(&self) -> (*const u8, usize) {
        (self.start.cast_const(), self.len)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`, and is written through `bytes_mut` only.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// All of it as a guest's memory.
    pub(crate) fn span(&self) -> Span<'_> {
        Span {
            bytes: self.bytes(),
            file: self.file.as_fd(),
            offset: 0,
            dead: 0..0,
        }
    }

    /// Drops all page-table entries, as reclaim may. The file keeps the pages.
    pub(crate) fn drop_entries(&self) {
        // SAFETY: on a shared mapping of a file no byte is lost.
        unsafe { libc::madvise(self.start.cast(), self.len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` made this mapping, and no borrow outlives it.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
