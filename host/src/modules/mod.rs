//! The grain types of this host: which module is current, what it offers, and how a new one gets in.
//!
//! A deploy validates, compiles and describes before it stores anything; the revision's record is written last. What fails on
//! the way leaves nothing behind but, at most, module bytes that no record names.

mod agreed;
#[cfg(test)]
mod agreed_tests;
mod compat;
mod line;
mod stuck;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, RwLock, RwLockWriteGuard};
use std::time::Instant;

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainType, ModuleHash, Revision};
use tokio::sync::Mutex;

use crate::clock;
use crate::description::Contract;
use crate::storage::{ModuleRecord, Storage, StorageError};
use crate::wasm::{Engine, Module, ModuleError, Prepared};

pub(crate) use self::line::{Line, Target};
pub use self::stuck::{UpgradeFailure, UpgradeStatus};
pub(crate) use self::table::{Agree, Agreed, Agreeing, Change, Table};

/// A deployed revision of a type.
#[derive(Clone)]
pub struct Deployment {
    /// The type.
    pub kind: GrainType,
    /// Counted from 1.
    pub revision: Revision,
    /// blake3 of the module's bytes.
    pub module: ModuleHash,
    /// When it was deployed, milliseconds since 1970.
    pub at_ms: u64,
    /// Methods and promises.
    pub contract: Arc<Contract>,
    code: Arc<Module>,
}

impl Deployment {
    pub(crate) fn code(&self) -> &Arc<Module> {
        &self.code
    }
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deployment({} revision {})", self.kind, self.revision.0)
    }
}

/// One revision of a type, without its contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionSummary {
    /// Counted from 1.
    pub revision: Revision,
    /// blake3 of the module's bytes.
    pub module: ModuleHash,
    /// When it was deployed, milliseconds since 1970.
    pub at_ms: u64,
    /// Whether grains run it, or move to it at their next call.
    pub is_current: bool,
    /// The revision that was current when it was deployed, which a rollback goes back to; 0 when there was none.
    pub follows: Revision,
}

/// All types; cheap to clone.
#[derive(Clone)]
pub struct Modules {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    /// Read with every call, written by a type's first deploy.
    lines: RwLock<BTreeMap<GrainType, Arc<Line>>>,
    /// Types whose current module can't be loaded. Found at the start, ended by a deploy.
    broken: RwLock<BTreeMap<GrainType, Broken>>,
    /// One deploy or rollback at a time: compiling takes all cores anyway, and revisions are numbered.
    deploying: Mutex<()>,
    /// How revisions are numbered in a cluster; a host alone numbers them itself.
    agreement: OnceLock<Arc<dyn Agree>>,
    /// Held while revisions follow another version of the agreed table.
    adopting: Mutex<()>,
    /// The version that they are at.
    adopted: AtomicU64,
    /// What was agreed on when an unknown type was last asked for, and when that was.
    read: Mutex<Option<(Instant, Arc<Agreed>)>>,
}

/// A type whose current module can't be loaded: its file is damaged or gone. The other types are served.
#[derive(Clone)]
struct Broken {
    current: ModuleRecord,
    records: Vec<ModuleRecord>,
    /// What is wrong with the module.
    why: String,
}

impl Broken {
    fn failure(&self) -> CallFailure {
        let ModuleRecord {
            kind, revision, module, ..
        } = &self.current;
        let detail = format!(
            "the current module of `{kind}` (revision {}, modules/{module}) can't be loaded: {}. Deploy the module again, or stop the \
             host and let `granary repair` go back to the revision before",
            revision.0, self.why
        );
        CallFailure::before(Code::Internal, detail)
    }
}

