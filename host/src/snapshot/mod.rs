//! What a turn changed in a memory.
//!
//! A [`Tracker`] follows one grain's memory from activation to eviction. After a turn it writes what changed since the last
//! commit as patches, ready for the commit log. How it finds the pages is the [`Tracking`]'s choice at the host's start:
//! userfaultfd where the kernel has it, else comparing. Both pass one suite of tests.
//!
//! **Not here:** how guests run: this sees a span of memory and its file, never an instance.

mod config;
mod digest;
mod dirty;
mod image;
#[cfg(test)]
mod tests;
mod tracker;

use std::ops::Range;
use std::os::fd::BorrowedFd;

pub use self::config::{Choice, SnapshotConfig};
pub use self::digest::digest;
pub use self::dirty::{Method, Tracking, TrackingError};
pub use self::image::BaseImage;
pub use self::tracker::Tracker;

/// A linear memory between two turns.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// All of it. Starts at a page.
    pub bytes: &'a [u8],
    /// The file behind it: tells which pages were ever written.
    pub file: BorrowedFd<'a>,
    /// Where in the file it begins.
    pub offset: u64,
    /// A part that nobody will read before writing it: dead stack. Its pages needn't be saved.
    pub dead: Range<usize>,
}
