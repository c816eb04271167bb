//! What HTTP asks of the host behind it. The router and the modules in a host; a script in this module's tests.

use std::sync::Arc;
use std::time::Duration;

use granary_core::api::CallFailure;
use granary_core::id::{GrainKey, GrainName, GrainType, HostId, ModuleHash, Revision};
use granary_core::message::Reply;

use crate::description::Contract;
use crate::modules::{Deployment, Modules, RevisionSummary};
use crate::router::{
    ClusterView, Deletion, GrainStatus, Invocation, KeyPage, LogCursor, LogFilter, LogPage, MemoryStatus, Router,
    UpgradeStatus,
};

/// A type's current revision, as far as HTTP needs it: a [`Deployment`] without its code.
#[derive(Clone, Debug)]
pub(super) struct Deployed {
    pub(super) kind: GrainType,
    pub(super) revision: Revision,
    pub(super) module: ModuleHash,
    pub(super) at_ms: u64,
    pub(super) contract: Arc<Contract>,
}

/// The host as HTTP sees it: `Router` and `Modules` in one, with their meanings.
pub(super) trait Inside: Send + Sync + 'static {
    fn invoke(&self, call: Invocation) -> impl Future<Output = Reply> + Send;
    fn delete(&self, deletion: Deletion) -> impl Future<Output = Reply> + Send;
    fn status(&self, grain: &GrainName) -> impl Future<Output = Result<GrainStatus, CallFailure>> + Send;
    fn digest(&self, grain: &GrainName) -> impl Future<Output = Result<Option<String>, CallFailure>> + Send;
    fn list(
        &self,
        kind: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> impl Future<Output = Result<KeyPage, CallFailure>> + Send;
    fn deploy(
        &self,
        kind: GrainType,
        bytes: Vec<u8>,
        allow_breaking: bool,
    ) -> impl Future<Output = Result<(Deployed, bool), CallFailure>> + Send;
    fn rollback(&self, kind: GrainType) -> impl Future<Output = Result<Deployed, CallFailure>> + Send;
    fn history(&self, kind: &GrainType) -> Vec<RevisionSummary>;
    fn upgrade(&self, kind: &GrainType) -> impl Future<Output = Result<UpgradeStatus, CallFailure>> + Send;
    fn upgrade_status(&self, kind: &GrainType) -> impl Future<Output = Result<UpgradeStatus, CallFailure>> + Send;
    fn upgrade_statuses(
        &self,
        kinds: &[GrainType],
    ) -> impl Future<Output = Result<Vec<UpgradeStatus>, CallFailure>> + Send;
    fn find(&self, kind: &GrainType) -> impl Future<Output = Result<Deployed, CallFailure>> + Send;
    fn all(&self) -> Vec<Deployed>;
    fn memory(&self) -> MemoryStatus;
    fn logs(&self, filter: &LogFilter, cursor: Option<&LogCursor>, most: usize)
    -> impl Future<Output = LogPage> + Send;
    fn cluster(&self) -> impl Future<Output = Option<ClusterView>> + Send;
    fn ready(&self) -> impl Future<Output = Result<(), &'static str>> + Send;
    fn token(&self, holds: Duration) -> impl Future<Output = Result<String, CallFailure>> + Send;
    fn rotate(&self) -> impl Future<Output = Result<usize, CallFailure>> + Send;
    fn drain(&self) -> Result<(), CallFailure>;
    fn relocate(&self, grain: &GrainName, to: HostId) -> impl Future<Output = Result<u64, CallFailure>> + Send;
}

/// The real one.
pub(super) struct Host {
    pub(super) router: Router,
    pub(super) modules: Modules,
}

impl Inside for Host {
    fn invoke(&self, call: Invocation) -> impl Future<Output = Reply> + Send {
        self.router.invoke(call)
    }

    fn delete(&self, deletion: Deletion) -> impl Future<Output = Reply> + Send {
        self.router.delete(deletion)
    }

    fn status(&self, grain: &GrainName) -> impl Future<Output = Result<GrainStatus, CallFailure>> + Send {
        self.router.status(grain)
    }

    fn digest(&self, grain: &GrainName) -> impl Future<Output = Result<Option<String>, CallFailure>> + Send {
        self.router.digest(grain)
    }

    fn list(
        &self,
        kind: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> impl Future<Output = Result<KeyPage, CallFailure>> + Send {
        self.router.list(kind, prefix, after, limit)
    }

    async fn deploy(
        &self,
        kind: GrainType,
        bytes: Vec<u8>,
        allow_breaking: bool,
    ) -> Result<(Deployed, bool), CallFailure> {
        let (deployment, new) = self.modules.deploy(kind, bytes, allow_breaking).await?;
        Ok((shown(&deployment), new))
    }

    async fn rollback(&self, kind: GrainType) -> Result<Deployed, CallFailure> {
        Ok(shown(&*self.modules.rollback(kind).await?))
    }

    fn history(&self, kind: &GrainType) -> Vec<RevisionSummary> {
        self.modules.history(kind)
    }

    fn upgrade(&self, kind: &GrainType) -> impl Future<Output = Result<UpgradeStatus, CallFailure>> + Send {
        self.router.upgrade(kind)
    }

    fn upgrade_status(&self, kind: &GrainType) -> impl Future<Output = Result<UpgradeStatus, CallFailure>> + Send {
        self.router.upgrade_status(kind)
    }

    fn upgrade_statuses(
        &self,
        kinds: &[GrainType],
    ) -> impl Future<Output = Result<Vec<UpgradeStatus>, CallFailure>> + Send {
        self.router.upgrade_statuses(kinds)
    }

    async fn find(&self, kind: &GrainType) -> Result<Deployed, CallFailure> {
        let line = self.modules.find(kind).await?;
        Ok(shown(&line.current()))
    }

    fn all(&self) -> Vec<Deployed> {
        self.modules.all().iter().map(|deployment| shown(deployment)).collect()
    }

    fn memory(&self) -> MemoryStatus {
        self.router.memory()
    }

    fn logs(
        &self,
        filter: &LogFilter,
        cursor: Option<&LogCursor>,
        most: usize,
    ) -> impl Future<Output = LogPage> + Send {
        self.router.logs(filter, cursor, most)
    }

    fn cluster(&self) -> impl Future<Output = Option<ClusterView>> + Send {
        self.router.cluster()
    }

    fn ready(&self) -> impl Future<Output = Result<(), &'static str>> + Send {
        self.router.ready()
    }

    fn token(&self, holds: Duration) -> impl Future<Output = Result<String, CallFailure>> + Send {
        self.router.token(holds)
    }

    fn rotate(&self) -> impl Future<Output = Result<usize, CallFailure>> + Send {
        self.router.rotate()
    }

    fn drain(&self) -> Result<(), CallFailure> {
        self.router.drain()
    }

    fn relocate(&self, grain: &GrainName, to: HostId) -> impl Future<Output = Result<u64, CallFailure>> + Send {
        self.router.relocate(grain, to)
    }
}

fn shown(deployment: &Deployment) -> Deployed {
    Deployed {
        kind: deployment.kind.clone(),
        revision: deployment.revision,
        module: deployment.module,
        at_ms: deployment.at_ms,
        contract: deployment.contract.clone(),
    }
}
