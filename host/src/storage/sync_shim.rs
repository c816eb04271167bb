//! Makes sled's syncs real.
//!
//! sled 0.34 calls `sync_file_range` where it promises that bytes are on the disk. That call writes pages out, but neither asks
//! the disk to empty its cache nor writes the metadata that finds them again, so what sled believes stable a power cut can
//! take. The symbol is defined here as fdatasync: the linker prefers it to the C library's, in every program that this
//! crate is linked into. That it did is not taken on trust: a start counts the calls that a throw-away store makes, and
//! refuses to serve when there are none.

#![allow(
    unsafe_code,
    reason = "a C symbol has to be defined, and fdatasync called with the descriptor that comes with it"
)]

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often sled has synced so far in this process.
pub(crate) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

// SAFETY: no other definition of this name is linked statically, and this one has the C library's signature. What it does is
// stronger than what the original promises.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(fd: c_int, _offset: libc::off64_t, _len: libc::off64_t, _flags: c_uint) -> c_int {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: fdatasync takes any integer; one that is no open descriptor is an error that goes back to the caller.
    unsafe { libc::fdatasync(fd) }
}