impl Modules {
    /// All types that storage knows, their modules compiled or taken from the cache. A type whose module can't be loaded
    /// answers its callers with an error that says so.
    pub(crate) async fn open(engine: Arc<Engine>, storage: Arc<dyn Storage>) -> Result<Modules, StorageError> {
        let shared = Shared {
            engine,
            storage,
            lines: RwLock::default(),
            broken: RwLock::default(),
            deploying: Mutex::new(()),
            agreement: OnceLock::new(),
            adopting: Mutex::default(),
            adopted: AtomicU64::default(),
            read: Mutex::default(),
        };
        let modules = Modules {
            shared: Arc::new(shared),
        };
        let mut records: BTreeMap<GrainType, Vec<ModuleRecord>> = BTreeMap::new();
        for record in modules.shared.storage.revisions()? {
            records.entry(record.kind.clone()).or_default().push(record);
        }
        for (kind, revision) in modules.shared.storage.currents()? {
            let records = records.remove(&kind).unwrap_or_default();
            let current = records.iter().find(|record| record.revision == revision);
            let record = current.cloned().ok_or_else(|| {
                StorageError::Corrupt(format!("revision {} of `{kind}` is current but not known", revision.0))
            })?;
            match modules.shared.load(record.module).await {
                Ok((code, contract)) => {
                    let line = Line::new(Arc::new(deployment(record, code, contract)), records);
                    modules.shared.lines().insert(kind, Arc::new(line));
                }
                Err(why) => {
                    let current = record;
                    let broken = Broken { current, records, why };
                    tracing::error!("{}", broken.failure().detail);
                    modules.shared.broken().insert(kind, broken);
                }
            }
        }
        Ok(modules)
    }

    /// Makes `bytes` the type's current module: validates, rewrites, compiles, describes, stores. The flag says whether this
    /// is a new revision (`false`: these bytes were current already). On an error nothing has changed.
    ///
    /// A module that offers less than the current one is refused with [`Code::BreakingChange`] and the list of differences,
    /// unless `allow_breaking`.
    pub async fn deploy(
        &self,
        kind: GrainType,
        bytes: Vec<u8>,
        allow_breaking: bool,
    ) -> Result<(Arc<Deployment>, bool), CallFailure> {
        // Not the caller's task: a deploy goes on when its client hangs up, so it can't stop half-way.
        let shared = self.shared.clone();
        let deploy = tokio::spawn(async move { shared.deploy(kind, bytes, allow_breaking).await });
        deploy.await.unwrap_or_else(|_| {
            Err(CallFailure::before(
                Code::Internal,
                "the deploy failed; the host's log says why",
            ))
        })
    }

    /// Makes the revision that the current one followed current again. Grains move back as they moved forth: before their
    /// next turn.
    pub async fn rollback(&self, kind: GrainType) -> Result<Arc<Deployment>, CallFailure> {
        let shared = self.shared.clone();
        let rollback = tokio::spawn(async move { shared.rollback(kind).await });
        rollback.await.unwrap_or_else(|_| {
            Err(CallFailure::before(
                Code::Internal,
                "the rollback failed; the host's log says why",
            ))
        })
    }

    /// All revisions of a type, oldest first; none when the type isn't deployed.
    pub fn history(&self, kind: &GrainType) -> Vec<RevisionSummary> {
        self.shared.line(kind).map(|line| line.history()).unwrap_or_default()
    }

    /// A type's revisions, for calls to its grains.
    pub(crate) fn line(&self, kind: &GrainType) -> Result<Arc<Line>, CallFailure> {
        self.shared.line(kind).ok_or_else(|| self.shared.missing(kind))
    }

    /// A revision of a type that grains still have: the current one, or one whose code is loaded for them.
    pub(crate) async fn revision(
        &self,
        line: &Line,
        revision: Revision,
        module: ModuleHash,
    ) -> Result<Arc<Deployment>, CallFailure> {
        self.shared.revision(line, revision, module).await
    }

    /// The revision of a type with this number, for what it promised its callers.
    pub(crate) async fn numbered(&self, line: &Line, revision: Revision) -> Result<Arc<Deployment>, CallFailure> {
        let current = line.current();
        if current.revision == revision {
            return Ok(current);
        }
        let record = line.record(revision).ok_or_else(|| {
            let detail = format!("`{}` has no revision {}", line.kind(), revision.0);
            CallFailure::before(Code::NoRevision, detail)
        })?;
        self.shared.revision(line, revision, record.module).await
    }

    /// Grains that are known to be stuck on an older revision than their type's current one.
    pub(crate) fn stuck(&self) -> u64 {
        let lines = self.shared.lines.read().expect("no panic under this lock");
        lines.values().map(|line| line.stuck().count()).sum()
    }

    /// A type's current revision.
    pub fn current(&self, kind: &GrainType) -> Option<Arc<Deployment>> {
        self.shared.line(kind).map(|line| line.current())
    }

    /// The current revision of every type, in order.
    pub fn all(&self) -> Vec<Arc<Deployment>> {
        let lines = self.shared.lines.read().expect("no panic under this lock");
        lines.values().map(|line| line.current()).collect()
    }
}

