//! Everything that a host can be told. Each part documents its own knobs: default, unit, limit, what it stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use granary_core::activation::Limits;

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
        }
    }
}
