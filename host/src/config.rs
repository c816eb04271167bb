//! Everything that a host can be told. Each part documents its own knobs: default, unit, limit, what it stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use granary_core::activation::Limits;

pub use crate::cluster::ClusterConfig;
use crate::http::HttpConfig;
use crate::snapshot::SnapshotConfig;
use crate::storage::StorageConfig;
use crate::wasm::WasmConfig;

/// A host's settings.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The folder for everything that lasts. Made when it isn't there.
    pub data: PathBuf,
    /// Where HTTP listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A grain that nobody has called for this long leaves memory.
    pub idle_timeout: Duration,
    /// How long moving one grain to another revision may take, all of its steps; each of them has the limits of a turn,
    /// too. Stops a guest that waits in `load` from keeping its grain's callers waiting.
    pub move_timeout: Duration,
    /// How changed pages are found.
    pub snapshot: SnapshotConfig,
    /// Mailboxes and pipelines.
    pub limits: Limits,
    /// HTTP: limits, tokens, allowed names.
    pub http: HttpConfig,
    /// Guests: memory, stack, processor time.
    pub wasm: WasmConfig,
    /// The commit log and the snapshot store.
    pub storage: StorageConfig,
    /// How much memory the host takes, and what may wait in it.
    pub memory: MemoryConfig,
    /// The cluster that it takes part in; `None` for a host that is alone.
    pub cluster: Option<ClusterConfig>,
}

/// How much memory the host takes, and what may wait in it.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Bytes that the process takes at most: heap, stacks, grains' memories, page tables. Stops an out-of-memory kill. By default 60
    /// percent of the smaller of the machine's memory and the cgroup's limit, at least 128 MiB.
    pub budget: Option<u64>,
    /// How long a grain that isn't in memory waits for room before its callers get `overloaded`. 1 s: shorter than
    /// deadlines commonly are, so that callers learn why.
    pub wait: Duration,
    /// The most grains that wait for room; further ones are `overloaded` at once. 1,024.
    pub waiters: usize,
    /// The most requests that wait or are worked on, over all grains: 100,000. Stops many mailboxes from doing what one may not.
    pub waiting_requests: u64,
    /// Bytes of those requests. An eighth of the budget by default.
    pub waiting_bytes: Option<u64>,
}

/// What a grain takes of memory that has commits in the log.
const LOG_GRAIN_BYTES: u64 = 512;

/// The least budget that a host starts with: below it there's no room for its own caches.
pub const BUDGET_LEAST: u64 = 64 << 20;

impl Default for MemoryConfig {
    fn default() -> MemoryConfig {
        MemoryConfig {
            budget: None,
            wait: Duration::from_secs(1),
            waiters: 1024,
            waiting_requests: 100_000,
            waiting_bytes: None,
        }
    }
}

impl HostConfig {
    /// The defaults, with everything that lasts in `data`.
    pub fn new(data: impl Into<PathBuf>) -> HostConfig {
        HostConfig {
            data: data.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7777)),
            idle_timeout: Duration::from_secs(300),
            move_timeout: Duration::from_secs(10),
            snapshot: SnapshotConfig::default(),
            limits: Limits::default(),
            http: HttpConfig::default(),
            wasm: WasmConfig::default(),
            storage: StorageConfig::default(),
            memory: MemoryConfig::default(),
            cluster: None,
        }
    }

    /// The same with what the parts may hold cut down to shares of a memory budget: what they hold counts in it, and there has to be
    /// room for grains.
    pub(crate) fn fitted(mut self, budget: u64) -> HostConfig {
        let share = |bytes: usize, share: u64| bytes.min(usize::try_from(budget / share).unwrap_or(usize::MAX));
        self.snapshot.hot_bytes = share(self.snapshot.hot_bytes, 8);
        self.http.body_memory_limit = share(self.http.body_memory_limit, 8);
        self.storage.pending_limit_bytes = share(self.storage.pending_limit_bytes, 8);
        self.storage.log_grains = self.storage.log_grains.min(budget / 8 / LOG_GRAIN_BYTES);
        self.storage.cache_bytes = self.storage.cache_bytes.min(budget / 8);
        self.memory.waiting_bytes.get_or_insert(budget / 8);
        self
    }
}
