//! The linear memories of all instances: one reservation of address space, cut into slots of one stride.
//!
//! The reservation is a shared mapping of a memory file, so that it costs one kernel mapping however many instances there are,
//! and pages that nobody has touched cost nothing. A slot is as long as a memory may become: memories never move.
//!
//! There are **no guards** between slots, and a memory's tail is writable to the kernel. What keeps a guest inside its
//! `memory.size` are the bounds checks that the engine compiles in: they compare with the current length only because the
//! engine is told that nothing is reserved (`memory_reservation(0)`), see [`engine`](super::engine). The tests there try to get out.
//!
//! A released slot is punched out of the file before it's free, so the next owner finds zeros.
//!
//! **Not here:** what is in a memory, and what changed in it ([`snapshot`](crate::snapshot)).
#![allow(unsafe_code, reason = "maps memory and lends it to the engine as linear memories")]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// The reservation and which slots of it are free.
#[derive(Debug)]
pub struct Slab {
    base: NonNull<u8>,
    stride: usize,
    slots: usize,
    file: OwnedFd,
    free: Mutex<Free>,
}

// SAFETY: `base` is the start of a mapping that lives as long as the slab; the slab itself never reads or writes through it.
// Each slot's bytes belong to the one `Slot` that is handed out for it.
unsafe impl Send for Slab {}
// SAFETY: as above; the free list is behind a lock.
unsafe impl Sync for Slab {}

#[derive(Debug, Default)]
struct Free {
    /// Released slots, zeroed. The last one is taken first: its page tables are still there.
    released: Vec<usize>,
    /// Slots from here on were never taken.
    untouched: usize,
    /// Slots that could not be zeroed and are lost until the next start.
    lost: usize,
}

/// All slots are in use: more instances than the host is configured for. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabFull {
    /// How many there are.
    pub slots: usize,
}

/// One slot, owned. Zeroed and given back when it's dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slab: Arc<Slab>,
    index: usize,
    /// How much of it was ever accessible: what has to be zeroed.
    used: usize,
}

thread_local! {
    /// The slot and length that the memory of the instance being made on this thread takes. The engine asks for a memory by
    /// its type alone; which slot it is and how long its image is are known only to who makes the instance.
    static BIRTH: Cell<Option<(Slot, usize)>> = const { Cell::new(None) };
}

impl Slab {
    /// Reserves up to `slots` slots of `stride` bytes; fewer if the system has no room for so many.
    pub fn new(stride: usize, slots: usize) -> io::Result<Arc<Slab>> {
        assert!(stride.is_multiple_of(1 << 16) && stride > 0 && slots > 0);
        let mut count = slots;
        loop {
            match Slab::map(stride, count) {
                Ok(slab) => {
                    if count < slots {
                        tracing::warn!(
                            wanted = slots,
                            slots = count,
                            stride,
                            "address space for fewer instances than configured"
                        );
                    }
                    return Ok(Arc::new(slab));
                }
                Err(error) if count == 1 => return Err(error),
                Err(_) => count = count.div_ceil(2),
            }
        }
    }

    fn map(stride: usize, slots: usize) -> io::Result<Slab> {
        let len = stride.checked_mul(slots).ok_or(io::ErrorKind::OutOfMemory)?;
        let file = memfd_create("granary-memories", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, len as u64)?;
        // SAFETY: a new shared mapping of our own file at an address of the kernel's choice; nothing else is affected.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                std::os::fd::AsRawFd::as_raw_fd(&file),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A huge page would make every small grain cost 2 MiB. Best effort: without huge pages in the kernel it's an error.
        // SAFETY: advice on the mapping made above.
        unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Slab {
            base,
            stride,
            slots,
            file,
            free: Mutex::default(),
        })
    }

    /// Takes a slot; all its bytes are zeros.
    pub(super) fn take(self: &Arc<Slab>) -> Result<Slot, SlabFull> {
        let mut free = self.lock();
        let index = match free.released.pop() {
            Some(index) => index,
            None if free.untouched < self.slots => {
                free.untouched += 1;
                free.untouched - 1
            }
            None => return Err(SlabFull { slots: self.slots }),
        };
        drop(free);
        Ok(Slot {
            slab: Arc::clone(self),
            index,
            used: 0,
        })
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// How many slots are taken.
    pub fn taken(&self) -> usize {
        let free = self.lock();
        free.untouched - free.released.len() - free.lost
    }

    /// The whole reservation's address and length.
    pub fn range(&self) -> (*const u8, usize) {
        (self.base.as_ptr(), self.stride * self.slots)
    }

    /// The memory file: byte `i` of the reservation is byte `i` of the file.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        // The list is whole between any two statements: a panic elsewhere can't have broken it.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping; every slot holds the slab alive, so none is in use.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.stride * self.slots) };
    }
}

impl Slot {
    /// Where it begins in the memory file.
    pub(super) fn offset(&self) -> u64 {
        (self.index * self.slab.stride) as u64
    }

    /// Makes `instantiate` give this slot, `len` bytes of it, to the memory that it creates on this thread.
    pub(super) fn lend<T>(self, len: usize, instantiate: impl FnOnce() -> T) -> T {
        assert!(len <= self.slab.stride);
        BIRTH.set(Some((self, len)));
        let made = instantiate();
        // Not taken when the instance could not be made: the slot goes back.
        BIRTH.take();
        made
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let zeroed = self.used == 0
            || fallocate(
                &self.slab.file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                self.offset(),
                self.used as u64,
            )
            .map_err(|error| tracing::error!(%error, slot = self.index, "a released memory could not be zeroed"))
            .is_ok();
        let mut free = self.slab.lock();
        // What isn't zeros must never be another grain's memory.
        if zeroed {
            free.released.push(self.index)
        } else {
            free.lost += 1
        }
    }
}

