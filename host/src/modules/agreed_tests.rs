//! A deploy that has returned stays, in whatever order hosts hear of it, and whichever of them starts again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainType, ModuleHash, Revision};
use granary_core::rng::Rng;

use super::{Agree, Agreed, Agreeing, Change, Modules, Table};
use crate::storage::{MemoryStorage, Storage};
use crate::wasm::{Engine, WasmConfig};

const HOSTS: usize = 3;
const MODULES: u64 = 3;
const STEPS: usize = 60;
const SEEDS: u64 = 4;

/// All versions of the table, the first of which is empty.
struct Agreement {
    versions: Mutex<Vec<Table>>,
    bytes: BTreeMap<ModuleHash, Vec<u8>>,
    /// Held while no module gets from host to host.
    gate: tokio::sync::Mutex<()>,
    fetches: AtomicUsize,
}

impl Agreement {
    fn new() -> Arc<Agreement> {
        let modules = (0..MODULES).map(module);
        Arc::new(Agreement {
            versions: Mutex::new(vec![Table::default()]),
            bytes: modules
                .map(|bytes| (ModuleHash(*blake3::hash(&bytes).as_bytes()), bytes))
                .collect(),
            gate: tokio::sync::Mutex::default(),
            fetches: AtomicUsize::new(0),
        })
    }

    fn version(&self, version: usize) -> Agreed {
        let table = self.versions.lock().unwrap()[version].clone();
        let version = version as u64;
        Agreed { version, table }
    }

    fn last(&self) -> usize {
        self.versions.lock().unwrap().len() - 1
    }

    fn current(&self, version: usize) -> Revision {
        self.version(version).table.row(&kind()).1
    }
}

impl Agree for Agreement {
    fn edit(&self, change: Change) -> Agreeing<'_, Result<Agreed, CallFailure>> {
        Box::pin(async move {
            {
                let mut versions = self.versions.lock().unwrap();
                let next = change(versions.last().unwrap());
                versions.extend(next);
            }
            // Others get in between, as on a network.
            tokio::task::yield_now().await;
            Ok(self.version(self.last()))
        })
    }

    fn read(&self) -> Agreeing<'_, Result<Agreed, CallFailure>> {
        self.edit(Arc::new(|_| None))
    }

    fn fetch(&self, module: ModuleHash) -> Agreeing<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            let _open = self.gate.lock().await;
            self.bytes.get(&module).cloned()
        })
    }
}

fn kind() -> GrainType {
    GrainType::new("digit").unwrap()
}

fn module(n: u64) -> Vec<u8> {
    let document = format!(
        r#"{{"name":"digit","durability":"committed","version":1,"doc":"{n}","methods":[{{"name":"get","kind":"read"}}]}}"#
    );
    let (data, len) = (document.replace('"', "\\\""), document.len());
    let handler = "granary:grain/handler@0.1.0";
    let text = format!(
        r#"(module
  (memory (export "memory") 2)
  (global $__stack_pointer (mut i32) (i32.const 65536))
  (data (i32.const 66100) "{data}")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 70000))
  (func (export "{handler}#describe") (result i32)
    (i32.store (i32.const 65536) (i32.const 66100))
    (i32.store (i32.const 65540) (i32.const {len}))
    (i32.const 65536))
  (func (export "{handler}#call") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)
  (func (export "{handler}#save") (result i32) unreachable)
  (func (export "{handler}#load") (param i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)
  (func (export "{handler}#check") (param i32 i32 i32 i32) (result i32) unreachable)
)"#
    );
    wat::parse_str(text).unwrap()
}

fn engine() -> Arc<Engine> {
    let config = WasmConfig {
        max_instances: 4,
        memory_limit: 1 << 20,
        turn_cpu: Duration::from_secs(1),
        ..WasmConfig::default()
    };
    Engine::new(&config).unwrap()
}

struct Host {
    storage: Arc<MemoryStorage>,
    modules: Modules,
    /// The newest version that it has had.
    had: usize,
}

