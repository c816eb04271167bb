//! Deploys and rollbacks in a cluster: what this host has made ready becomes current when the hosts have agreed on it, and what others
//! have agreed on is made ready here.
//!
//! A module comes by its hash from whoever has it and is believed when its bytes have that hash; it's validated and compiled here like one
//! that is uploaded. Machine code never comes from another host.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainType, ModuleHash, Revision};
use tokio::sync::MutexGuard;

use super::table::{Agree, Agreed, Table};
use super::{Deployment, Line, Modules, Shared, agree, deployment};
use crate::clock;
use crate::description::Contract;
use crate::storage::{ModuleRecord, StorageError};

/// How often a deploy is compared anew because somebody else's came first.
const TRIES: usize = 5;
/// What was agreed on isn't asked for again this soon when an unknown type is called: a deploy tells all hosts, so only one
/// that is cut off meanwhile doesn't know.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Modules {
    /// From now on revisions are what the cluster agrees on; once, while no deploy is going on.
    pub(crate) fn agree_by(&self, agree: Arc<dyn Agree>) {
        let _ = self.shared.agreement.set(agree);
    }

    /// While it's held, no deploy is going on.
    pub(crate) async fn without_deploys(&self) -> MutexGuard<'_, ()> {
        self.shared.deploying.lock().await
    }

    /// What this host has, as a table.
    pub(crate) fn table(&self) -> Result<Table, StorageError> {
        let storage = &self.shared.storage;
        Ok(Table::of(&storage.revisions()?, &storage.currents()?))
    }

    /// Makes this host have what was agreed on, unless it has a newer version already.
    pub(crate) async fn adopt(&self, agreed: &Agreed) -> Result<(), CallFailure> {
        self.shared.adopt(agreed).await
    }

    /// A type's revisions; also of one that this host hasn't heard of, as it has just come or was cut off: then what the hosts
    /// have agreed on counts.
    pub(crate) async fn find(&self, kind: &GrainType) -> Result<Arc<Line>, CallFailure> {
        let known = self.line(kind);
        if !known.as_ref().is_err_and(|failure| failure.code == Code::UnknownType) {
            return known;
        }
        let agreed = self.read_lately().await?;
        // That there is no such type is known without waiting for what is being made ready of others.
        if let Some(agreed) = agreed.filter(|agreed| agreed.table.has(kind)) {
            self.adopt(&agreed).await?;
        }
        self.line(kind)
    }

    /// As [`find`](Self::find), as of what somebody knows who has adopted this version of the table: a host that is behind doesn't make those
    /// before it ask the others.
    pub(crate) async fn find_as_of(&self, kind: &GrainType, version: u64) -> Result<Arc<Line>, CallFailure> {
        if self.adopted() < version
            && let Some(agreed) = self.read_lately().await?
        {
            self.adopt(&agreed).await?;
        }
        self.line(kind)
    }

    /// The version of the agreed table that this host's revisions are at; 0 before the first.
    pub(crate) fn adopted(&self) -> u64 {
        self.shared.adopted.load(Ordering::Acquire)
    }

    /// What is agreed on, or was a moment ago, also if nobody told; nothing on a host alone.
    async fn read_lately(&self) -> Result<Option<Arc<Agreed>>, CallFailure> {
        let Some(by) = self.shared.agreement.get() else {
            return Ok(None);
        };
        // One at a time, and not again at once: strange names mustn't keep the hosts busy.
        let mut read = self.shared.read.lock().await;
        match &*read {
            Some((at, agreed)) if at.elapsed() < ASK_AGAIN => Ok(Some(agreed.clone())),
            _ => {
                let now = Instant::now();
                let agreed = Arc::new(by.read().await?);
                *read = Some((now, agreed.clone()));
                Ok(Some(agreed))
            }
        }
    }

    /// A module's bytes, for a host that doesn't have them.
    pub(crate) async fn bytes(&self, module: &ModuleHash) -> Option<Vec<u8>> {
        self.shared.stored(*module).await.ok().flatten()
    }
}

impl Shared {
    /// [`Modules::deploy`], with the agreement of the others. The lock on deploys is held.
    pub(super) async fn deploy_agreed(
        self: &Arc<Self>,
        by: &Arc<dyn Agree>,
        kind: GrainType,
        bytes: Vec<u8>,
        allow_breaking: bool,
    ) -> Result<(Arc<Deployment>, bool), CallFailure> {
        let module = ModuleHash(*blake3::hash(&bytes).as_bytes());
        // What others have deployed since is compared with, too.
        let agreed = by.edit(Arc::new(|_| None)).await?;
        self.adopt(&agreed).await?;
        let (_, contract) = self.prepare(module, bytes.clone(), Contract::read_new).await?;
        let shared = self.clone();
        self.store(move || shared.storage.put_module(&bytes).map(drop)).await?;
        let at_ms = clock::wall_millis();
        for _ in 0..TRIES {
            let current = self.line(&kind).map(|line| line.current());
            if let Some(current) = current.as_ref().filter(|current| current.module == module) {
                return Ok((current.clone(), false));
            }
            if let Some(current) = current.as_ref().filter(|_| !allow_breaking) {
                agree(current, &contract)?;
            }
            let compared = current.map_or(Revision(0), |current| current.revision);
            let of = kind.clone();
            let change = move |table: &Table| table.deployed(&of, module, at_ms, compared);
            let agreed = by.edit(Arc::new(change)).await?;
            self.adopt(&agreed).await?;
            // Another host may have deployed the next one by now: this one is a revision all the same.
            if let Some(made) = agreed.table.made(&kind, module, at_ms) {
                let line = self.line(&kind).ok_or_else(|| self.missing(&kind))?;
                return Ok((self.revision(&line, made.revision, module).await?, true));
            }
        }
        let detail = format!("others deploy `{kind}` at the same time: try again");
        Err(CallFailure::before(Code::Overloaded, detail))
    }

