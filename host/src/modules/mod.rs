//! The grain types of this host: which module is current, what it offers, and how a new one gets in.
//!
//! A deploy validates, compiles and describes before it stores anything; the revision's record is written last. What fails on
//! the way leaves nothing behind but, at most, module bytes that no record names.

mod compat;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, RwLock};

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainType, ModuleHash, Revision};
use tokio::sync::Mutex;

use crate::clock;
use crate::description::{Contract, MethodKind};
use crate::storage::{ModuleRecord, Storage, StorageError};
use crate::wasm::{DescribeError, Engine, Module, ModuleError};

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
    /// Read with every call, written by deploys.
    current: RwLock<BTreeMap<GrainType, Arc<Deployment>>>,
    /// One deploy at a time: compiling takes all cores anyway, and revisions are numbered.
    deploying: Mutex<()>,
}

impl Modules {
    /// All types that storage knows, their modules compiled or taken from the cache.
    pub(crate) async fn open(engine: Arc<Engine>, storage: Arc<dyn Storage>) -> Result<Modules, StorageError> {
        let shared = Shared {
            engine,
            storage,
            current: RwLock::default(),
            deploying: Mutex::new(()),
        };
        let modules = Modules {
            shared: Arc::new(shared),
        };
        let mut last = BTreeMap::new();
        for record in modules.shared.storage.revisions()? {
            last.insert(record.kind.clone(), record);
        }
        for record in last.into_values() {
            let name = record.module;
            let broken =
                |what: &str| StorageError::Corrupt(format!("module {name}, current for `{}`: {what}", record.kind));
            let bytes = modules
                .shared
                .storage
                .module(&name)?
                .ok_or_else(|| broken("its bytes are missing"))?;
            let (code, contract) = modules
                .shared
                .prepare(name, bytes)
                .await
                .map_err(|failure| broken(&failure.detail))?;
            modules.shared.install(record, code, contract);
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
        let _ = allow_breaking;
        // Not the caller's task: a deploy goes on when its client hangs up, so it can't stop half-way.
        let shared = self.shared.clone();
        let deploy = tokio::spawn(async move { shared.deploy(kind, bytes).await });
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
        let detail = format!("going back with `{kind}` isn't built yet");
        Err(CallFailure::before(Code::NotImplemented, detail))
    }

    /// All revisions of a type, oldest first; none when the type isn't deployed.
    pub fn history(&self, kind: &GrainType) -> Vec<RevisionSummary> {
        let summary = |current: Arc<Deployment>| RevisionSummary {
            revision: current.revision,
            module: current.module,
            at_ms: current.at_ms,
            is_current: true,
            follows: Revision(0),
        };
        self.current(kind).map(summary).into_iter().collect()
    }

    /// A type's current revision.
    pub fn current(&self, kind: &GrainType) -> Option<Arc<Deployment>> {
        self.shared.current(kind)
    }

    /// The current revision of every type, in order.
    pub fn all(&self) -> Vec<Arc<Deployment>> {
        self.shared
            .current
            .read()
            .expect("no panic under this lock")
            .values()
            .cloned()
            .collect()
    }

    /// A method of a type's current revision: its type's contract, its name to keep, and whether it only reads.
    pub(crate) fn method(
        &self,
        kind: &GrainType,
        method: &str,
    ) -> Result<(Arc<Contract>, Arc<str>, bool), CallFailure> {
        let deployment = self.current(kind).ok_or_else(|| {
            let detail = format!("no module of type `{kind}` is deployed: `granary deploy` does that");
            CallFailure::before(Code::UnknownType, detail)
        })?;
        let contract = &deployment.contract;
        let (name, found) = contract.method(method).ok_or_else(|| {
            let names: Vec<_> = contract
                .description
                .methods
                .iter()
                .map(|method| method.name.as_str())
                .collect();
            let detail = format!("`{kind}` has no method `{method}`; it has {}", names.join(", "));
            CallFailure::before(Code::UnknownMethod, detail)
        })?;
        Ok((contract.clone(), name.clone(), found.kind == MethodKind::Read))
    }
}

impl Shared {
    fn current(&self, kind: &GrainType) -> Option<Arc<Deployment>> {
        self.current
            .read()
            .expect("no panic under this lock")
            .get(kind)
            .cloned()
    }

    async fn deploy(self: Arc<Self>, kind: GrainType, bytes: Vec<u8>) -> Result<(Arc<Deployment>, bool), CallFailure> {
        let _one = self.deploying.lock().await;
        let module = ModuleHash(*blake3::hash(&bytes).as_bytes());
        let current = self.current(&kind);
        if let Some(current) = current.as_ref().filter(|current| current.module == module) {
            return Ok((current.clone(), false));
        }
        let (code, contract) = self.prepare(module, bytes.clone()).await?;
        let follows = current.map_or(Revision(0), |current| current.revision);
        let revision = Revision(follows.0 + 1);
        let record = ModuleRecord {
            kind,
            revision,
            module,
            at_ms: clock::wall().0,
            follows,
        };
        let (shared, stored) = (self.clone(), record.clone());
        let store = move || -> Result<(), StorageError> {
            shared.storage.put_module(&bytes)?;
            shared.storage.put_revision(&stored)
        };
        let result = tokio::task::spawn_blocking(store).await.expect("storage doesn't panic");
        result.map_err(|error| match error {
            StorageError::DiskReserve { .. } => CallFailure::before(Code::DiskReserve, error.to_string()),
            error => {
                tracing::error!(%error, "a module can't be stored");
                CallFailure::before(Code::Internal, "the module can't be stored; the host's log says why")
            }
        })?;
        tracing::info!(kind = %record.kind, revision = revision.0, %module, "deployed");
        Ok((self.install(record, code, contract), true))
    }

    /// Validates, compiles and describes.
    async fn prepare(&self, module: ModuleHash, bytes: Vec<u8>) -> Result<(Arc<Module>, Contract), CallFailure> {
        let engine = self.engine.clone();
        let compile = move || engine.compile(module, &bytes);
        let code = tokio::task::spawn_blocking(compile)
            .await
            .expect("the compiler's panics are caught")
            .map_err(refusal)?;
        let document = self.engine.describe(&code).await.map_err(|error| match error {
            DescribeError::Start(error) => CallFailure::before(Code::Overloaded, error.to_string()),
            DescribeError::Failure(_) => CallFailure::before(Code::BadModule, error.to_string()),
        })?;
        let contract = Contract::read(&document).map_err(|detail| CallFailure::before(Code::BadModule, detail))?;
        Ok((code, contract))
    }

    fn install(&self, record: ModuleRecord, code: Arc<Module>, contract: Contract) -> Arc<Deployment> {
        let ModuleRecord {
            kind,
            revision,
            module,
            at_ms,
            ..
        } = record;
        let deployment = Arc::new(Deployment {
            kind: kind.clone(),
            revision,
            module,
            at_ms,
            contract: Arc::new(contract),
            code,
        });
        self.current
            .write()
            .expect("no panic under this lock")
            .insert(kind, deployment.clone());
        deployment
    }
}

fn refusal(error: ModuleError) -> CallFailure {
    let code = if matches!(error, ModuleError::TooLarge { .. }) {
        Code::TooLarge
    } else {
        Code::BadModule
    };
    CallFailure::before(code, error.to_string())
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}
