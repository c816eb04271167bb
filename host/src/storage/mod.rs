//! Where grains' states last: the trait, and what passes through it.
//!
//! A storage speaks of grains, ballots and commits, never of keys and values. It keeps one prefix-durable order of commits:
//! [`Storage::append`] puts a commit into that order and returns its place at once; a [`DurableSink`] hears up to which place
//! everything is on the disk. What must not leave the host before its commit is durable waits for that, not for the append.
//!
//! **Not here:** which commits there are (the activation machine), how a delta gets into a memory (`wasm`).

mod checkpoint;
pub mod config;
#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod crash_tests;
mod fatal;
mod files;
pub mod fuzzing;
mod grains;
#[cfg(test)]
mod growth_tests;
mod head_value;
mod heads;
mod held;
mod identity;
mod image_files;
mod index;
#[cfg(test)]
mod limits_tests;
mod listing;
mod log;
mod memory;
#[cfg(test)]
mod model_heads;
mod modules;
#[cfg(test)]
mod noise;
mod private;
mod repair;
mod revisions;
mod sled;
mod sled_heads;
mod space;
mod store_place;
#[cfg(test)]
mod suite;
mod sync_shim;
#[cfg(test)]
mod vacancy_tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use granary_core::commit::{Commit, Delta, Head};
use granary_core::id::{GrainKey, GrainName, GrainType, HostId, Lsn, ModuleHash, Revision};
use granary_core::reply_table::ReplyTable;

pub use self::config::StorageConfig;
pub use self::memory::MemoryStorage;
pub(crate) use self::repair::GAVE_UP;
pub use self::repair::{LostGrain, LostRevision, Repair, RepairReport, Whose};
pub use self::sled::SledStorage;

/// Where the snapshot store's files are.
const SNAPSHOT_DIR: &str = "snapshots";

/// A grain as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its last commit.
    pub head: Head,
    /// Whether that commit deleted it: then `parts` and `replies` are empty, and only the numbering goes on.
    pub deleted: bool,
    /// Its state: apply in order over the module's base image. The image first, later deltas after it. A
    /// [vacancy](Delta::vacancy) is alone.
    pub parts: Vec<Delta>,
    /// The replies that it keeps for repeated calls.
    pub replies: ReplyTable,
    /// The place of its last commit; [`Lsn`] 0 when that is in the snapshot store and so durable.
    pub lsn: Lsn,
}

impl Stored {
    /// Whether the grain has state: neither deleted nor vacant.
    pub(crate) fn exists(&self) -> bool {
        !self.deleted && !self.is_vacant()
    }

    /// Whether all that is left of the grain are replies for repeated calls.
    pub(crate) fn is_vacant(&self) -> bool {
        matches!(self.parts.as_slice(), [only] if only.is_vacancy())
    }

    /// Without the state.
    pub(crate) fn stored_head(&self) -> StoredHead {
        StoredHead {
            head: self.head.clone(),
            deleted: self.deleted,
            vacant: self.is_vacant(),
        }
    }
}

/// A grain's last commit, without the state that it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// The commit.
    pub head: Head,
    /// Whether it deleted the grain.
    pub deleted: bool,
    /// Whether it did and left replies for repeated calls.
    pub vacant: bool,
}

impl StoredHead {
    /// Whether the grain has state.
    pub fn exists(&self) -> bool {
        !self.deleted && !self.vacant
    }
}

/// The state from before a grain moved to another module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The module whose memory it is.
    pub module: ModuleHash,
    /// That module's revision of the grain's type.
    pub revision: Revision,
    /// The state: apply in order over that module's base image.
    pub parts: Vec<Delta>,
}

/// One module of a grain type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleRecord {
    /// The type.
    pub kind: GrainType,
    /// Counted from 1 for each type.
    pub revision: Revision,
    /// The name of its bytes, see [`Storage::put_module`].
    pub module: ModuleHash,
    /// When it was deployed, in milliseconds since 1970.
    pub at_ms: u64,
    /// The revision that was current before it, where a rollback leads; 0 for a type's first.
    pub follows: Revision,
}

/// Why storage can't do what was asked. Nothing changed.
#[derive(Debug)]
pub enum StorageError {
    /// The free space of the disk is below the reserve: no commits, reads go on. Free some space.
    DiskReserve {
        /// Bytes free now.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// Commits come faster than checkpoints free the log. Try again later.
    Overloaded,
    /// A revision names a module that isn't stored. Store it first.
    NoModule(ModuleHash),
    /// A type has no such revision. See [`Storage::revisions`].
    NoRevision(GrainType, Revision),
    /// Another host has the data folder.
    InUse(PathBuf),
    /// Stored bytes are damaged: what, where, and what an operator can do.
    Corrupt(String),
    /// The operating system failed.
    Io(std::io::Error),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::DiskReserve { free, reserve } => write!(
                f,
                "the disk has {free} bytes free, less than the reserve of {reserve}: writes are refused until space is freed"
            ),
            StorageError::Overloaded => f.write_str("the commit log is full until the next checkpoint is done"),
            StorageError::NoModule(module) => write!(f, "module {module} has to be stored before a revision names it"),
            StorageError::NoRevision(kind, revision) => write!(f, "`{kind}` has no revision {}", revision.0),
            StorageError::InUse(folder) => write!(
                f,
                "another host uses the data folder {}: stop it or give this one a folder of its own",
                folder.display()
            ),
            StorageError::Corrupt(what) => write!(f, "stored bytes are damaged: {what}"),
            StorageError::Io(error) => write!(f, "the disk failed: {error}"),
        }
    }
}

impl std::error::Error for StorageError {}

impl From<std::io::Error> for StorageError {
    fn from(error: std::io::Error) -> StorageError {
        StorageError::Io(error)
    }
}

