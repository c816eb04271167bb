//! The stacks that guests run on: one reservation for all, like the memories.
//!
//! A turn runs on a stack of its own, so that it can be suspended while it waits for a call. The engine keeps the last stack of
//! an instance for its next turn: one stack for each instance that has run. The guest's frames are limited by a check that is
//! compiled in; below that limit is room for what the host runs on the guest's stack, and below that a guard that faults
//! (Linux >= 6.13, it costs no kernel mapping). Older kernels get headroom and a canary there, checked when the stack is
//! given back; a dead canary means that other memory may be damaged, too, and ends the process.
#![allow(unsafe_code, reason = "maps memory and lends it to the engine as stacks")]

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::{StackCreator, StackMemory};

use crate::threads;

/// Below the usable part: the guard, or headroom with the canary at its lowest end.
const GUARD: usize = 64 << 10;
const CANARY: u64 = 0x6772_616e_6172_7921;
/// `MADV_GUARD_INSTALL`, newer than the C library's headers may be.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// The reservation and which stacks of it are free.
#[derive(Debug)]
pub(super) struct Stacks {
    base: NonNull<u8>,
    /// Guard and usable part.
    stride: usize,
    count: usize,
    guarded: bool,
    free: Mutex<Free>,
}

// SAFETY: `base` is the start of a mapping that lives as long as this; each stack's bytes belong to the one `Stack` of it.
unsafe impl Send for Stacks {}
// SAFETY: as above; the free list is behind a lock.
unsafe impl Sync for Stacks {}

#[derive(Debug, Default)]
struct Free {
    released: Vec<usize>,
    untouched: usize,
}

/// All stacks are in use. The turn did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StacksFull;

impl std::fmt::Display for StacksFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("all stacks are in use")
    }
}

impl std::error::Error for StacksFull {}

thread_local! {
    /// The stack that was last handed out on this thread: how an instance learns which one is its own. Read by
    /// [`Stacks::watch`] only, since on this thread other instances take stacks, too.
    static LAST: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Stacks {
    /// Reserves `count` stacks of `usable` bytes.
    pub(super) fn new(usable: usize, count: usize) -> io::Result<Arc<Stacks>> {
        let stride = usable.next_multiple_of(4096) + GUARD;
        let len = stride.checked_mul(count).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new private mapping at an address of the kernel's choice; nothing else is affected.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A huge page would make every stack resident. Best effort: without huge pages in the kernel it's an error.
        // SAFETY: advice on the mapping made above.
        unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the lowest part of the first stack, which nobody uses yet.
        let guarded = unsafe { libc::madvise(base.as_ptr().cast(), GUARD, MADV_GUARD_INSTALL) } == 0;
        if !guarded {
            tracing::info!(
                "this kernel has no guard pages without mappings (Linux >= 6.13): stacks get headroom and a canary"
            );
        }
        Ok(Arc::new(Stacks {
            base,
            stride,
            count,
            guarded,
            free: Mutex::default(),
        }))
    }

    /// Whether a guard lies under each stack.
    pub(super) fn guarded(&self) -> bool {
        self.guarded
    }

    /// Runs `f` and tells which stack was handed out on this thread in it. One within another keeps them apart.
    pub(super) fn watch<T>(f: impl FnOnce() -> T) -> (T, Option<usize>) {
        let outer = LAST.take();
        let value = f();
        (value, LAST.replace(outer))
    }

    /// Gives the pages of a stack back to the system. Nothing may be running or suspended on it.
    pub(super) fn discard(&self, index: usize) {
        let usable = self.usable(index);
        // SAFETY: advice on a stack's usable part, which reads as zeros afterwards; at rest the engine keeps nothing on it.
        unsafe { libc::madvise(usable.start as *mut libc::c_void, usable.len(), libc::MADV_DONTNEED) };
    }

    fn take(&self) -> Result<usize, StacksFull> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = free.released.pop() {
            return Ok(index);
        }
        if free.untouched == self.count {
            return Err(StacksFull);
        }
        free.untouched += 1;
        let index = free.untouched - 1;
        drop(free);
        self.guard(index);
        Ok(index)
    }

    /// Puts guard or canary under a stack that is used for the first time.
    fn guard(&self, index: usize) {
        let low = self.bottom(index);
        // SAFETY: the part of the stack's own bytes below what is usable.
        if self.guarded && unsafe { libc::madvise(low.cast(), GUARD, MADV_GUARD_INSTALL) } == 0 {
            return;
        }
        assert!(
            !self.guarded,
            "a stack can't be guarded: {}",
            io::Error::last_os_error()
        );
        // SAFETY: aligned to a page, inside the mapping, and nobody else's.
        unsafe { low.cast::<u64>().write_volatile(CANARY) };
    }

    fn release(&self, index: usize) {
        // SAFETY: what `guard` wrote; readable as there's no guard.
        let alive = self.guarded || unsafe { self.bottom(index).cast::<u64>().read_volatile() } == CANARY;
        if !alive {
            tracing::error!("a stack overflowed into its neighbour's: memory may be damaged");
            threads::abort();
        }
        self.discard(index);
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .released
            .push(index);
    }

    fn bottom(&self, index: usize) -> *mut u8 {
        assert!(index < self.count);
        // SAFETY: `index` is below `count`, so this stays inside the mapping.
        unsafe { self.base.as_ptr().add(index * self.stride) }
    }

    fn usable(&self, index: usize) -> Range<usize> {
        let start = self.bottom(index) as usize;
        start + GUARD..start + self.stride
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: `new` made this mapping; every stack holds it alive, so none is in use.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.stride * self.count) };
    }
}

