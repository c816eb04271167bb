//! Guests in wasm text: the world's exports by hand, with one function's body to fill in.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use granary_core::commit::Delta;
use granary_core::id::ModuleHash;
use granary_core::page::Patches;

use crate::snapshot::{Choice, SnapshotConfig, Tracker, Tracking};
use crate::wasm::{
    Engine, GuestCall, GuestCallError, Instance, LogLevel, LogSource, Module, Replies, TurnFailure, TurnHost,
    WasmConfig,
};

/// A guest whose parts can be replaced.
///
/// Memory: the stack below 64 KiB; results are written at 65,536; the guest's own data from 66,000 on; the heap is a bump
/// allocator from 80,000 on, which starts again after each turn.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) imports: &'static str,
    pub(super) memory: &'static str,
    /// The body of `call`: $kp $kl $rp $rl $mp $ml $ap $al are its arguments, $i and $n are free, the result is a pointer.
    pub(super) call: &'static str,
    /// The body of `cabi_realloc`: $old $size $align $new.
    pub(super) realloc: &'static str,
    pub(super) describe: &'static str,
    pub(super) post: &'static str,
    /// More of the module's fields.
    pub(super) extra: &'static str,
}

pub(super) const BUMP: &str = "
    (local $at i32)
    (local.set $at (i32.and
        (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $new)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.lt_s (memory.grow (i32.add (i32.div_u (local.get $new) (i32.const 65536)) (i32.const 1))) (i32.const 0))
        (then unreachable))))
    (local.get $at)";

/// Adds the first byte of the arguments to the i64 at 66,000 and returns that as eight bytes; arguments `!` trap.
pub(super) const COUNTER: &str = "
    (if (i32.eq (i32.load8_u (local.get $ap)) (i32.const 33)) (then unreachable))
    (i64.store (i32.const 66000) (i64.add (i64.load (i32.const 66000)) (i64.load8_u (local.get $ap))))
    (i64.store (i32.const 65528) (i64.load (i32.const 66000)))
    (i64.store (i32.const 66016) (i64.load (i32.const 66000)))
    (call $ok (i32.const 66016) (i32.const 8))";

/// Returns its arguments.
pub(super) const ECHO: &str = "(call $ok (local.get $ap) (local.get $al))";

impl Default for Guest {
    fn default() -> Guest {
        Guest {
            imports: "",
            memory: "(memory (export \"memory\") 2)",
            call: COUNTER,
            realloc: BUMP,
            describe: "(call $list (i32.const 66100) (i32.const 2))",
            post: "(global.set $heap (i32.const 80000))",
            extra: "(data (i32.const 66100) \"{}\")",
        }
    }
}

impl Guest {
    pub(super) fn calling(call: &'static str) -> Guest {
        Guest {
            call,
            ..Guest::default()
        }
    }

    pub(super) fn text(&self) -> String {
        let Guest {
            imports,
            memory,
            call,
            realloc,
            describe,
            post,
            extra,
        } = self;
        let handler = "granary:grain/handler@0.1.0";
        format!(
            r#"(module
  {imports}
  {memory}
  (global $__stack_pointer (mut i32) (i32.const 65536))
  (global $heap (mut i32) (i32.const 80000))
  {extra}
  (func $list (param $ptr i32) (param $len i32) (result i32)
    (i32.store (i32.const 65536) (local.get $ptr))
    (i32.store (i32.const 65540) (local.get $len))
    (i32.const 65536))
  (func $ok (param $ptr i32) (param $len i32) (result i32)
    (i32.store8 (i32.const 65536) (i32.const 0))
    (i32.store (i32.const 65540) (local.get $ptr))
    (i32.store (i32.const 65544) (local.get $len))
    (i32.const 65536))
  (func $realloc (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    {realloc})
  (func (export "{handler}#describe") (result i32) {describe})
  (func $call (export "{handler}#call")
    (param $kp i32) (param $kl i32) (param $rp i32) (param $rl i32)
    (param $mp i32) (param $ml i32) (param $ap i32) (param $al i32) (result i32)
    (local $i i32) (local $n i32)
    {call})
  (func (export "cabi_post_{handler}#call") (param i32) {post})
  (func (export "{handler}#save") (result i32) (call $ok (i32.const 66000) (i32.const 8)))
  (func (export "{handler}#load") (param i32 i32 i32 i32 i32) (param $ptr i32) (param $len i32) (result i32)
    (i64.store (i32.const 66000) (i64.load (local.get $ptr)))
    (call $ok (i32.const 0) (i32.const 0)))
  (func (export "{handler}#check") (param i32 i32 i32 i32) (result i32) (call $ok (i32.const 0) (i32.const 0)))
)"#
        )
    }