/// Hears that commits became durable. Called on the storage's own thread after each group; must be quick and not block.
pub trait DurableSink: Send + Sync {
    /// Every commit up to and including `upto` is durable. Rises from call to call. May come before the append of that
    /// commit has returned.
    fn durable(&self, upto: Lsn);

    /// How many calls are being worked on, those that wait for a commit among them: so many commits may share a sync. Only a hint.
    fn in_flight(&self) -> usize {
        0
    }
}

/// One page of [`Storage::list`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Keys in order.
    pub keys: Vec<GrainKey>,
    /// Whether there are more behind the last of them.
    pub more: bool,
}

/// Figures for `/metrics` and `/v1/cluster`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageStats {
    /// Bytes in log segments that aren't free.
    pub log_bytes: u64,
    /// Commits appended since the start.
    pub appends: u64,
    /// Bytes of records appended since the start.
    pub append_bytes: u64,
    /// Groups written since the start, one fdatasync each.
    pub groups: u64,
    /// Checkpoints since the start.
    pub checkpoints: u64,
    /// Grains with commits that are in the log only.
    pub dirty_grains: u64,
    /// Bytes of the snapshot store on disk.
    pub snapshot_bytes: u64,
    /// Bytes of image files on disk.
    pub image_bytes: u64,
    /// How often the snapshot store was copied into a shorter one since the start.
    pub snapshot_copies: u64,
    /// Grains whose image from before a move to another module is kept.
    pub before_images: u64,
    /// Real syncs that the snapshot store asked for.
    pub snapshot_syncs: u64,
}

/// A host's storage. All methods may be called from any thread.
///
/// An I/O error of the log or of any sync ends the process (the state of the page cache is unknown after a failed sync, and a
/// commit on one host cannot fail): no method reports one.
pub trait Storage: Send + Sync {
    /// This storage's identity, made with it: a wiped folder is another host.
    fn host(&self) -> HostId;

    /// How many times it has been opened, counted from 1.
    fn incarnation(&self) -> u32;

    /// Whether a turn that may commit can start: asked before each, so that its commit can't fail. Never blocks.
    fn admit(&self) -> Result<(), StorageError>;

    /// Puts a commit behind all that were appended before and returns its place. Its `seq` must be one more than the
    /// grain's last. Visible to [`Storage::load`] at once; durable when the sink says so. Never blocks on the disk.
    ///
    /// # Panics
    ///
    /// When the commit doesn't follow the grain's last one, before anything is written: the host has lost its way.
    fn append(&self, commit: &Commit) -> Appended;

    /// Sets who hears of durability. Called once, before the first append.
    fn set_sink(&self, sink: Arc<dyn DurableSink>);

    /// Up to which place all is durable now.
    fn durable(&self) -> Lsn;

    /// Whether something was appended that isn't durable yet.
    fn is_writing(&self) -> bool;

    /// Waits until all that was appended is durable. False when the disk failed.
    fn settle(&self) -> bool;

    /// The grain's state with all that was appended, durable or not. `None` when it has never committed. May read the disk.
    fn load(&self, grain: &GrainName) -> Result<Option<Stored>, StorageError>;

    /// The grain's last commit, durable or not; `None` when it has never committed. Cheap: no state is read.
    fn head(&self, grain: &GrainName) -> Result<Option<StoredHead>, StorageError>;

    /// The state from before the grain's *last* commit, when that commit moved it to another module: what a rollback of a
    /// grain without a later write restores. `None` otherwise. May read the disk.
    fn load_before(&self, grain: &GrainName) -> Result<Option<Before>, StorageError>;

    /// Keys of existing grains of a type that start with `prefix` and come after `after`, at most `limit`, in order.
    fn list(
        &self,
        kind: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> Result<Listing, StorageError>;

    /// Visits all grains that have committed, in no order, with their last commits, those that were deleted among them. For a start: what
    /// is appended meanwhile may be missing.
    fn each(&self, visit: &mut dyn FnMut(GrainName, StoredHead)) -> Result<(), StorageError>;

    /// Forgets grains that were deleted and have no commits in the log: their numbers may begin anew. For a host alone, at its start:
    /// in a cluster, a host that has forgotten a deletion might vote for what was there before.
    fn forget_deleted(&self) -> Result<(), StorageError>;

    /// Keeps a module's bytes, durably, under their blake3. Repeatable.
    fn put_module(&self, bytes: &[u8]) -> Result<ModuleHash, StorageError>;

    /// A module's bytes, checked against their name.
    fn module(&self, module: &ModuleHash) -> Result<Option<Vec<u8>>, StorageError>;

    /// Makes a type's next revision durable and current, both or neither; its module's bytes must be there. Returns when
    /// it's on the disk.
    fn put_revision(&self, record: &ModuleRecord) -> Result<(), StorageError>;

    /// Makes one of a type's revisions the current one, durably on return.
    fn switch(&self, kind: &GrainType, revision: Revision) -> Result<(), StorageError>;

    /// All revisions of all types, ordered by type and revision.
    fn revisions(&self) -> Result<Vec<ModuleRecord>, StorageError>;

    /// Each type's current revision, ordered by type.
    fn currents(&self) -> Result<Vec<(GrainType, Revision)>, StorageError>;

    /// Figures for metrics.
    fn stats(&self) -> StorageStats;

    /// Makes everything appended durable, writes what makes the next start quick, and stops the threads. Repeatable.
    fn close(&self);
}

/// What [`Storage::append`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The commit's place.
    pub lsn: Lsn,
    /// Its hash: the `prev_hash` of the grain's next commit.
    pub hash: [u8; 16],
    /// Bytes that it takes in the log.
    pub bytes: usize,
}
