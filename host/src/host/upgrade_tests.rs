//! Grains that move between revisions of their type, on a host without HTTP and with storage in memory.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granary_core::activation::Limits;
use granary_core::api::{CallFailure, Code, Durability};
use granary_core::commit::Delta;
use granary_core::id::{GrainKey, GrainName, GrainType, ModuleHash, RequestId, Revision};
use granary_core::message::Reply;
use granary_core::waits::WaitGraph;
use tokio::sync::Semaphore;

use crate::activation::{Backlog, BacklogLimits, Budget, BudgetLimits, Catalog, Meter, Parts, Release};
use crate::clock::Clock;
use crate::modules::Modules;
use crate::router::{Invocation, Router};
use crate::snapshot::{SnapshotConfig, Tracking};
use crate::storage::{MemoryStorage, Storage};
use crate::telemetry::Metrics;
use crate::wasm::{Engine, WasmConfig};

/// A type with one digit as state. `add` takes a digit, `get` only reads.
#[derive(Clone)]
struct Guest {
    version: u32,
    durability: &'static str,
    methods: &'static str,
    save: &'static str,
    load: &'static str,
    check: &'static str,
}

const METHODS: &str = r#"{"name":"add","kind":"write","params":[{"name":"n"}]},{"name":"get","kind":"read"}"#;
/// State of version 1 is the digit, of version 2 the digit and a mark.
const SAVE_1: &str = "(call $ok (i32.const 66000) (i32.const 1))";
const SAVE_2: &str = "(i32.store8 (i32.const 66001) (i32.const 33)) (call $ok (i32.const 66000) (i32.const 2))";
/// Takes a state of either version; the length tells whether the version that comes with it is the right one.
const LOAD: &str = "
    (if (i32.ne (local.get $len) (local.get $version)) (then unreachable))
    (i32.store8 (i32.const 66000) (i32.load8_u (local.get $ptr)))
    (call $ok (i32.const 0) (i32.const 0))";
const PASS: &str = "(call $ok (i32.const 0) (i32.const 0))";
const TRAP: &str = "unreachable";
/// A `fault` of kind guest-error with the message `no`.
const REFUSE: &str = "
    (memory.fill (i32.const 65536) (i32.const 0) (i32.const 64))
    (i32.store8 (i32.const 65536) (i32.const 1))
    (i32.store8 (i32.const 65540) (i32.const 2))
    (i32.store (i32.const 65544) (i32.const 66050))
    (i32.store (i32.const 65548) (i32.const 2))
    (i32.const 65536)";

impl Guest {
    fn first() -> Guest {
        Guest {
            version: 1,
            durability: "committed",
            methods: METHODS,
            save: SAVE_1,
            load: LOAD,
            check: PASS,
        }
    }

    fn second() -> Guest {
        Guest {
            version: 2,
            save: SAVE_2,
            ..Guest::first()
        }
    }

