//! One turn and the search for what it changed, without HTTP and disk: on states of two sizes, by one thread and by two.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use granary_core::id::ModuleHash;
use granary_core::page::Patches;
use granary_host::snapshot::{Choice, SnapshotConfig, Tracker, Tracking};
use granary_host::wasm::{Engine, Instance, Module, WasmConfig};
use tokio::runtime::Runtime;

use super::{Effort, Found};
use crate::Outcome;
use crate::host::module;
use crate::snapshot::turn;
use crate::table::{Row, median, thousands};

/// Two threads against one: more would be linear.
const BAR_THREADS: f64 = 1.7;

pub(super) fn measure(effort: Effort) -> Outcome<Found> {
    let stage = Stage::new()?;
    let mut found = Found::default();
    for (bytes, bar_us) in [(1 << 20, 10.0), (16 << 20, 25.0)] {
        let mut turns = Turns::new(&stage, bytes)?;
        let each = (0..effort.rounds()).map(|_| turns.us_each(effort.of(50_000)));
        let each = median(each.collect::<Outcome<_>>()?);
        found.rows.push(Row {
            case: format!("one turn, call and snapshot, {} MiB of state", bytes >> 20),
            ours: format!("{each:.1} us, {} dirty pages", turns.delta.iter().count()),
            bar: format!("<= {bar_us:.0} us"),
            holds: Some(each <= bar_us),
            ..Row::default()
        });
    }
    let (mut alone, mut together, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds() {
        let time = Duration::from_secs_f64(effort.seconds());
        let first = stage.rate(1, time)?;
        let two = (stage.rate(2, time)? + stage.rate(2, time)?) / 2.0;
        let one = (first + stage.rate(1, time)?) / 2.0;
        ratios.push(two / one);
        alone.push(one);
        together.push(two);
    }
    let ratio = median(ratios);
    found.rows.push(Row {
        case: "turns by two threads, 1 MiB of state".into(),
        ours: format!("{}/s", thousands(median(together))),
        against: format!("{}/s by one", thousands(median(alone))),
        ratio: format!("{ratio:.2}x"),
        bar: format!(">= {BAR_THREADS}x"),
        holds: Some(ratio >= BAR_THREADS),
    });
    Ok(found)
}

/// What all instances share.
struct Stage {
    engine: Arc<Engine>,
    module: Arc<Module>,
    tracking: Arc<Tracking>,
}

impl Stage {
    fn new() -> Outcome<Stage> {
        let engine = Engine::new(&WasmConfig {
            max_instances: 16,
            ..WasmConfig::default()
        })?;
        // The engine takes the hash for a name only.
        let module = engine.compile(ModuleHash([0; 32]), &module("probe")?)?;
        let config = SnapshotConfig {
            choice: Choice::Userfaultfd,
            ..SnapshotConfig::default()
        };
        let tracking = Tracking::new(&config, engine.slab().range())?;
        Ok(Stage {
            engine,
            module,
            tracking,
        })
    }

    /// Turns in a second by so many threads, each with an instance of its own.
    fn rate(&self, threads: usize, time: Duration) -> Outcome<f64> {
        let barrier = Barrier::new(threads);
        let counts: Result<Vec<f64>, String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| self.rate_of_one(&barrier, time).map_err(|error| error.to_string())))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .map(|rate| rate.map_err(|_| "a thread panicked".to_owned())?)
                .collect()
        });
        Ok(counts?.iter().sum())
    }

    fn rate_of_one(&self, barrier: &Barrier, time: Duration) -> Outcome<f64> {
        let turns = Turns::new(self, 1 << 20);
        // Also when it failed: the others wait.
        barrier.wait();
        let mut turns = turns?;
        let (started, mut count) = (Instant::now(), 0);
        while started.elapsed() < time {
            turns.us_each(100)?;
            count += 100;
        }
        Ok(f64::from(count) / started.elapsed().as_secs_f64())
    }
}

/// One instance that holds a state of some size.
struct Turns {
    runtime: Runtime,
    instance: Instance,
    tracker: Tracker,
    /// What the last turn changed.
    delta: Patches,
}

impl Turns {
    fn new(stage: &Stage, bytes: usize) -> Outcome<Turns> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut instance = Instance::start(&stage.engine, &stage.module, &[])?;
        let tracker = Tracker::arm(&stage.tracking, &instance.span(), stage.module.base(), &[])?;
        turn(&runtime, &mut instance, "fill", format!("[{bytes},7]").as_bytes())?;
        let mut turns = Turns {
            runtime,
            instance,
            tracker,
            delta: Patches::new(),
        };
        // Pages that every turn writes become hot.
        turns.us_each(1000)?;
        Ok(turns)
    }

    fn us_each(&mut self, count: usize) -> Outcome<f64> {
        let started = Instant::now();
        // Other bytes than in the turn before, on four pages.
        for args in [&b"[4,1]"[..], b"[4,2]"].into_iter().cycle().take(count) {
            turn(&self.runtime, &mut self.instance, "scatter", args)?;
            self.delta = Patches::new();
            self.tracker.collect(&self.instance.span(), &mut self.delta)?;
        }
        Ok(started.elapsed().as_secs_f64() * 1e6 / count as f64)
    }
}