impl Shared {
    fn lines(&self) -> RwLockWriteGuard<'_, BTreeMap<GrainType, Arc<Line>>> {
        self.lines.write().expect("no panic under this lock")
    }

    fn line(&self, kind: &GrainType) -> Option<Arc<Line>> {
        self.lines.read().expect("no panic under this lock").get(kind).cloned()
    }

    fn broken(&self) -> RwLockWriteGuard<'_, BTreeMap<GrainType, Broken>> {
        self.broken.write().expect("no panic under this lock")
    }

    /// Why a type has no line.
    fn missing(&self, kind: &GrainType) -> CallFailure {
        let broken = self.broken.read().expect("no panic under this lock");
        broken.get(kind).map_or_else(|| unknown_type(kind), Broken::failure)
    }

    /// A stored module's code, or what is wrong with it.
    async fn load(&self, module: ModuleHash) -> Result<(Arc<Module>, Contract), String> {
        let bytes = self.stored(module).await.map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or("its bytes are missing")?;
        self.prepare(module, bytes, Contract::read)
            .await
            .map_err(|failure| failure.detail)
    }

    async fn deploy(
        self: Arc<Self>,
        kind: GrainType,
        bytes: Vec<u8>,
        allow_breaking: bool,
    ) -> Result<(Arc<Deployment>, bool), CallFailure> {
        let _one = self.deploying.lock().await;
        if let Some(by) = self.agreement.get() {
            return self.deploy_agreed(by, kind, bytes, allow_breaking).await;
        }
        let module = ModuleHash(*blake3::hash(&bytes).as_bytes());
        let line = self.line(&kind);
        let current = line.as_ref().map(|line| line.current());
        if let Some(current) = current.as_ref().filter(|current| current.module == module) {
            return Ok((current.clone(), false));
        }
        let (code, contract) = self.prepare(module, bytes.clone(), Contract::read_new).await?;
        if let Some(current) = current.as_ref().filter(|_| !allow_breaking) {
            agree(current, &contract)?;
        }
        let broken = self.broken().get(&kind).cloned();
        let mut records = broken.as_ref().map(|broken| broken.records.clone()).unwrap_or_default();
        let last = records.iter().map(|record| record.revision.0).max();
        let follows = current.map(|current| current.revision);
        let record = ModuleRecord {
            kind: kind.clone(),
            revision: line
                .as_ref()
                .map_or(Revision(last.unwrap_or(0) + 1), |line| line.next()),
            module,
            at_ms: clock::wall_millis(),
            follows: follows
                .or(broken.map(|broken| broken.current.revision))
                .unwrap_or(Revision(0)),
        };
        let (shared, stored) = (self.clone(), record.clone());
        self.store(move || {
            shared.storage.put_module(&bytes)?;
            shared.storage.put_revision(&stored)
        })
        .await?;
        tracing::info!(%kind, revision = record.revision.0, %module, "deployed");
        let deployment = Arc::new(deployment(record.clone(), code, contract));
        match line {
            Some(line) => line.advance(deployment.clone(), Some(record)),
            None => {
                records.push(record);
                let line = Arc::new(Line::new(deployment.clone(), records));
                self.broken().remove(&kind);
                self.lines().insert(kind, line);
            }
        }
        Ok((deployment, true))
    }

    async fn rollback(self: Arc<Self>, kind: GrainType) -> Result<Arc<Deployment>, CallFailure> {
        let _one = self.deploying.lock().await;
        let line = self.line(&kind).ok_or_else(|| self.missing(&kind))?;
        let current = line.current().revision;
        let before = line.before(current).ok_or_else(|| {
            let detail = format!(
                "revision {} of `{kind}` is the first: there is none to go back to",
                current.0
            );
            CallFailure::before(Code::NoRevision, detail)
        })?;
        if let Some(by) = self.agreement.get() {
            return self.switch_agreed(by, &kind, (current, before.revision)).await;
        }
        let deployment = self.revision(&line, before.revision, before.module).await?;
        let (shared, revision) = (self.clone(), before.revision);
        let of = kind.clone();
        self.store(move || shared.storage.switch(&of, revision)).await?;
        tracing::info!(%kind, from = current.0, to = revision.0, "rolled back");
        line.advance(deployment.clone(), None);
        Ok(deployment)
    }

    /// A module's bytes, read on a thread that may wait for the disk.
    async fn stored(&self, module: ModuleHash) -> Result<Option<Vec<u8>>, StorageError> {
        let storage = self.storage.clone();
        let read = tokio::task::spawn_blocking(move || storage.module(&module));
        read.await.expect("storage doesn't panic")
    }

    /// Writes on a thread that may wait for the disk.
    async fn store(
        &self,
        write: impl FnOnce() -> Result<(), StorageError> + Send + 'static,
    ) -> Result<(), CallFailure> {
        let result = tokio::task::spawn_blocking(write).await.expect("storage doesn't panic");
        result.map_err(|error| match error {
            StorageError::DiskReserve { .. } => CallFailure::before(Code::DiskReserve, error.to_string()),
            error => {
                tracing::error!(%error, "a revision can't be stored");
                CallFailure::before(Code::Internal, "the revision can't be stored; the host's log says why")
            }
        })
    }

    async fn revision(
        &self,
        line: &Line,
        revision: Revision,
        module: ModuleHash,
    ) -> Result<Arc<Deployment>, CallFailure> {
        let current = line.current();
        if current.module == module {
            return Ok(current);
        }
        // Held while the code is made ready: all who want it wait for one.
        let mut older = line.older().await;
        if let Some(found) = older.find(revision, module) {
            return Ok(found);
        }
        let lost = |what: &str| {
            tracing::error!(kind = %line.kind(), revision = revision.0, %module, what, "a revision can't be loaded");
            let detail = format!(
                "revision {} of `{}`, which this grain is on, can't be loaded; the host's log says why",
                revision.0,
                line.kind()
            );
            CallFailure::before(Code::Internal, detail)
        };
        let bytes = match self.stored(module).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(lost("its bytes are missing")),
            Err(error) => return Err(lost(&error.to_string())),
        };
        let (code, contract) = match self.prepare(module, bytes, Contract::read).await {
            Ok(ready) => ready,
            Err(failure) if failure.code == Code::Overloaded => return Err(failure),
            Err(failure) => return Err(lost(&failure.detail)),
        };
        let record = line.record(revision).unwrap_or(ModuleRecord {
            kind: line.kind().clone(),
            revision,
            module,
            at_ms: 0,
            follows: Revision(0),
        });
        let deployment = Arc::new(deployment(ModuleRecord { module, ..record }, code, contract));
        older.keep(deployment.clone());
        Ok(deployment)
    }

    /// Validates, compiles and describes; `read` is how the description is read.
    async fn prepare(
        &self,
        module: ModuleHash,
        bytes: Vec<u8>,
        read: fn(&[u8]) -> Result<Contract, String>,
    ) -> Result<(Arc<Module>, Contract), CallFailure> {
        let Prepared { module, document } = self.engine.prepare(module, bytes).await.map_err(refusal)?;
        let contract = read(&document).map_err(|detail| CallFailure::before(Code::BadModule, detail))?;
        Ok((module, contract))
    }
}