    pub(super) fn wasm(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap()
    }

    pub(super) fn compile(&self, engine: &Arc<Engine>) -> Arc<Module> {
        compile(engine, &self.wasm())
    }

    pub(super) fn start(&self, engine: &Arc<Engine>) -> Instance {
        Instance::start(engine, &self.compile(engine), &[]).unwrap()
    }
}

/// A module without its last section, the one of names.
pub(super) fn stripped(wasm: &[u8]) -> Vec<u8> {
    let (mut at, mut last) = (8, 8);
    while at < wasm.len() {
        last = at;
        let (mut length, mut shift) = (0, 0);
        at += 1;
        loop {
            length |= usize::from(wasm[at] & 0x7f) << shift;
            (at, shift) = (at + 1, shift + 7);
            if wasm[at - 1] & 0x80 == 0 {
                break;
            }
        }
        at += length;
    }
    assert_eq!(wasm[last], 0, "a custom section");
    wasm[..last].to_vec()
}

pub(super) fn compile(engine: &Arc<Engine>, wasm: &[u8]) -> Arc<Module> {
    engine
        .compile(ModuleHash(*blake3::hash(wasm).as_bytes()), wasm)
        .unwrap()
}

/// Few instances, so that tests are quick; else what a host has.
pub(super) fn config() -> WasmConfig {
    WasmConfig {
        max_instances: 16,
        memory_limit: 1 << 20,
        ..WasmConfig::default()
    }
}

pub(super) fn engine() -> Arc<Engine> {
    Engine::new(&config()).unwrap()
}

pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// What a turn of [`TestHost`] may sleep for.
pub(super) const TIME_LEFT: Duration = Duration::from_millis(200);

/// A host that keeps log records and answers calls by a function.
pub(super) struct TestHost {
    pub(super) records: Mutex<Vec<(LogLevel, LogSource, String)>>,
    answer: fn(GuestCall) -> Result<Vec<u8>, GuestCallError>,
}

impl TestHost {
    pub(super) fn new() -> Arc<TestHost> {
        TestHost::answering(|call| {
            Err(GuestCallError {
                code: "unknown_type".to_owned(),
                message: call.kind,
                error: None,
            })
        })
    }

    pub(super) fn answering(answer: fn(GuestCall) -> Result<Vec<u8>, GuestCallError>) -> Arc<TestHost> {
        Arc::new(TestHost {
            records: Mutex::default(),
            answer,
        })
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.records
            .lock()
            .unwrap()
            .iter()
            .map(|record| record.2.clone())
            .collect()
    }
}

impl TurnHost for TestHost {
    fn invoke(&self, calls: Vec<GuestCall>) -> Replies {
        let answer = self.answer;
        Box::pin(async move {
            // The turn is suspended at least once.
            tokio::task::yield_now().await;
            calls.into_iter().map(answer).collect()
        })
    }

    fn time_left(&self) -> Duration {
        TIME_LEFT
    }

    fn log(&self, level: LogLevel, source: LogSource, message: &str) {
        self.records.lock().unwrap().push((level, source, message.to_owned()));
    }
}

/// One turn with these arguments.
pub(super) fn call(instance: &mut Instance, args: &[u8]) -> Result<Vec<u8>, TurnFailure> {
    run(call_async(instance, args))
}

pub(super) async fn call_async(instance: &mut Instance, args: &[u8]) -> Result<Vec<u8>, TurnFailure> {
    let answer = instance.call(TestHost::new(), "key", "request", "method", args).await?;
    Ok(answer.expect("these guests return no faults"))
}

/// One turn of [`COUNTER`].
pub(super) fn add(instance: &mut Instance, n: u8) -> u64 {
    u64::from_le_bytes(call(instance, &[n]).unwrap().try_into().unwrap())
}

/// Both ways of tracking, over an engine's memories.
pub(super) fn trackings(engine: &Engine) -> Vec<Arc<Tracking>> {
    [Choice::Userfaultfd, Choice::Compare]
        .into_iter()
        .filter_map(|choice| {
            let config = SnapshotConfig {
                choice,
                ..SnapshotConfig::default()
            };
            Tracking::new(&config, engine.slab().range())
                .map_err(|error| eprintln!("skipped: userfaultfd wants Linux >= 6.7: {error}"))
                .ok()
        })
        .collect()
}

/// Collects what a turn changed.
pub(super) fn collect(instance: &mut Instance, tracker: &mut Tracker) -> Delta {
    let mut patches = Patches::new();
    tracker.collect(&instance.span(), &mut patches).unwrap();
    Delta {
        memory_len: instance.memory_len(),
        globals: instance.globals(),
        patches,
    }
}
