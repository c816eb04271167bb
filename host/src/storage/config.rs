//! Every knob of storage: its default, its unit, and what it stops.

use std::time::Duration;

/// How the storage of one data folder behaves. The defaults suit a host with a disk of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Bytes of a log segment. Default 16 MiB: zero-written in some 10 ms, and the unit in which checkpoints free the log.
    /// A record that's longer gets a file of its own.
    pub segment_bytes: u32,
    /// Bytes of log that no checkpoint has freed. Default 96 MiB: bounds the replay at the next start, and what the log adds to
    /// the disk however little lives. From a third of it on checkpoints free the oldest segments; above it turns that may commit
    /// are refused.
    pub log_limit_bytes: u64,
    /// Grains that have commits in the log. Default 131,072, some 500 bytes of memory each: from there on checkpoints free the oldest
    /// segments, however short the log is. Stops small grains, and ever new ones that are deleted again, from eating the memory, and a
    /// start from needing more of it than there is.
    pub log_grains: u64,
    /// Bytes of records that wait for the disk. Default 64 MiB: a disk that stalls must not eat the memory.
    pub pending_limit_bytes: usize,
    /// Commits of one grain in the log since its image. Default 4,096: keeps its next activation within milliseconds.
    pub chain_limit_commits: usize,
    /// Bytes of those commits. Default 1 MiB, for the same reason.
    pub chain_limit_bytes: u64,
    /// The longest image that lies in the snapshot store itself. Default 4 KiB: the store spills longer values into files
    /// of its own that it never syncs. Longer images go to image files.
    pub inline_limit_bytes: usize,
    /// Bytes after which the next image file is started. Default 64 MiB: the unit in which dead images are swept up. One that is
    /// mostly dead is swept up from a quarter of it on.
    pub image_file_bytes: u64,
    /// Grains that a checkpoint writes to the snapshot store in one batch. Default 128: batches stop the store's readers.
    pub checkpoint_batch_grains: usize,
    /// The snapshot store's cache. Default 64 MiB.
    pub cache_bytes: u64,
    /// Percent of the disk that stay free. Default 5: below it turns that may commit are refused, since neither log nor
    /// snapshot store survive a full disk in good order.
    pub reserve_percent: u8,
    /// Bytes of the disk that stay free, if that's more. Default 256 MiB: as much as checkpoints of a full log may take.
    pub reserve_bytes: u64,
    /// Bytes of the ballast file, which is given back when a start or a checkpoint finds the disk full. Default 64 MiB, 0 for
    /// none: a few segments of the snapshot store and of the log.
    pub ballast_bytes: u64,
    /// How often the free space is looked up. Default 1 s: bounds by how much writes can go below the reserve.
    pub space_interval: Duration,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
}

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig {
            segment_bytes: 16 << 20,
            log_limit_bytes: 96 << 20,
            log_grains: 128 << 10,
            pending_limit_bytes: 64 << 20,
            chain_limit_commits: 4096,
            chain_limit_bytes: 1 << 20,
            inline_limit_bytes: 4096,
            image_file_bytes: 64 << 20,
            checkpoint_batch_grains: 128,
            cache_bytes: 64 << 20,
            reserve_percent: 5,
            reserve_bytes: 256 << 20,
            ballast_bytes: 64 << 20,
            space_interval: Duration::from_secs(1),
            sabotage: Sabotage::default(),
        }
    }
}

/// Faults that tests switch on to prove that the tests of durability notice them. All off by default; nothing else may set them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// The log isn't read at the start.
    pub no_replay: bool,
    /// Commits are reported durable before they're written.
    pub report_before_sync: bool,
    /// Syncs of the log return at once.
    pub no_sync: bool,
    /// Syncs of the log wait as long as there is a file of this name.
    pub held_sync: Option<&'static str>,
}