/// Gives the engine stacks from the reservation.
pub(super) struct SlabStacks(pub(super) Arc<Stacks>);

// SAFETY: what it returns is page-aligned and accessible, and reads as zeros: never used before, or discarded on release.
unsafe impl StackCreator for SlabStacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let index = self.0.take().map_err(wasmtime::Error::from)?;
        let stack = Stack {
            stacks: Arc::clone(&self.0),
            index,
        };
        assert!(
            stack.range().len() >= size,
            "the engine wants longer stacks than it was configured for"
        );
        LAST.set(Some(index));
        Ok(Box::new(stack))
    }
}

struct Stack {
    stacks: Arc<Stacks>,
    index: usize,
}

// SAFETY: the range is valid and this stack's alone as long as this value lives.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.range().end as *mut u8
    }

    fn range(&self) -> Range<usize> {
        self.stacks.usable(self.index)
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let start = self.stacks.bottom(self.index);
        start..start.wrapping_add(GUARD)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stacks.release(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_run_out_with_a_typed_error_and_come_back_zeroed() {
        let stacks = Stacks::new(1 << 16, 2).unwrap();
        let creator = SlabStacks(Arc::clone(&stacks));
        let one = creator.new_stack(1 << 16, true).unwrap();
        let two = creator.new_stack(1 << 16, true).unwrap();
        assert!(creator.new_stack(1 << 16, true).err().unwrap().is::<StacksFull>());
        assert!(one.range().end <= two.guard_range().start as usize);
        // SAFETY: inside the stack's own range.
        unsafe { one.top().sub(8).cast::<u64>().write_volatile(7) };
        let top = one.top();
        drop(one);
        let again = creator.new_stack(1 << 16, true).unwrap();
        assert_eq!(again.top(), top);
        // SAFETY: as above.
        assert_eq!(unsafe { top.sub(8).cast::<u64>().read_volatile() }, 0);
    }

    #[test]
    fn a_watch_sees_the_stack_of_its_own_function_only() {
        let stacks = Stacks::new(1 << 16, 4).unwrap();
        let creator = SlabStacks(stacks);
        let new = || creator.new_stack(1 << 16, true).unwrap();
        let _unwatched = new();
        let ((_outer, inner), seen) = Stacks::watch(|| {
            let outer = new();
            (outer, Stacks::watch(new).1)
        });
        assert_eq!((seen, inner), (Some(1), Some(2)));
        assert_eq!(Stacks::watch(|| ()).1, None);
    }

    #[test]
    fn a_kernel_write_into_the_guard_fails() {
        let stacks = Stacks::new(1 << 16, 2).unwrap();
        if !stacks.guarded() {
            eprintln!("skipped: stack guards wants Linux >= 6.13");
            return;
        }
        let stack = SlabStacks(Arc::clone(&stacks)).new_stack(1 << 16, true).unwrap();
        // A system call that writes there gets EFAULT where a plain store would end the test.
        let write = |address: *mut u8| {
            // SAFETY: the kernel checks the address.
            unsafe { libc::syscall(libc::SYS_getrandom, address, 1usize, 0u32) }
        };
        let guard = stack.guard_range();
        assert_eq!(write(guard.start), -1);
        assert_eq!(write(guard.end.wrapping_sub(1)), -1);
        assert_eq!(write(guard.end), 1);
        stacks.discard(0);
        assert_eq!(
            write(guard.end.wrapping_sub(1)),
            -1,
            "discarding must not remove the guard"
        );
    }
}
