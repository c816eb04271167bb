//! What a host takes of its machine, as the kernel counts it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use granary_tests::soak;

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
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
        };
        let (mut memories, mut descriptors) = (0, 0);
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            // The log's segments are made as they are needed, up to its limit, and kept: whoever writes has it make them.
            let is_storage = target.contains("/data/log/") || target.contains("/data/images/");
            descriptors += u64::from(!is_storage);
            if target.starts_with("/memfd:") {
                // One that was closed meanwhile takes nothing.
                memories += fs::metadata(entry.path()).map_or(0, |file| file.blocks() * 512);
            }
        }
        Footprint {
            resident: field("RssAnon:") + field("RssFile:"),
            memories,
            descriptors,
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
