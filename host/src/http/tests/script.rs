//! A host that answers by a script and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use granary_core::api::{CallFailure, Code, Committed, Durability};
use granary_core::id::{GrainKey, GrainName, GrainType, HostId, ModuleHash, Revision, Seq};
use granary_core::message::Reply;
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::access::Security;
use super::super::door::Door;
use super::super::exchange::Api;
use super::super::inside::{Deployed, Inside};
use super::super::logs::followers;
use super::super::metrics::Metrics;
use super::super::server::{memory, serve_api};
use super::super::{HostFacts, HttpConfig};
use super::wire::{Dialer, Wire, port};
use crate::audit::Audit;
use crate::description::Contract;
use crate::modules::RevisionSummary;
use crate::router::{
    ClusterView, Deletion, GrainStatus, Invocation, KeyPage, LogCursor, LogFilter, LogPage, LogRecord, MemoryStatus,
    UpgradeFailure, UpgradeStatus,
};

/// The one type that is deployed.
pub(super) const TYPE: &str = "counter";

/// Answers; what it was asked is for tests to look at.
#[derive(Debug, Default)]
pub(super) struct Script {
    calls: Mutex<Vec<Invocation>>,
    deployed: Mutex<Vec<Vec<u8>>>,
    /// Whether the type has gone back already.
    back: Mutex<bool>,
    sweeping: Mutex<bool>,
    /// Log records, numbered from 0.
    pub(super) written: Mutex<Vec<LogRecord>>,
}

/// A listener with a script behind it.
pub(super) struct Served {
    pub(super) api: Arc<Api<Script>>,
    pub(super) address: SocketAddr,
    pub(super) dialer: Dialer,
    stop: Option<oneshot::Sender<()>>,
    pub(super) ended: JoinHandle<()>,
    folder: TempDir,
}

impl Served {
    pub(super) async fn start() -> Served {
        Served::with(HttpConfig::default()).await
    }

    pub(super) async fn with(config: HttpConfig) -> Served {
        Served::behind(config, false).await
    }

    /// Whoever connects is the owner.
    pub(super) async fn for_owner(config: HttpConfig) -> Served {
        Served::behind(config, true).await
    }

    async fn behind(config: HttpConfig, is_owners: bool) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 7777));
        let (listener, dialer) = port(address, is_owners);
        let facts = HostFacts {
            host: HostId([0xcd; 16]),
            address,
            dirty_tracking: "compare",
            dirty_tracking_reason: Some("the kernel is too old".into()),
            started: Instant::now(),
        };
        let metrics = Metrics::new(Registry::new()).unwrap();
        let api = Arc::new(Api {
            inside: Script::default(),
            host: HeaderValue::from_str(&facts.host.to_string()).unwrap(),
            facts: Arc::new(facts),
            security: Security::open(&config, address).unwrap(),
            audit: Arc::new(Audit::open(folder.path()).unwrap()),
            owner: Some(HeaderValue::from_static("%2Fdata%2Fadmin%2Esock")),
            body_memory: memory(&config, &metrics),
            calls: 0.into(),
            door: Door::new(config.admission(1)),
            followers: followers(),
            metrics,
            config,
            stopping: false.into(),
        });
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(serve_api(listener, api.clone(), async {
            let _ = stopped.await;
        }));
        Served {
            api,
            address,
            dialer,
            stop: Some(stop),
            ended,
            folder,
        }
    }

    pub(super) async fn connect(&self) -> Wire {
        self.dialer.connect().await.expect("the host listens")
    }

    pub(super) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// As when the host's told to.
    pub(super) async fn reload(&self) {
        super::super::reload::reload(&self.api).await;
    }

    /// The audit log's lines: who, what, and what became of it.
    pub(super) fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What was called since this was asked last.
    pub(super) fn calls(&self) -> Vec<Invocation> {
        std::mem::take(&mut self.api.inside.calls.lock().unwrap())
    }
}