    fn wasm(&self) -> Vec<u8> {
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

struct World {
    storage: Arc<MemoryStorage>,
    catalog: Arc<Catalog>,
    modules: Modules,
    router: Router,
}

impl World {
    async fn new() -> World {
        let storage = MemoryStorage::new();
        let release = Arc::new(Release::new(storage.durable()));
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
        let metrics = Arc::new(Metrics::new());
        let limits = BudgetLimits {
            bytes: 1 << 40,
            wait: Duration::from_secs(1),
            waiters: 16,
            large: 1 << 30,
        };
        let meter = Meter::new(engine.slab().file()).unwrap();
        let waiting = BacklogLimits {
            requests: 1 << 10,
            bytes: 1 << 20,
        };
        let catalog = Catalog::new(Arc::new(Parts {
            storage: storage.clone(),
            budget: Budget::new(limits, meter, metrics.clone()),
            backlog: Backlog::new(waiting, metrics.clone()),
            restores: Semaphore::new(4),
            engine,
            tracking,
            modules: modules.clone(),
            release: release.clone(),
            waits: Arc::new(Mutex::new(WaitGraph::new())),
            clock: Clock::start(),
            limits: Limits::default(),
            move_timeout: Duration::from_secs(10),
            metrics,
            tokens: AtomicU64::new(1),
        }));
        tokio::spawn(release.run());
        World {
            storage,
            router: Router::new(catalog.clone()),
            catalog,
            modules,
        }
    }

    async fn deploy(&self, guest: &Guest) -> Revision {
        let (deployment, _) = self.modules.deploy(kind(), guest.wasm(), true).await.unwrap();
        deployment.revision
    }

    async fn ask(&self, key: &str, method: &str, args: &str) -> Reply {
        let call = Invocation {
            id: RequestId([7; 16]),
            grain: grain(key),
            method: method.to_owned(),
            args: args.as_bytes().to_vec(),
            timeout: Duration::from_secs(30),
            idempotency: None,
        };
        self.router.invoke(call).await
    }

    /// The value that a call gives, and the revision that gave it.
    async fn call(&self, key: &str, method: &str, args: &str) -> (String, u32) {
        let reply = self.ask(key, method, args).await;
        (String::from_utf8(reply.result.unwrap()).unwrap(), reply.revision.0)
    }

    async fn add(&self, key: &str, n: u8) -> (String, u32) {
        self.call(key, "add", &format!("[{n}]")).await
    }

    async fn get(&self, key: &str) -> (String, u32) {
        self.call(key, "get", "[]").await
    }

    /// The stored state: its module, and all of it in one.
    fn stored(&self, key: &str) -> (ModuleHash, Delta) {
        let stored = self.storage.load(&grain(key)).unwrap().unwrap();
        (stored.head.module, Delta::merge(&stored.parts).unwrap())
    }

    fn failure(&self, key: &str) -> Option<(Code, String)> {
        let failure = self.router.status(&grain(key)).unwrap().upgrade_failure?;
        Some((failure.code, failure.reason))
    }

    /// Waits for the sweep's end: (total, moved, failed).
    async fn sweep(&self) -> (u64, u64, u64) {
        self.router.upgrade(&kind()).unwrap();
        loop {
            let status = self.router.upgrade_status(&kind()).unwrap();
            if !status.running {
                assert_eq!(status.left, 0);
                return (status.total, status.moved, status.failed);
            }
            tokio::task::yield_now().await;
        }
    }
}

fn kind() -> GrainType {
    GrainType::new("digit").unwrap()
}

fn grain(key: &str) -> GrainName {
    GrainName::new(kind(), GrainKey::new(key).unwrap())
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

fn of(value: &str, revision: u32) -> (String, u32) {
    (value.to_owned(), revision)
}

#[test]
fn a_grain_moves_at_its_next_call_with_its_state_in_memory_or_not() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        assert_eq!(world.add("here", 3).await, of("3", 1));
        assert_eq!(world.add("gone", 4).await, of("4", 1));
        world.catalog.evict_all();
        assert_eq!(world.add("here", 1).await, of("4", 1));
        assert_eq!(world.deploy(&Guest::second()).await, Revision(2));
        assert_eq!(world.get("here").await, of("4", 2));
        assert_eq!(world.add("gone", 1).await, of("5", 2));
        assert_eq!(world.get("fresh").await, of("0", 2));
    });
}

#[test]
fn whatever_fails_on_the_way_the_grain_stays_where_it_was_and_serves() {
    let second = Guest::second;
    let forever = "(loop $again (br $again)) unreachable";
    let all_memory = "(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) unreachable";
    let ways: [(&str, Guest, Code); 6] = [
        (
            "`load` of revision 2 failed",
            Guest { load: TRAP, ..second() },
            Code::Trap,
        ),
        (
            "`load` of revision 2 refused: no",
            Guest {
                load: REFUSE,
                ..second()
            },
            Code::GuestError,
        ),
        (
            "`load` of revision 2 failed",
            Guest {
                load: forever,
                ..second()
            },
            Code::TurnTimeout,
        ),
        (
            "`load` of revision 2 failed",
            Guest {
                load: all_memory,
                ..second()
            },
            Code::MemoryLimit,
        ),
        (
            "`check` of revision 2 refused: no",
            Guest {
                check: REFUSE,
                ..second()
            },
            Code::GuestError,
        ),
        (
            "`check` of revision 2 failed",
            Guest {
                check: TRAP,
                ..second()
            },
            Code::Trap,
        ),
    ];
    run(async {
        for (why, guest, code) in ways {
            let world = World::new().await;
            world.deploy(&Guest::first()).await;
            world.add("a", 3).await;
            world.deploy(&guest).await;
            assert_eq!(world.add("a", 1).await, of("4", 1));
            assert_eq!(world.get("a").await, of("4", 1));
            let (found, reason) = world.failure("a").expect("it's told");
            assert_eq!(found, code, "{reason}");
            assert!(reason.starts_with(why), "{reason}");
            assert_eq!(world.sweep().await, (1, 0, 1));
            assert_eq!(world.router.upgrade_status(&kind()).unwrap().failures.len(), 1);
            // A better revision is another chance.
            world.deploy(&Guest::second()).await;
            assert_eq!(world.get("a").await, of("4", 3));
            assert_eq!(world.failure("a"), None);
        }
    });
}

