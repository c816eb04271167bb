//! A grain type's revisions, one after the other, as everybody who calls or runs its grains shares them.
//!
//! The current revision is read with every turn: a lock and a pointer. Older ones are code for grains that could not be moved or
//! have not been called since; they are loaded when such a grain is, and forgotten when none is left.
//!
//! **Not here:** how code is made ready, how a revision becomes current durably (the parent).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainType, ModuleHash, Revision};

use super::stuck::Stuck;
use super::{Deployment, RevisionSummary};
use crate::description::MethodKind;
use crate::storage::ModuleRecord;

/// Older revisions whose code stays although no grain in memory has it: the next grain of a sweep will want it again.
const RECENT: usize = 2;

/// See the module's text.
pub(crate) struct Line {
    kind: GrainType,
    current: RwLock<Arc<Deployment>>,
    /// The current revision's number, to be had without the lock.
    revision: AtomicU32,
    records: Mutex<Vec<ModuleRecord>>,
    older: tokio::sync::Mutex<Older>,
    stuck: Stuck,
}

/// What a caller's method is in the current revision.
pub(crate) struct Target {
    /// Its name, to keep.
    pub(crate) method: Arc<str>,
    pub(crate) read: bool,
    /// Whose parameters the arguments are for.
    pub(crate) revision: Revision,
}

impl Line {
    /// A type with these revisions, oldest first.
    pub(super) fn new(current: Arc<Deployment>, records: Vec<ModuleRecord>) -> Line {
        Line {
            kind: current.kind.clone(),
            revision: AtomicU32::new(current.revision.0),
            current: RwLock::new(current),
            records: Mutex::new(records),
            older: tokio::sync::Mutex::default(),
            stuck: Stuck::default(),
        }
    }

    pub(crate) fn kind(&self) -> &GrainType {
        &self.kind
    }

    /// The current revision.
    pub(crate) fn current(&self) -> Arc<Deployment> {
        self.current.read().expect("no panic under this lock").clone()
    }

    /// The current revision's number.
    pub(crate) fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// Grains that could not be moved to the current revision.
    pub(crate) fn stuck(&self) -> &Stuck {
        &self.stuck
    }

    /// A method of the current revision.
    pub(crate) fn method(&self, name: &str) -> Result<Target, CallFailure> {
        let current = self.current();
        let contract = &current.contract;
        let (method, found) = contract.method(name).ok_or_else(|| {
            let methods = contract.description.methods.iter();
            let names: Vec<_> = methods.map(|method| method.name.as_str()).collect();
            let detail = format!("`{}` has no method `{name}`; it has {}", self.kind, names.join(", "));
            CallFailure::before(Code::UnknownMethod, detail)
        })?;
        Ok(Target {
            method: method.clone(),
            read: found.kind == MethodKind::Read,
            revision: current.revision,
        })
    }

    /// Makes another revision current; with its record when it's new.
    pub(super) fn advance(&self, deployment: Arc<Deployment>, record: Option<ModuleRecord>) {
        self.records().extend(record);
        let revision = deployment.revision;
        let last = std::mem::replace(
            &mut *self.current.write().expect("no panic under this lock"),
            deployment,
        );
        self.revision.store(revision.0, Ordering::Release);
        self.stuck.clear(revision);
        // Its grains are still there. When somebody loads code just now, the grains in memory keep it well enough.
        if let Ok(mut older) = self.older.try_lock() {
            older.keep(last);
        }
    }

    /// Takes what others have made current, with the records that are new here.
    pub(super) fn follow(&self, deployment: Arc<Deployment>, new: Vec<ModuleRecord>) {
        let mut records = self.records();
        let is_new = |known: &ModuleRecord| new.iter().all(|record| record.revision != known.revision);
        records.retain(is_new);
        records.extend(new);
        records.sort_by_key(|record| record.revision);
        drop(records);
        self.advance(deployment, None);
    }

    pub(super) async fn older(&self) -> tokio::sync::MutexGuard<'_, Older> {
        self.older.lock().await
    }

    pub(super) fn record(&self, revision: Revision) -> Option<ModuleRecord> {
        self.records()
            .iter()
            .find(|record| record.revision == revision)
            .cloned()
    }

    /// The revision that this one followed.
    pub(super) fn before(&self, revision: Revision) -> Option<ModuleRecord> {
        self.record(revision).and_then(|record| self.record(record.follows))
    }

    /// The number of the next new revision.
    pub(super) fn next(&self) -> Revision {
        let last = self.records().iter().map(|record| record.revision.0).max();
        Revision(last.unwrap_or(0) + 1)
    }

    pub(super) fn history(&self) -> Vec<RevisionSummary> {
        let current = self.revision();
        let summary = |record: &ModuleRecord| RevisionSummary {
            revision: record.revision,
            module: record.module,
            at_ms: record.at_ms,
            is_current: record.revision == current,
            follows: record.follows,
        };
        self.records().iter().map(summary).collect()
    }

    fn records(&self) -> std::sync::MutexGuard<'_, Vec<ModuleRecord>> {
        self.records.lock().expect("no panic under this lock")
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({} revision {})", self.kind, self.revision().0)
    }
}

/// Code of revisions that aren't current.
#[derive(Default)]
pub(super) struct Older {
    /// What some grain in memory has.
    known: Vec<Weak<Deployment>>,
    recent: VecDeque<Arc<Deployment>>,
}

impl Older {
    pub(super) fn find(&self, revision: Revision, module: ModuleHash) -> Option<Arc<Deployment>> {
        self.known
            .iter()
            .filter_map(Weak::upgrade)
            .find(|found| found.module == module && found.revision == revision)
    }

    pub(super) fn keep(&mut self, deployment: Arc<Deployment>) {
        self.recent.push_back(deployment.clone());
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.known.retain(|known| known.strong_count() > 0);
        self.known.push(Arc::downgrade(&deployment));
    }
}
