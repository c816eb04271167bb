//! What a host takes of its machine, as the kernel counts it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use granary_tests::{procfs, soak};

/// Evictions, the allocator and closed connections take their time; this long is for a slow, busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// Memory that may be more afterwards whatever the host had before: allocators keep what they once had, and caches of a host
/// that has just started are still empty.
pub(crate) const MEMORY_SLACK: u64 = 6 << 20;
/// Descriptors that may be more: a connection that is being opened or closed, a segment of the log that is being prepared.
pub(crate) const DESCRIPTOR_SLACK: u64 = 2;

/// Figures of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// Resident bytes without shared memory.
    pub(crate) resident: u64,
    /// Bytes of its memory files: the grains' memories.
    pub(crate) memories: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
}

impl Footprint {
    /// Of a running process.
    pub(crate) fn of(pid: u32) -> Footprint {
        let descriptors = procfs::descriptors(pid);
        let memories = descriptors
            .iter()
            .filter(|(_, target)| target.to_string_lossy().starts_with("/memfd:"));
        // One that was closed meanwhile takes nothing.
        let taken = memories.map(|(entry, _)| fs::metadata(entry).map_or(0, |file| file.blocks() * 512));
        Footprint {
            resident: procfs::bytes(pid, "RssAnon:") + procfs::bytes(pid, "RssFile:"),
            memories: taken.sum(),
            descriptors: descriptors.len() as u64,
        }
    }

    /// Waits until the process takes no more than 5 % and the slack above this. Its own heap counts in soak only: when an allocator gives
    /// back what was freed is its own affair.
    pub(crate) fn await_return(self, pid: u32) {
        let limit = |before: u64, slack| before + before / 20 + slack;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Footprint::of(pid);
            let fits = (!soak::is_on() || now.resident <= limit(self.resident, MEMORY_SLACK))
                && now.memories <= limit(self.memories, 1 << 20)
                && now.descriptors <= limit(self.descriptors, DESCRIPTOR_SLACK);
            if fits {
                println!("before {self:?}\nafter  {now:?}");
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the host does not give back what the attack took: before {self:?}, now {now:?}"
            );
            std::thread::sleep(PAUSE);
        }
    }
}
