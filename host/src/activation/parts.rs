//! What every driver needs of its host.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use granary_core::activation::{Limits, Now};
use granary_core::api::CallFailure;
use granary_core::id::{Ballot, GrainName, Revision};
use granary_core::message::Token;
use granary_core::reply_table::absent::AbsentTables;
use granary_core::waits::WaitGraph;
use tokio::sync::{RwLock, RwLockReadGuard, Semaphore};

use super::restore::unreadable;
use super::{Backlog, Budget, Records, Release, Stall};
use crate::clock::Clock;
use crate::cluster;
use crate::modules::Modules;
use crate::snapshot::Tracking;
use crate::storage::{Storage, Stored};
use crate::telemetry::Metrics;
use crate::wasm::Engine;

/// The parts of a host that activations work with.
pub(crate) struct Parts {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) tracking: Arc<Tracking>,
    pub(crate) modules: Modules,
    pub(crate) release: Arc<Release>,
    /// How much memory the host may take.
    pub(crate) budget: Arc<Budget>,
    /// What waits for replies.
    pub(crate) backlog: Arc<Backlog>,
    /// Who waits for room in the commit log.
    pub(crate) stall: Stall,
    /// How many grains may come into memory at a time.
    pub(crate) restores: Semaphore,
    pub(crate) waits: Arc<Mutex<WaitGraph>>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) move_timeout: Duration,
    /// The cluster, once this host is in one.
    pub(crate) cluster: Arc<OnceLock<cluster::Handle>>,
    /// Held for reading by whoever hands a request to a grain while this host is alone, for writing while it gets into a cluster.
    pub(crate) alone: RwLock<()>,
    /// This host takes no new grains: it's to go.
    pub(crate) draining: AtomicBool,
    /// Stored replies of grains that have left memory.
    pub(crate) absent: Mutex<AbsentTables>,
    /// What guests wrote last.
    pub(crate) records: Arc<Records>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tokens: AtomicU64,
}

impl Parts {
    /// What a machine is told, whose type has `target` as its current revision.
    pub(crate) fn now(&self, target: Revision) -> Now {
        Now {
            time: self.clock.time(),
            durable: self.release.durable(),
            target,
        }
    }

    /// Reads storage, where waiting for the disk stops nobody else.
    pub(crate) async fn read<T: Send + 'static>(&self, read: impl FnOnce(&dyn Storage) -> T + Send + 'static) -> T {
        let storage = self.storage.clone();
        let reading = tokio::task::spawn_blocking(move || read(&*storage));
        reading.await.expect("storage catches its panics")
    }

    /// A grain's stored state. When it can't be read the log says why.
    pub(crate) async fn load(&self, grain: &GrainName) -> Result<Option<Stored>, CallFailure> {
        let name = grain.clone();
        self.read(move |storage| storage.load(&name)).await.map_err(|error| {
            tracing::error!(%grain, %error, "a grain can't be loaded");
            unreadable()
        })
    }

    /// The cluster, unless this host is alone.
    pub(crate) fn cluster(&self) -> Option<&cluster::Handle> {
        self.cluster.get()
    }

    /// As long as it's held this host is alone and stays so; nothing when it's in a cluster. Waits while it gets into one.
    pub(crate) async fn stays_alone(&self) -> Option<RwLockReadGuard<'_, ()>> {
        if self.cluster().is_some() {
            return None;
        }
        let alone = self.alone.read().await;
        self.cluster().is_none().then_some(alone)
    }

    pub(crate) fn token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// The ballot of a grain's next activation here: above the one that it had.
    pub(crate) fn ballot(&self, last: Option<&Ballot>) -> Ballot {
        Ballot {
            counter: last.map_or(1, |ballot| ballot.counter + 1),
            host: self.storage.host(),
            incarnation: self.storage.incarnation(),
        }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}