/// Gives the engine memories from the slab.
pub(super) struct SlabMemories;

// SAFETY: what it returns is page-aligned, zeroed when the slot was taken, and accessible for `byte_capacity` bytes at an
// address that never changes. No guard is promised: the engine is configured with none and says so here.
unsafe impl MemoryCreator for SlabMemories {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        // With any of these the compiled code would trust accesses that it must check.
        assert!(
            reserved.unwrap_or(0) == 0 && guard == 0,
            "the engine expects reserved or guarded memory"
        );
        let (mut slot, len) = BIRTH
            .take()
            .ok_or("a memory was asked for outside of Instance::start")?;
        if len < minimum {
            return Err(format!(
                "the image has {len} bytes, the module's memory at least {minimum}"
            ));
        }
        slot.used = len;
        Ok(Box::new(SlotMemory { slot, len }))
    }
}

/// A linear memory in its slot.
struct SlotMemory {
    slot: Slot,
    len: usize,
}

// SAFETY: `as_ptr` is valid for `byte_capacity` bytes, the slot's stride, as long as the slot is held; growing only moves the
// length within it, over bytes that are still zeros.
unsafe impl LinearMemory for SlotMemory {
    fn byte_size(&self) -> usize {
        self.len
    }

    fn byte_capacity(&self) -> usize {
        self.slot.slab.stride
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        wasmtime::ensure!(
            new_size <= self.byte_capacity(),
            "a grain's memory has at most {} bytes",
            self.byte_capacity()
        );
        self.len = self.len.max(new_size);
        self.slot.used = self.slot.used.max(new_size);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        let slab = &self.slot.slab;
        // SAFETY: `index` is below `slots`, so this stays inside the mapping.
        unsafe { slab.base.as_ptr().add(self.slot.index * slab.stride) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIDE: usize = 1 << 20;

    fn memory(slab: &Arc<Slab>, len: usize) -> Box<dyn LinearMemory> {
        let ty = MemoryType::new(1, None);
        slab.take()
            .unwrap()
            .lend(len, || SlabMemories.new_memory(ty, 65536, None, Some(0), 0).unwrap())
    }

    fn bytes(memory: &mut dyn LinearMemory) -> &mut [u8] {
        // SAFETY: the test holds the memory mutably for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
    }

    #[test]
    fn a_reused_slot_reads_as_zero() {
        let slab = Slab::new(STRIDE, 2).unwrap();
        let mut first = memory(&slab, 65536);
        first.grow_to(STRIDE).unwrap();
        bytes(first.as_mut()).fill(0xaa);
        let address = first.as_ptr();
        drop(first);
        let mut second = memory(&slab, STRIDE);
        assert_eq!(second.as_ptr(), address);
        assert!(bytes(second.as_mut()).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn slots_do_not_overlap_and_run_out_with_a_typed_error() {
        let slab = Slab::new(STRIDE, 3).unwrap();
        let mut all: Vec<_> = (0..3).map(|_| memory(&slab, STRIDE)).collect();
        for (i, one) in all.iter_mut().enumerate() {
            bytes(one.as_mut()).fill(i as u8 + 1);
        }
        for (i, one) in all.iter_mut().enumerate() {
            assert!(bytes(one.as_mut()).iter().all(|byte| *byte == i as u8 + 1));
        }
        assert_eq!(slab.take().unwrap_err(), SlabFull { slots: 3 });
        assert_eq!(slab.taken(), 3);
        all.pop();
        assert_eq!(slab.taken(), 2);
        assert!(slab.take().is_ok());
    }

    #[test]
    fn a_memory_grows_to_its_slots_end_and_not_beyond() {
        let slab = Slab::new(STRIDE, 2).unwrap();
        let mut one = memory(&slab, 65536);
        assert!(one.grow_to(STRIDE + 1).is_err());
        assert_eq!(one.byte_size(), 65536);
        one.grow_to(STRIDE).unwrap();
        bytes(one.as_mut())[STRIDE - 1] = 1;
    }

    #[test]
    fn a_slot_that_no_memory_took_goes_back() {
        let slab = Slab::new(STRIDE, 1).unwrap();
        slab.take().unwrap().lend(65536, || ());
        assert_eq!(slab.taken(), 0);
        assert!(
            SlabMemories
                .new_memory(MemoryType::new(1, None), 65536, None, None, 0)
                .is_err()
        );
    }

    #[test]
    fn a_hundred_thousand_slots_of_64_mib_can_be_reserved() {
        let slab = Slab::new(64 << 20, 100_000).unwrap();
        assert_eq!(slab.slots(), 100_000);
        let last = Slot {
            slab: Arc::clone(&slab),
            index: 99_999,
            used: 0,
        };
        let mut last = last.lend(65536, || {
            SlabMemories
                .new_memory(MemoryType::new(1, None), 65536, None, None, 0)
                .unwrap()
        });
        last.grow_to(64 << 20).unwrap();
        *bytes(last.as_mut()).last_mut().unwrap() = 7;
        // It was never taken from the list, so it must not come back to it.
        std::mem::forget(last);
    }
}
