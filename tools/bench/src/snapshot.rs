//! A turn and what it changed, without HTTP and disk: the call alone, then the call and the search for changed pages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use granary_core::id::ModuleHash;
use granary_core::page::Patches;
use granary_host::snapshot::{Choice, SnapshotConfig, Tracker, Tracking};
use granary_host::wasm::{
    Engine, GuestCall, GuestCallError, Instance, LogLevel, LogSource, Module, Replies, TurnHost, WasmConfig,
};
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::host::module;

const TURNS: usize = 50_000;

pub(crate) fn measure(is_quick: bool) -> Outcome<()> {
    let turns = if is_quick { TURNS / 10 } else { TURNS };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = Engine::new(&WasmConfig {
        max_instances: 16,
        ..WasmConfig::default()
    })?;
    let wasm = module("probe")?;
    // The engine takes the hash for a name only.
    let probe = engine.compile(ModuleHash([0; 32]), &wasm)?;
    println!("| one turn: `add` | dirty tracking | call us | call + snapshot us | bytes of the delta |");
    println!("|---|---|---|---|---|");
    for (choice, name) in [(Choice::Userfaultfd, "userfaultfd"), (Choice::Compare, "compare")] {
        let config = SnapshotConfig {
            choice,
            ..SnapshotConfig::default()
        };
        let tracking = match Tracking::new(&config, engine.slab().range()) {
            Ok(tracking) => tracking,
            Err(error) => {
                println!("| - | {name}: {error} | - | - | - |");
                continue;
            }
        };
        for kept_bytes in [0, 1 << 20, 16 << 20] {
            let row = Row::measure(&runtime, &engine, &probe, &tracking, kept_bytes, turns)?;
            println!(
                "| state of {} KiB | {name} | {:.2} | {:.2} | {} |",
                row.memory_bytes >> 10,
                row.call_us,
                row.with_snapshot_us,
                row.delta_bytes
            );
        }
    }
    println!();
    Ok(())
}

struct Row {
    memory_bytes: u64,
    call_us: f64,
    with_snapshot_us: f64,
    delta_bytes: usize,
}

impl Row {
    fn measure(
        runtime: &Runtime,
        engine: &Arc<Engine>,
        module: &Arc<Module>,
        tracking: &Arc<Tracking>,
        kept_bytes: usize,
        turns: usize,
    ) -> Outcome<Row> {
        let mut instance = Instance::start(engine, module, &[])?;
        let mut tracker = Tracker::arm(tracking, &instance.span(), module.base(), &[])?;
        if kept_bytes > 0 {
            turn(runtime, &mut instance, "fill", format!("[{kept_bytes}, 7]").as_bytes())?;
        }
        let mut delta = Patches::new();
        let mut repeat = |count: usize, snapshot: bool| -> Outcome<f64> {
            let started = Instant::now();
            for _ in 0..count {
                turn(runtime, &mut instance, "add", b"[1]")?;
                if snapshot {
                    delta = Patches::new();
                    tracker.collect(&instance.span(), &mut delta)?;
                }
            }
            Ok(started.elapsed().as_secs_f64() * 1e6 / count as f64)
        };
        repeat(turns / 10, true)?;
        let call_us = repeat(turns, false)?;
        let with_snapshot_us = repeat(turns, true)?;
        let delta_bytes = delta.as_bytes().len();
        Ok(Row {
            memory_bytes: instance.memory_len(),
            call_us,
            with_snapshot_us,
            delta_bytes,
        })
    }
}

fn turn(runtime: &Runtime, instance: &mut Instance, method: &str, args: &[u8]) -> Outcome<()> {
    let answer = runtime.block_on(instance.call(Arc::new(Nobody), "key", "request", method, args));
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(format!("`{method}` refused").into()),
        Err(failure) => Err(failure.to_string().into()),
    }
}

/// Nobody to call and nothing to log.
struct Nobody;

impl TurnHost for Nobody {
    fn invoke(&self, calls: Vec<GuestCall>) -> Replies {
        let refused = GuestCallError {
            code: "unknown_type".into(),
            message: "no grains here".into(),
            error: None,
        };
        Box::pin(async move { calls.iter().map(|_| Err(refused.clone())).collect() })
    }

    fn time_left(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn log(&self, _: LogLevel, _: LogSource, _: &str) {}
}