#[test]
fn a_save_that_traps_fails_the_move_too() {
    run(async {
        let world = World::new().await;
        world
            .deploy(&Guest {
                save: TRAP,
                ..Guest::first()
            })
            .await;
        world.add("a", 3).await;
        world.deploy(&Guest::second()).await;
        assert_eq!(world.get("a").await, of("3", 1));
        assert_eq!(world.failure("a").unwrap().0, Code::Trap);
    });
}

#[test]
fn back_without_a_write_since_is_byte_for_byte_and_runs_no_guest() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        let before = world.stored("a");
        // What the second one would save, the first one couldn't load.
        world
            .deploy(&Guest {
                save: TRAP,
                ..Guest::second()
            })
            .await;
        assert_eq!(world.get("a").await, of("3", 2));
        assert_ne!(world.stored("a").0, before.0);
        assert_eq!(world.modules.rollback(kind()).await.unwrap().revision, Revision(1));
        assert_eq!(world.get("a").await, of("3", 1));
        assert_eq!(world.stored("a"), before);
    });
}

#[test]
fn back_after_a_write_goes_through_save_and_load() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        world.deploy(&Guest::second()).await;
        assert_eq!(world.add("a", 2).await, of("5", 2));
        world.modules.rollback(kind()).await.unwrap();
        assert_eq!(world.get("a").await, of("5", 1));
        let none = world.modules.rollback(kind()).await.unwrap_err();
        assert_eq!(none.code, Code::NoRevision);
        assert_eq!(world.deploy(&Guest::second()).await, Revision(3));
    });
}

#[test]
fn types_that_promise_less_move_all_that_they_hold() {
    run(async {
        for durability in ["relaxed", "volatile"] {
            let first = Guest {
                durability,
                ..Guest::first()
            };
            let second = Guest {
                durability,
                ..Guest::second()
            };
            let world = World::new().await;
            world.deploy(&first).await;
            world.add("a", 3).await;
            world.deploy(&second).await;
            assert_eq!(world.add("a", 1).await, of("4", 2));
            world.modules.rollback(kind()).await.unwrap();
            // The last write may be in memory only: it isn't lost.
            assert_eq!(world.get("a").await, of("4", 1));
            world.catalog.evict_all();
            assert_eq!(world.get("a").await, of("4", 1));
        }
    });
}

#[test]
fn a_volatile_grain_that_could_not_move_keeps_what_no_commit_holds() {
    run(async {
        let volatile = |guest: Guest| Guest {
            durability: "volatile",
            ..guest
        };
        let world = World::new().await;
        world.deploy(&volatile(Guest::first())).await;
        world.add("a", 3).await;
        world
            .deploy(&volatile(Guest {
                load: TRAP,
                ..Guest::second()
            }))
            .await;
        assert_eq!(world.add("a", 1).await, of("4", 1));
        assert_eq!(world.get("a").await, of("4", 1));
    });
}

#[test]
fn the_reply_says_what_the_revision_that_answers_promises() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        world
            .deploy(&Guest {
                durability: "volatile",
                ..Guest::second()
            })
            .await;
        assert_eq!(world.ask("a", "add", "[1]").await.durability, Durability::Volatile);
        world.modules.rollback(kind()).await.unwrap();
        let reply = world.ask("a", "get", "[]").await;
        assert_eq!(reply.result, Ok(b"4".to_vec()));
        assert_eq!(reply.durability, Durability::Committed);
    });
}

#[test]
fn the_same_module_under_another_number_moves_nothing() {
    run(async {
        let world = World::new().await;
        world
            .deploy(&Guest {
                save: TRAP,
                ..Guest::first()
            })
            .await;
        world.add("a", 3).await;
        world.deploy(&Guest::second()).await;
        assert_eq!(
            world
                .deploy(&Guest {
                    save: TRAP,
                    ..Guest::first()
                })
                .await,
            Revision(3)
        );
        assert_eq!(world.get("a").await, of("3", 3));
        assert_eq!(world.storage.head(&grain("a")).unwrap().unwrap().head.seq.0, 1);
    });
}