fn contract() -> Arc<Contract> {
    let integer = json!({"type": "integer"});
    let text = json!({"type": "string"});
    let document = json!({
        "name": "counter",
        "doc": "Counts.",
        "durability": "relaxed",
        "methods": [
            {"name": "add", "doc": "Adds.", "kind": "write", "params": [{"name": "n", "schema": integer}], "result": integer},
            {"name": "get", "kind": "read"},
            {"name": "find", "kind": "read", "params": [
                {"name": "name", "schema": text},
                {"name": "ids", "schema": {"type": "array", "items": integer}, "required": false},
            ]},
            {"name": "unit", "kind": "write"},
            {"name": "fail", "kind": "write"},
            {"name": "full", "kind": "write"},
            {"name": "big", "kind": "write", "params": [{"name": "bytes", "schema": integer}]},
            {"name": "wait", "kind": "write", "params": [{"name": "ms", "schema": integer}]},
        ],
    });
    Arc::new(Contract::read(document.to_string().as_bytes()).unwrap())
}

fn deployed() -> Deployed {
    Deployed {
        kind: GrainType::new(TYPE).unwrap(),
        revision: Revision(3),
        module: ModuleHash([0xee; 32]),
        at_ms: 1,
        contract: contract(),
    }
}

fn stuck() -> UpgradeFailure {
    UpgradeFailure {
        key: GrainKey::new("a/1").unwrap(),
        revision: Revision(2),
        code: Code::Trap,
        reason: "it trapped".into(),
    }
}

fn reply(result: Result<Vec<u8>, CallFailure>) -> Reply {
    Reply {
        result,
        seq: Seq(7),
        revision: Revision(3),
        durability: Durability::Relaxed,
        rests_on: Default::default(),
        by: None,
    }
}

impl Script {
    fn upgrade_of(&self, kind: &GrainType) -> UpgradeStatus {
        UpgradeStatus {
            kind: kind.clone(),
            revision: Revision(3),
            total: 10,
            moved: 5,
            failed: 1,
            left: 4,
            running: *self.sweeping.lock().unwrap(),
            stuck: 2,
            failures: vec![stuck()],
        }
    }
}

