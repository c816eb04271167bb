//! A host without HTTP, with storage in memory, and a guest with a switch for each step of a move.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granary_core::activation::Limits;
use granary_core::api::Code;
use granary_core::commit::Delta;
use granary_core::id::{GrainKey, GrainName, GrainType, ModuleHash, RequestId, Revision};
use granary_core::message::Reply;
use granary_core::reply_table::absent::{self, AbsentTables};
use granary_core::waits::WaitGraph;
use tokio::sync::{RwLock, Semaphore};

use crate::activation::{Backlog, BacklogLimits, Budget, BudgetLimits, Catalog, Meter, Parts, Records, Release, Stall};
use crate::clock::Clock;
use crate::modules::Modules;
use crate::router::{Deletion, IdempotencyKey, Invocation, Router, UpgradeStatus};
use crate::snapshot::{SnapshotConfig, Tracking};
use crate::storage::{MemoryStorage, Storage};
use crate::telemetry::Metrics;
use crate::wasm::{Engine, WasmConfig};

/// A type with one digit as state. `add` takes a digit, `get` only reads.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) version: u32,
    pub(super) durability: &'static str,
    pub(super) methods: &'static str,
    pub(super) save: &'static str,
    pub(super) load: &'static str,
    pub(super) check: &'static str,
}

pub(super) const METHODS: &str =
    r#"{"name":"add","kind":"write","params":[{"name":"n"}]},{"name":"get","kind":"read"}"#;
/// State of version 1 is the digit, of version 2 the digit and a mark.
pub(super) const SAVE_1: &str = "(call $ok (i32.const 66000) (i32.const 1))";
pub(super) const SAVE_2: &str =
    "(i32.store8 (i32.const 66001) (i32.const 33)) (call $ok (i32.const 66000) (i32.const 2))";
/// Takes a state of either version; the length tells whether the version that comes with it is the right one.
pub(super) const LOAD: &str = "
    (if (i32.ne (local.get $len) (local.get $version)) (then unreachable))
    (i32.store8 (i32.const 66000) (i32.load8_u (local.get $ptr)))
    (call $ok (i32.const 0) (i32.const 0))";
pub(super) const PASS: &str = "(call $ok (i32.const 0) (i32.const 0))";
pub(super) const TRAP: &str = "unreachable";
/// A `fault` of kind guest-error with the message `no`.
pub(super) const REFUSE: &str = "
    (memory.fill (i32.const 65536) (i32.const 0) (i32.const 64))
    (i32.store8 (i32.const 65536) (i32.const 1))
    (i32.store8 (i32.const 65540) (i32.const 2))
    (i32.store (i32.const 65544) (i32.const 66050))
    (i32.store (i32.const 65548) (i32.const 2))
    (i32.const 65536)";

impl Guest {
    pub(super) fn first() -> Guest {
        Guest {
            version: 1,
            durability: "committed",
            methods: METHODS,
            save: SAVE_1,
            load: LOAD,
            check: PASS,
        }
    }

    pub(super) fn second() -> Guest {
        Guest {
            version: 2,
            save: SAVE_2,
            ..Guest::first()
        }
    }

    pub(super) fn wasm(&self) -> Vec<u8> {
        let Guest {
            version,
            durability,
            methods,
            save,
            load,
            check,
        } = self;
        let document =
            format!(r#"{{"name":"digit","durability":"{durability}","version":{version},"methods":[{methods}]}}"#);
        let (data, len) = (document.replace('"', "\\\"").replace('\n', " "), document.len());
        let handler = "granary:grain/handler@0.1.0";
        let text = format!(
            r#"(module
  (memory (export "memory") 2)
  (global $__stack_pointer (mut i32) (i32.const 65536))
  (global $heap (mut i32) (i32.const 80000))
  (data (i32.const 66050) "no")
  (data (i32.const 66100) "{data}")
  (func $ok (param $ptr i32) (param $len i32) (result i32)
    (i32.store8 (i32.const 65536) (i32.const 0))
    (i32.store (i32.const 65540) (local.get $ptr))
    (i32.store (i32.const 65544) (local.get $len))
    (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $new i32) (result i32)
    (global.set $heap (i32.add (global.get $heap) (i32.add (local.get $new) (i32.const 8))))
    (i32.sub (global.get $heap) (i32.add (local.get $new) (i32.const 8))))
  (func (export "{handler}#describe") (result i32)
    (i32.store (i32.const 65536) (i32.const 66100))
    (i32.store (i32.const 65540) (i32.const {len}))
    (i32.const 65536))
  (func (export "{handler}#call") (param i32 i32 i32 i32) (param $mp i32) (param $ml i32) (param $ap i32) (param $al i32) (result i32)
    (if (i32.eq (i32.load8_u (local.get $mp)) (i32.const 97))
      (then (i32.store8 (i32.const 66000)
        (i32.add (i32.load8_u (i32.const 66000)) (i32.sub (i32.load8_u offset=1 (local.get $ap)) (i32.const 48))))))
    (i32.store8 (i32.const 66016) (i32.add (i32.load8_u (i32.const 66000)) (i32.const 48)))
    (call $ok (i32.const 66016) (i32.const 1)))
  (func (export "cabi_post_{handler}#call") (param i32) (global.set $heap (i32.const 80000)))
  (func (export "{handler}#save") (result i32) {save})
  (func (export "{handler}#load") (param i32 i32 i32 i32) (param $version i32) (param $ptr i32) (param $len i32) (result i32) {load})
  (func (export "{handler}#check") (param i32 i32 i32 i32) (result i32) {check})
)"#
        );
        wat::parse_str(text).unwrap()
    }
}

