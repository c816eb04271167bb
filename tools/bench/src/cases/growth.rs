//! Growth of grains: does a hot set slow down when very many other grains exist?

use std::time::{Duration, Instant};

use super::throughput::many_keys;
use super::{Effort, Found};
use crate::Outcome;
use crate::footprint::Usage;
use crate::host::Server;
use crate::load::{self, Call};
use crate::table::{Row, thousands};

const FEW: usize = 2000;
const MANY: usize = 1_000_000;
const HOT: usize = 1000;
/// Of the hot set's rate with few grains, each as a share of the limit's in the same minute.
const BAR: f64 = 0.9;

pub(super) fn measure(effort: Effort) -> Outcome<Found> {
    let many = effort.of(MANY);
    let server = Server::granary_with(&[], &["--memory-budget", "4GiB"])?;
    let cold = Call::add("counter", "cold-");
    load::touch(server.address(), &cold, FEW - HOT)?;
    let before = many_keys(effort, &server, "counter", 64, HOT)?;
    let started = Instant::now();
    load::touch(server.address(), &cold, many - HOT)?;
    let created = started.elapsed();
    let settled = settle(&server)?;
    let after = many_keys(effort, &server, "counter", 64, HOT)?;
    let ratio = after.ratio / before.ratio;
    let row = Row {
        case: format!("growth of grains: {HOT} hot keys of {}", thousands(many as f64)),
        ours: format!("{} = {}", after.ours.text(), after.percent()),
        against: format!(
            "{} = {} of {}",
            before.ours.text(),
            before.percent(),
            thousands(FEW as f64)
        ),
        ratio: format!("{:.0} %", ratio * 100.0),
        bar: format!(">= {:.0} %", BAR * 100.0),
        holds: Some(ratio >= BAR),
    };
    let usage = Usage::of(server.pid())?;
    let note = format!(
        "growth of grains: {} grains made in {:.0} s ({}/s), all in the snapshot store {:.0} s later; with a budget of 4 GiB {} are in memory, {:.0} MiB are private memory, most of it \
         the snapshot store's, {:.0} MiB grains' memories; {:.0} MiB on the disk",
        thousands(many as f64),
        created.as_secs_f64(),
        thousands(many as f64 / created.as_secs_f64()),
        settled.as_secs_f64(),
        thousands(server.metric("granary_slots_taken")?),
        usage.private as f64 / 1024.0,
        server.metric("granary_memory_grain_bytes")? / (1 << 20) as f64,
        server.metric("granary_snapshot_bytes")? / (1 << 20) as f64,
    );
    Ok(Found {
        rows: vec![row],
        notes: vec![note],
    })
}

/// Waits until the checkpointer has done what making so many grains left to do, and says how long that took. It leaves what
/// the log has room for: done is when nothing changes any more.
fn settle(server: &Server) -> Outcome<Duration> {
    const PATIENCE: Duration = Duration::from_secs(180);
    const STILL: Duration = Duration::from_secs(2);
    let started = Instant::now();
    let mut changed = started;
    let mut dirty = server.metric("granary_dirty_grains")?;
    while changed.elapsed() < STILL && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
        let now = server.metric("granary_dirty_grains")?;
        if now != dirty {
            (dirty, changed) = (now, Instant::now());
        }
    }
    Ok(changed - started)
}
