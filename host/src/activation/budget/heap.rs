//! The allocator gives back what is freed.
//!
//! Left to itself glibc takes ever larger blocks from its heaps once one such block was freed, up to 32 MiB, and holes of that size
//! stay with the process. A host reads and writes images of many MiB: after a few of them half of a small budget was free memory that
//! nobody could have. With a fixed threshold large blocks are mappings of their own and go when they're freed.
//!
//! **Not here:** another allocator; where it isn't glibc this does nothing.
#![allow(unsafe_code, reason = "two calls of the C library's allocator")]

/// Blocks from here on are mappings of their own. Well above what a common call allocates, since a mapping costs two system calls and
/// its pages' faults.
#[cfg(target_env = "gnu")]
const OWN_MAPPING_BYTES: libc::c_int = 256 << 10;

/// Fixes the threshold; once, before there is much on the heap.
pub(crate) fn fix_threshold() {
    // SAFETY: sets a number of the allocator, under its own lock.
    #[cfg(target_env = "gnu")]
    let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES) } == 1;
    #[cfg(target_env = "gnu")]
    if !set {
        tracing::warn!("the allocator's threshold can't be set: freed memory may stay with the host");
    }
}

/// Gives back the free pages of all heaps: some milliseconds, during which allocations may wait.
pub(super) fn trim() {
    // SAFETY: gives back pages that hold nothing, under the allocator's own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