impl Host {
    async fn start(engine: &Arc<Engine>, agreement: &Arc<Agreement>, storage: Arc<MemoryStorage>, had: usize) -> Host {
        let modules = Modules::open(engine.clone(), storage.clone()).await.unwrap();
        modules.agree_by(agreement.clone());
        Host { storage, modules, had }
    }

    /// It's where the agreed table is at a version that isn't older than any that it has had.
    fn check(&mut self, agreement: &Agreement) {
        let adopted = self.modules.adopted() as usize;
        let current = self
            .modules
            .current(&kind())
            .map_or(Revision(0), |current| current.revision);
        let stored = self
            .storage
            .currents()
            .unwrap()
            .first()
            .map_or(Revision(0), |(_, revision)| *revision);
        assert_eq!(current, stored, "what runs is what a start would find");
        if adopted == 0 {
            assert_eq!(
                current,
                agreement.current(self.had),
                "as it was before it started again"
            );
        } else {
            assert!(
                adopted >= self.had,
                "it went back from version {} to {adopted}",
                self.had
            );
            assert_eq!(current, agreement.current(adopted), "version {adopted}");
            self.had = adopted;
        }
    }
}

/// What happens to a host at one time, together with others.
async fn act(modules: Modules, agreement: Arc<Agreement>, draw: u64) {
    match draw % 4 {
        0 | 1 => {
            let n = draw / 4 % MODULES;
            let (made, _) = modules.deploy(kind(), module(n), true).await.unwrap();
            assert_eq!(made.module, ModuleHash(*blake3::hash(&module(n)).as_bytes()));
        }
        // There may be none before, or others were faster.
        2 => drop(modules.rollback(kind()).await),
        // Somebody tells of a version, late.
        _ => {
            let version = (draw / 4) as usize % (agreement.last() + 1);
            modules.adopt(&agreement.version(version)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_revision_that_a_host_has_had_is_followed_by_later_ones_only() {
    let engine = engine();
    for seed in 0..SEEDS {
        let agreement = Agreement::new();
        let mut rng = Rng::new(seed);
        let mut hosts = Vec::new();
        for _ in 0..HOSTS {
            hosts.push(Host::start(&engine, &agreement, MemoryStorage::new(), 0).await);
        }
        for _ in 0..STEPS {
            let at = rng.below(HOSTS as u64) as usize;
            if rng.below(6) == 0 {
                let Host { storage, had, .. } = hosts.swap_remove(at);
                hosts.push(Host::start(&engine, &agreement, storage, had).await);
            } else {
                let mut acts = tokio::task::JoinSet::new();
                for _ in 0..1 + rng.below(3) {
                    let host = &hosts[rng.below(HOSTS as u64) as usize];
                    acts.spawn(act(host.modules.clone(), agreement.clone(), rng.below(1 << 20)));
                }
                acts.join_all().await;
            }
            hosts.iter_mut().for_each(|host| host.check(&agreement));
        }
        assert!(agreement.last() > STEPS / 4, "revisions were made");
    }
}

#[tokio::test]
async fn a_call_of_an_unknown_type_waits_for_nobodys_module() {
    let (engine, agreement) = (engine(), Agreement::new());
    let maker = Host::start(&engine, &agreement, MemoryStorage::new(), 0).await;
    maker.modules.deploy(kind(), module(0), false).await.unwrap();
    let other = Host::start(&engine, &agreement, MemoryStorage::new(), 0).await;
    let shut = agreement.gate.lock().await;
    let (modules, agreed) = (other.modules.clone(), agreement.version(1));
    let adopting = tokio::spawn(async move { modules.adopt(&agreed).await });
    while agreement.fetches.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let strange = other.modules.find(&GrainType::new("strange").unwrap()).await;
    assert_eq!(strange.err().map(|failure| failure.code), Some(Code::UnknownType));
    let modules = other.modules.clone();
    let known = tokio::spawn(async move { modules.find(&kind()).await.map(|line| line.revision()) });
    tokio::task::yield_now().await;
    assert!(!known.is_finished(), "this one is on its way");
    drop(shut);
    assert_eq!(known.await.unwrap().ok(), Some(Revision(1)));
    adopting.await.unwrap().unwrap();
}