/// How long the host has been up: longer than it keeps replies for repeated calls.
pub(super) const UPTIME: Duration = Duration::from_secs(3600);

pub(super) struct World {
    pub(super) storage: Arc<MemoryStorage>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) modules: Modules,
    pub(super) router: Router,
}

impl World {
    pub(super) async fn new() -> World {
        let storage = MemoryStorage::new();
        let metrics = Arc::new(Metrics::new());
        let waiting = BacklogLimits {
            requests: 1 << 10,
            bytes: 1 << 20,
        };
        let backlog = Backlog::new(waiting, metrics.clone());
        let release = Arc::new(Release::new(storage.durable(), backlog.clone()));
        storage.set_sink(release.clone());
        let wasm = WasmConfig {
            max_instances: 16,
            memory_limit: 1 << 20,
            turn_cpu: Duration::from_millis(200),
            ..WasmConfig::default()
        };
        let engine = Engine::new(&wasm).unwrap();
        let tracking = Tracking::new(&SnapshotConfig::default(), engine.slab().range()).unwrap();
        let modules = Modules::open(engine.clone(), storage.clone()).await.unwrap();
        let limits = BudgetLimits {
            bytes: 1 << 40,
            wait: Duration::from_secs(1),
            waiters: 16,
            large: 1 << 30,
        };
        let meter = Meter::new(engine.slab().file()).unwrap();
        let catalog = Catalog::new(Arc::new(Parts {
            storage: storage.clone(),
            budget: Budget::new(limits, meter, metrics.clone()),
            backlog,
            stall: Stall::default(),
            restores: Semaphore::new(4),
            engine,
            tracking,
            modules: modules.clone(),
            release: release.clone(),
            cluster: Arc::default(),
            alone: RwLock::default(),
            draining: std::sync::atomic::AtomicBool::new(false),
            records: Arc::new(Records::new()),
            waits: Arc::new(Mutex::new(WaitGraph::new())),
            clock: Clock::started_before(UPTIME),
            limits: Limits::default(),
            move_timeout: Duration::from_secs(10),
            metrics,
            tokens: AtomicU64::new(1),
            absent: Mutex::new(AbsentTables::new(absent::LIMIT)),
        }));
        tokio::spawn(release.run());
        World {
            storage,
            router: Router::new(catalog.clone(), None),
            catalog,
            modules,
        }
    }

    pub(super) async fn deploy(&self, guest: &Guest) -> Revision {
        let (deployment, _) = self.modules.deploy(kind(), guest.wasm(), true).await.unwrap();
        deployment.revision
    }

    pub(super) async fn ask(&self, key: &str, method: &str, args: &str) -> Reply {
        let call = Invocation {
            stale: false,
            id: RequestId([7; 16]),
            grain: grain(key),
            method: method.to_owned(),
            args: args.as_bytes().to_vec(),
            timeout: Duration::from_secs(30),
            idempotency: None,
        };
        self.router.invoke(call).await
    }

    /// Deletes a grain, under a key if there is one.
    pub(super) async fn delete(&self, key: &str, idempotency: Option<&str>) {
        let deletion = Deletion {
            id: RequestId([1; 16]),
            grain: grain(key),
            timeout: Duration::from_secs(10),
            idempotency: idempotency.map(|key| IdempotencyKey {
                scope: String::new(),
                key: key.to_owned(),
            }),
        };
        let reply = self.router.delete(deletion).await;
        assert_eq!(reply.result, Ok(b"null".to_vec()));
    }

    /// The value that a call gives, and the revision that gave it.
    pub(super) async fn call(&self, key: &str, method: &str, args: &str) -> (String, u32) {
        let reply = self.ask(key, method, args).await;
        (String::from_utf8(reply.result.unwrap()).unwrap(), reply.revision.0)
    }

    pub(super) async fn add(&self, key: &str, n: u8) -> (String, u32) {
        self.call(key, "add", &format!("[{n}]")).await
    }

    pub(super) async fn get(&self, key: &str) -> (String, u32) {
        self.call(key, "get", "[]").await
    }

    /// The stored state: its module, and all of it in one.
    pub(super) fn stored(&self, key: &str) -> (ModuleHash, Delta) {
        let stored = self.storage.load(&grain(key)).unwrap().unwrap();
        (stored.head.module, Delta::merge(&stored.parts).unwrap())
    }

    pub(super) async fn failure(&self, key: &str) -> Option<(Code, String)> {
        let failure = self.router.status(&grain(key)).await.unwrap().upgrade_failure?;
        Some((failure.code, failure.reason))
    }

    pub(super) async fn upgrade_status(&self) -> UpgradeStatus {
        self.router.upgrade_status(&kind()).await.unwrap()
    }

    /// Waits for the sweep's end: (total, moved, failed).
    pub(super) async fn sweep(&self) -> (u64, u64, u64) {
        self.router.upgrade(&kind()).await.unwrap();
        loop {
            let status = self.upgrade_status().await;
            if !status.running {
                assert_eq!(status.left, 0);
                return (status.total, status.moved, status.failed);
            }
            tokio::task::yield_now().await;
        }
    }
}

pub(super) fn kind() -> GrainType {
    GrainType::new("digit").unwrap()
}

pub(super) fn grain(key: &str) -> GrainName {
    GrainName::new(kind(), GrainKey::new(key).unwrap())
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

pub(super) fn of(value: &str, revision: u32) -> (String, u32) {
    (value.to_owned(), revision)
}