#[test]
fn a_deleted_grain_begins_under_the_current_revision() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        world
            .deploy(&Guest {
                load: TRAP,
                ..Guest::second()
            })
            .await;
        assert_eq!(world.get("a").await, of("3", 1));
        let timeout = Duration::from_secs(10);
        let deleted = world.router.delete(RequestId([1; 16]), grain("a"), timeout).await;
        assert!(deleted.result.is_ok());
        assert_eq!(world.failure("a"), None);
        assert_eq!(world.add("a", 1).await, of("1", 2));
    });
}

#[test]
fn a_sweep_moves_all_grains_and_leaves_those_that_can_not_move() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        for grain in 0..40 {
            world.add(&format!("{grain:02}"), 1 + grain % 2).await;
            // More than the host has room for.
            world.catalog.evict_all();
        }
        // It refuses every other state.
        let load = "
            (if (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 2)) (then unreachable))
            (i32.store8 (i32.const 66000) (i32.load8_u (local.get $ptr)))
            (call $ok (i32.const 0) (i32.const 0))";
        world
            .deploy(&Guest {
                load,
                ..Guest::second()
            })
            .await;
        assert_eq!(world.sweep().await, (40, 20, 20));
        assert_eq!(world.modules.stuck(), 20);
        let status = world.router.upgrade_status(&kind()).unwrap();
        let keys: Vec<&str> = status.failures.iter().map(|failure| failure.key.as_str()).collect();
        assert_eq!(keys[..3], ["01", "03", "05"]);
        assert_eq!(world.get("00").await, of("1", 2));
        assert_eq!(world.get("01").await, of("2", 1));
        // Again: those that are current are only looked at.
        assert_eq!(world.sweep().await, (40, 20, 20));
        world.modules.rollback(kind()).await.unwrap();
        assert_eq!(world.modules.stuck(), 0);
        assert_eq!(world.sweep().await, (40, 40, 0));
        assert_eq!(world.get("00").await, of("1", 1));
    });
}

#[test]
fn a_module_that_offers_less_is_refused_unless_that_is_meant() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        let methods = r#"{"name":"get","kind":"read"}"#;
        let less = Guest {
            methods,
            ..Guest::second()
        };
        let refused: CallFailure = world.modules.deploy(kind(), less.wasm(), false).await.unwrap_err();
        assert_eq!(refused.code, Code::BreakingChange);
        let differences: Vec<String> = serde_json::from_slice(&refused.error.unwrap()).unwrap();
        assert_eq!(differences, ["`add` is gone"]);
        assert_eq!(world.modules.current(&kind()).unwrap().revision, Revision(1));
        assert_eq!(world.deploy(&less).await, Revision(2));
        let history = world.modules.history(&kind());
        let follows: Vec<_> = history.iter().map(|one| (one.follows.0, one.is_current)).collect();
        assert_eq!(follows, [(0, false), (1, true)]);
    });
}

#[test]
fn a_stuck_grain_is_called_as_its_own_revision_takes_it() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        let methods = r#"{"name":"add","kind":"write","params":[{"name":"by","required":false},{"name":"n"}]},
            {"name":"get","kind":"read"},{"name":"put","kind":"write"}"#;
        let methods = Guest {
            load: TRAP,
            methods,
            ..Guest::second()
        };
        world.deploy(&methods).await;
        assert_eq!(world.call("a", "add", "[null,2]").await, of("5", 1));
        let refused = world.ask("a", "add", "[7,2]").await.result.unwrap_err();
        assert_eq!(refused.code, Code::BadArguments);
        let unknown = world.ask("a", "put", "[]").await.result.unwrap_err();
        assert_eq!(unknown.code, Code::UnknownMethod);
        assert!(unknown.detail.contains("still on revision 1"), "{}", unknown.detail);
    });
}

#[test]
fn a_read_that_would_write_in_the_older_revision_is_refused() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        let methods = r#"{"name":"add","kind":"read","params":[{"name":"n"}]},{"name":"get","kind":"read"}"#;
        world
            .deploy(&Guest {
                load: TRAP,
                methods,
                ..Guest::second()
            })
            .await;
        let refused = world.ask("a", "add", "[1]").await.result.unwrap_err();
        assert_eq!(refused.code, Code::UpgradeFailed);
        assert_eq!(world.get("a").await, of("3", 1));
    });
}