/// Whether a new module offers its callers all that the current one does.
fn agree(current: &Deployment, new: &Contract) -> Result<(), CallFailure> {
    let differences = compat::differences(&current.contract, new);
    if differences.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "callers of revision {} of `{}` would lose: {}",
        current.revision.0,
        current.kind,
        differences.join("; ")
    );
    Err(CallFailure {
        error: serde_json::to_vec(&differences).ok(),
        ..CallFailure::before(Code::BreakingChange, detail)
    })
}

fn unknown_type(kind: &GrainType) -> CallFailure {
    let detail = format!("no module of type `{kind}` is deployed: `granary deploy` does that");
    CallFailure::before(Code::UnknownType, detail)
}

fn deployment(record: ModuleRecord, code: Arc<Module>, contract: Contract) -> Deployment {
    let ModuleRecord {
        kind,
        revision,
        module,
        at_ms,
        ..
    } = record;
    Deployment {
        kind,
        revision,
        module,
        at_ms,
        contract: Arc::new(contract),
        code,
    }
}

fn refusal(error: ModuleError) -> CallFailure {
    let code = match error {
        ModuleError::TooLarge { .. } => Code::TooLarge,
        ModuleError::Busy => Code::Overloaded,
        ModuleError::Host(_) => Code::Internal,
        _ => Code::BadModule,
    };
    CallFailure::before(code, error.to_string())
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}