    /// [`Modules::rollback`], with the agreement of the others. The lock on deploys is held.
    pub(super) async fn switch_agreed(
        self: &Arc<Self>,
        by: &Arc<dyn Agree>,
        kind: &GrainType,
        (from, to): (Revision, Revision),
    ) -> Result<Arc<Deployment>, CallFailure> {
        let of = kind.clone();
        let change = move |table: &Table| table.switched(&of, from, to);
        let agreed = by.edit(Arc::new(change)).await?;
        self.adopt(&agreed).await?;
        let line = self.line(kind).ok_or_else(|| self.missing(kind))?;
        let (records, current) = agreed.table.row(kind);
        let record = records.iter().find(|record| record.revision == to);
        match record.filter(|_| current == to) {
            Some(record) => self.revision(&line, to, record.module).await,
            None => {
                let detail =
                    format!("others have changed `{kind}` at the same time: look at its revisions, and try again");
                Err(CallFailure::before(Code::Overloaded, detail))
            }
        }
    }

    /// Versions are adopted one after the other, and an older one never after a newer one: hosts that deploy at the same time tell one
    /// another in any order. Not under the lock on deploys, which such hosts hold while they wait for each other to adopt.
    async fn adopt(self: &Arc<Self>, agreed: &Agreed) -> Result<(), CallFailure> {
        let newest = self.newest_at_start().await?;
        let Agreed { version, table } = newest
            .as_ref()
            .filter(|newest| newest.version > agreed.version)
            .unwrap_or(agreed);
        let _adopting = self.adopting.lock().await;
        if *version <= self.adopted.load(Ordering::Acquire) {
            return Ok(());
        }
        for kind in table.kinds() {
            let (records, current) = table.row(&kind);
            let line = self.line(&kind);
            let known = line.as_ref().map(|line| line.revision());
            let new = records.iter().filter(|record| {
                let here = line.as_ref().and_then(|line| line.record(record.revision));
                here.is_none_or(|here| here.module != record.module)
            });
            let new: Vec<ModuleRecord> = new.cloned().collect();
            if new.is_empty() && known == Some(current) {
                continue;
            }
            self.adopt_type(&kind, line, records, new, current).await?;
        }
        self.adopted.store(*version, Ordering::Release);
        Ok(())
    }

    /// What is agreed on, for a host that has just started: it doesn't know which version its revisions are at, and mustn't go back to an
    /// older one that somebody has sent late.
    async fn newest_at_start(&self) -> Result<Option<Agreed>, CallFailure> {
        match self
            .agreement
            .get()
            .filter(|_| self.adopted.load(Ordering::Acquire) == 0)
        {
            Some(by) => by.read().await.map(Some),
            None => Ok(None),
        }
    }

    async fn adopt_type(
        self: &Arc<Self>,
        kind: &GrainType,
        line: Option<Arc<Line>>,
        records: Vec<ModuleRecord>,
        new: Vec<ModuleRecord>,
        current: Revision,
    ) -> Result<(), CallFailure> {
        let record = records.iter().find(|record| record.revision == current).cloned();
        let record = record.ok_or_else(|| {
            let detail = format!("revision {} of `{kind}` is current and not known", current.0);
            CallFailure::before(Code::Internal, detail)
        })?;
        for record in &new {
            self.pull(record).await?;
        }
        // Made ready before it's written that it's current: what can't be run here is refused, and asked for again.
        let bytes = self.stored(record.module).await.ok().flatten();
        let bytes = bytes.ok_or_else(|| missing(Code::Internal, record.module))?;
        let (code, contract) = self.prepare(record.module, bytes, Contract::read).await?;
        let (shared, written, of) = (self.clone(), new.clone(), kind.clone());
        self.store(move || {
            for record in &written {
                shared.storage.put_revision(record)?;
            }
            shared.storage.switch(&of, current)
        })
        .await?;
        tracing::info!(%kind, revision = current.0, module = %record.module, "the cluster's revision is current");
        let deployment = Arc::new(deployment(record, code, contract));
        match line {
            Some(line) => line.follow(deployment, new),
            None => {
                self.broken().remove(kind);
                self.lines()
                    .insert(kind.clone(), Arc::new(Line::new(deployment, records)));
            }
        }
        Ok(())
    }

    /// Gets a module's bytes, if they aren't here.
    async fn pull(self: &Arc<Self>, record: &ModuleRecord) -> Result<(), CallFailure> {
        let here = self.stored(record.module).await;
        if here.is_ok_and(|bytes| bytes.is_some()) {
            return Ok(());
        }
        // A host that is in no cluster has lost it; of others, those that have it may be back soon.
        let by = self
            .agreement
            .get()
            .ok_or_else(|| missing(Code::Internal, record.module))?;
        let fetched = by.fetch(record.module).await;
        let sound = fetched.filter(|bytes| blake3::hash(bytes) == record.module.0);
        let bytes = sound.ok_or_else(|| missing(Code::NoQuorum, record.module))?;
        let shared = self.clone();
        self.store(move || shared.storage.put_module(&bytes).map(drop)).await
    }
}

fn missing(code: Code, module: ModuleHash) -> CallFailure {
    let detail = format!("no host that can be reached has module {module}");
    CallFailure::before(code, detail)
}
