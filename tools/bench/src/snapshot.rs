//! A turn and what it changed, without HTTP and disk: the call alone, then the call and the search for changed pages; turns on
//! two threads; what a grain's first touch takes, step by step.

use std::sync::{Arc, Barrier};
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
/// Grains that are touched for the first time, and stay.
const FRESH: usize = 4_000;

pub(crate) fn measure(is_quick: bool) -> Outcome<()> {
    let turns = if is_quick { TURNS / 10 } else { TURNS };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = Engine::new(&WasmConfig {
        max_instances: FRESH + 16,
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
    let tracking = Tracking::new(&SnapshotConfig::default(), engine.slab().range())?;
    for kept_bytes in [0, 1 << 20] {
        let [one, two] = [1, 2].map(|threads| in_parallel(threads, &engine, &probe, &tracking, kept_bytes, turns));
        let (one, two) = (one?, two?);
        println!(
            "turns/s with snapshot, state of {} KiB: {one:.0} on one thread, {two:.0} on two ({:.2}x)",
            kept_bytes >> 10,
            two / one
        );
    }
    println!();
    let counter = engine.compile(ModuleHash([1; 32]), &module("counter")?)?;
    let fresh = Fresh::measure(&runtime, &engine, &counter, &tracking, FRESH)?;
    println!("| first touch: a counter | start us | arm us | turn us | snapshot us | leave us |");
    println!("|---|---|---|---|---|---|");
    let Fresh {
        start,
        arm,
        turn,
        collect,
        leave,
    } = fresh;
    println!("| {FRESH} grains | {start:.1} | {arm:.1} | {turn:.1} | {collect:.1} | {leave:.1} |\n");
    Ok(())
}

/// Turns with their snapshots in a second, on so many threads with an instance each.
fn in_parallel(
    threads: usize,
    engine: &Arc<Engine>,
    module: &Arc<Module>,
    tracking: &Arc<Tracking>,
    kept_bytes: usize,
    turns: usize,
) -> Outcome<f64> {
    let begin = Barrier::new(threads);
    let one = || -> Result<f64, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        begin.wait();
        Row::measure(&runtime, engine, module, tracking, kept_bytes, turns)
            .map(|row| 1e6 / row.with_snapshot_us)
            .map_err(|error| error.to_string())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let rates = all.into_iter().map(|one| one.join().map_err(|_| "a turn panicked")?);
        Ok(rates.collect::<Result<Vec<f64>, String>>()?.iter().sum())
    })
}

/// Microseconds of the steps of a grain's first touch, on average.
#[derive(Default)]
struct Fresh {
    start: f64,
    arm: f64,
    turn: f64,
    collect: f64,
    leave: f64,
}

impl Fresh {
    fn measure(
        runtime: &Runtime,
        engine: &Arc<Engine>,
        module: &Arc<Module>,
        tracking: &Arc<Tracking>,
        grains: usize,
    ) -> Outcome<Fresh> {
        let mut fresh = Fresh::default();
        let mut resident = Vec::with_capacity(grains);
        let mut clock = Instant::now();
        let mut lap = |sum: &mut f64| {
            *sum += clock.elapsed().as_secs_f64() * 1e6 / grains as f64;
            clock = Instant::now();
        };
        for _ in 0..grains {
            lap(&mut 0.0);
            let mut instance = Instance::start(engine, module, &[])?;
            lap(&mut fresh.start);
            let mut tracker = Tracker::arm(tracking, &instance.span(), module.base(), &[])?;
            lap(&mut fresh.arm);
            turn(runtime, &mut instance, "add", b"[1]")?;
            lap(&mut fresh.turn);
            tracker.collect(&instance.span(), &mut Patches::new())?;
            lap(&mut fresh.collect);
            resident.push((instance, tracker));
        }
        lap(&mut 0.0);
        drop(resident);
        lap(&mut fresh.leave);
        Ok(fresh)
    }
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

pub(crate) fn turn(runtime: &Runtime, instance: &mut Instance, method: &str, args: &[u8]) -> Outcome<()> {
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