impl Inside for Script {
    async fn invoke(&self, call: Invocation) -> Reply {
        let (method, args) = (call.method.clone(), call.args.clone());
        self.calls.lock().unwrap().push(call);
        match method.as_str() {
            "unit" => reply(Ok(Vec::new())),
            "fail" => reply(Err(CallFailure {
                code: Code::GuestError,
                detail: "no".into(),
                committed: Committed::Yes,
                error: Some(br#"{"Short": 5}"#.to_vec()),
                status: Some(409),
            })),
            "full" => reply(Err(CallFailure::before(Code::MailboxFull, "the mailbox is full"))),
            "big" => {
                let bytes: [usize; 1] = serde_json::from_slice(&args).unwrap();
                reply(Ok(format!("\"{}\"", "x".repeat(bytes[0])).into_bytes()))
            }
            "wait" => {
                let ms: [u64; 1] = serde_json::from_slice(&args).unwrap();
                tokio::time::sleep(Duration::from_millis(ms[0])).await;
                reply(Ok(b"\"waited\"".to_vec()))
            }
            _ => reply(Ok(args)),
        }
    }

    async fn delete(&self, _: Deletion) -> Reply {
        reply(Ok(Vec::new()))
    }

    async fn digest(&self, _: &GrainName) -> Result<Option<String>, CallFailure> {
        Ok(Some("d1".to_owned()))
    }

    async fn status(&self, _: &GrainName) -> Result<GrainStatus, CallFailure> {
        Ok(GrainStatus {
            host: HostId([0xcd; 16]),
            exists: true,
            resident: true,
            revision: Revision(3),
            ballot: 1,
            seq: Seq(7),
            memory_bytes: 131_072,
            idle_ms: Some(5),
            durability: Durability::Relaxed,
            last_error: None,
            queued: 0,
            upgrade_failure: Some(stuck()),
        })
    }

    async fn list(
        &self,
        _: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> Result<KeyPage, CallFailure> {
        let all = ["a/1", "a/2", "a/3", "b"]
            .into_iter()
            .map(|key| GrainKey::new(key).unwrap());
        let behind = all.filter(|key| key.as_str().starts_with(prefix) && after.is_none_or(|after| key > after));
        let mut keys: Vec<GrainKey> = behind.take(limit + 1).collect();
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next = keys.last().filter(|_| more).cloned();
        Ok(KeyPage { keys, next })
    }

    async fn deploy(
        &self,
        kind: GrainType,
        bytes: Vec<u8>,
        allow_breaking: bool,
    ) -> Result<(Deployed, bool), CallFailure> {
        if bytes == b"breaking" && !allow_breaking {
            return Err(CallFailure {
                error: Some(br#"["`get` is gone", "`put` is gone"]"#.to_vec()),
                ..CallFailure::before(Code::BreakingChange, "`get` is gone; `put` is gone")
            });
        }
        if bytes == b"bad" {
            return Err(CallFailure::before(Code::BadModule, "the module has two memories"));
        }
        let mut all = self.deployed.lock().unwrap();
        let new = all.last() != Some(&bytes);
        all.push(bytes);
        Ok((Deployed { kind, ..deployed() }, new))
    }

    async fn rollback(&self, _: GrainType) -> Result<Deployed, CallFailure> {
        let mut back = self.back.lock().unwrap();
        if std::mem::replace(&mut *back, true) {
            return Err(CallFailure::before(
                Code::NoRevision,
                "revision 2 is the first that is kept",
            ));
        }
        Ok(Deployed {
            revision: Revision(2),
            ..deployed()
        })
    }

    fn history(&self, _: &GrainType) -> Vec<RevisionSummary> {
        let revision = |number: u32, follows: u32| RevisionSummary {
            revision: Revision(number),
            module: ModuleHash([number as u8; 32]),
            at_ms: number.into(),
            is_current: number == 3,
            follows: Revision(follows),
        };
        vec![revision(1, 0), revision(2, 1), revision(3, 1)]
    }

    async fn upgrade(&self, kind: &GrainType) -> Result<UpgradeStatus, CallFailure> {
        *self.sweeping.lock().unwrap() = true;
        Ok(self.upgrade_of(kind))
    }

    async fn upgrade_status(&self, kind: &GrainType) -> Result<UpgradeStatus, CallFailure> {
        Ok(self.upgrade_of(kind))
    }

    async fn upgrade_statuses(&self, kinds: &[GrainType]) -> Result<Vec<UpgradeStatus>, CallFailure> {
        Ok(kinds.iter().map(|kind| self.upgrade_of(kind)).collect())
    }

    async fn find(&self, kind: &GrainType) -> Result<Deployed, CallFailure> {
        if kind.as_str() == TYPE {
            return Ok(deployed());
        }
        Err(CallFailure::before(Code::UnknownType, format!("no `{kind}`")))
    }

    fn all(&self) -> Vec<Deployed> {
        vec![deployed()]
    }

    /// All that were written, by a host that a second one never answers.
    async fn logs(&self, filter: &LogFilter, cursor: Option<&LogCursor>, most: usize) -> LogPage {
        let me = HostId([0xcd; 16]);
        let written = self.written.lock().unwrap();
        let after = cursor.map(|cursor| cursor.to_string().rsplit(':').next().unwrap().parse::<u64>().unwrap());
        let wanted = |record: &&LogRecord| {
            let is_kind = filter.kind.as_ref().is_none_or(|kind| kind.as_str() == record.kind);
            is_kind && after.is_none_or(|after| record.number >= after)
        };
        let records = written
            .iter()
            .filter(wanted)
            .take(most)
            .map(|record| (me, record.clone()));
        LogPage {
            records: records.collect(),
            next: format!("{me}:{}", written.len()).parse().unwrap(),
            lost: 0,
            silent: vec![HostId([0xab; 16])],
        }
    }

    async fn cluster(&self) -> Option<ClusterView> {
        None
    }

    async fn ready(&self) -> Result<(), &'static str> {
        Ok(())
    }

    async fn token(&self, holds: Duration) -> Result<String, CallFailure> {
        Ok(format!("granary-join-for-{}", holds.as_secs()))
    }

    async fn rotate(&self) -> Result<usize, CallFailure> {
        Ok(3)
    }

    fn drain(&self) -> Result<(), CallFailure> {
        Err(CallFailure::before(Code::BadArguments, "this host is alone"))
    }

    async fn relocate(&self, _: &GrainName, _: HostId) -> Result<u64, CallFailure> {
        Ok(1234)
    }

    fn memory(&self) -> MemoryStatus {
        MemoryStatus {
            budget_bytes: 1000,
            taken_bytes: 600,
            ..MemoryStatus::default()
        }
    }
}
