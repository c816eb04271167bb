//! Who has the last word on how much memory all guests take together.
//!
//! A guest's own limit is the engine's; this is for the host as a whole, which can be out of memory long before every guest has
//! reached its own.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

/// A grant, or nothing when the host has no room. The grant is dropped when the turn is over: by then the memory is taken, or never
/// will be.
pub type Growth = Pin<Box<dyn Future<Output = Option<Box<dyn Any + Send>>> + Send>>;

/// Decides whether a running guest may take more memory.
pub trait MemoryGate: Send + Sync {
    /// A grant for `bytes` more. May take a while, in which the guest is suspended.
    fn grow(&self, bytes: u64) -> Growth;

    /// Whether a turn that has computed for a tick, on a memory of `len` bytes, has to end since the host is out of memory. The last
    /// resort: a guest may touch memory that it was granted long ago.
    fn must_stop(&self, len: u64) -> bool;
}
