//! Calls in a second: many keys, one hot key, fresh keys, and the latency of a single connection.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

use super::compared::Compared;
use super::{Effort, Found};
use crate::Outcome;
use crate::host::Server;
use crate::load::{self, Call, Load, Until};
use crate::table::{Row, median};

/// W1: 1,000 keys, 64 connections, every reply after its sync.
pub(crate) fn committed(effort: Effort) -> Outcome<Found> {
    let ours = Server::granary(&[])?;
    let before = Log::of(&ours)?;
    let compared = many_keys(effort, &ours, "counter", 64, 1000)?;
    let log = before.until(&Log::of(&ours)?);
    let tail = compared.ours.p99_ms / compared.other.p99_ms;
    let row = Row {
        case: "W1 1,000 keys, 64 connections, committed".into(),
        ours: compared.ours.text(),
        against: compared.other.text(),
        ratio: format!("{}, p99 {tail:.1}x", compared.percent()),
        bar: ">= 50 %, p99 <= 3x".into(),
        holds: Some(compared.ratio >= 0.5 && tail <= 3.0),
    };
    let note = format!(
        "W1: {:.0} bytes in the log for each call, {:.1} replies for each sync; p99.9 {:.2} ms, the limit's {:.2} ms",
        log.bytes / log.commits,
        log.commits / log.syncs,
        compared.ours.p999_ms,
        compared.other.p999_ms,
    );
    Ok(Found {
        rows: vec![row],
        notes: vec![note],
    })
}

/// W1 without the disk.
pub(crate) fn volatile(effort: Effort) -> Outcome<Found> {
    let ours = Server::granary(&["probe-volatile"])?;
    let compared = many_keys(effort, &ours, "probe-volatile", 64, 1000)?;
    Ok(row("W1 1,000 keys, 64 connections, volatile", &compared, Some(0.70)))
}

/// W2: one hot key.
pub(crate) fn hot_key(effort: Effort) -> Outcome<Found> {
    let compared = many_keys(effort, &Server::granary(&[])?, "counter", 16, 1)?;
    Ok(row("W2 one hot key, 16 connections, committed", &compared, Some(0.35)))
}

/// W3: grains that nobody has called before.
pub(crate) fn first_touch(effort: Effort) -> Outcome<Found> {
    let (ours, limit) = (Server::granary(&[])?, Server::reference()?);
    let asked = Instant::now();
    load::touch(ours.address(), &Call::add("counter", "first-"), 1)?;
    let very_first = asked.elapsed();
    let keys = effort.of(10_000);
    let run = Cell::new(0);
    let touch = |server: &Server| {
        run.set(run.get() + 1);
        load::touch(
            server.address(),
            &Call::add("counter", &format!("run-{}-", run.get())),
            keys,
        )
    };
    let compared = Compared::measure(effort, || touch(&ours), || touch(&limit))?;
    let again = many_keys(effort, &ours, "counter", 64, 1000)?;
    let mut found = row(
        "W3 first touch of 10,000 keys, 64 connections, committed",
        &compared,
        Some(0.25),
    );
    found.notes.push(format!(
        "first touch apart, 64 connections: p50 {:.2} p99 {:.2} ms for a grain's first call, p50 {:.2} p99 {:.2} ms for later ones; \
         the host's very first call, connection included, {:.1} ms. Your average looks good; the first connection may spike.",
        compared.ours.p50_ms,
        compared.ours.p99_ms,
        again.ours.p50_ms,
        again.ours.p99_ms,
        very_first.as_secs_f64() * 1e3,
    ));
    Ok(found)
}

/// One call at a time: what a single client sees.
pub(crate) fn one_connection(effort: Effort) -> Outcome<Found> {
    let ours = Server::granary(&[])?;
    let compared = many_keys(effort, &ours, "counter", 1, 1000)?;
    let [p50, p99] = sync_ms(&ours)?;
    let row = Row {
        case: "one connection, 1,000 keys, committed".into(),
        ours: compared.ours.text(),
        against: compared.other.text(),
        ratio: format!("p50 {:.1}x", compared.ours.p50_ms / compared.other.p50_ms),
        ..Row::default()
    };
    let note = format!("one fdatasync of a 4 KiB overwrite on that disk: p50 {p50:.2} p99 {p99:.2} ms");
    Ok(Found {
        rows: vec![row],
        notes: vec![note],
    })
}

/// Adds on so many keys, in turns with the limit. Every key is there before.
pub(super) fn many_keys(
    effort: Effort,
    ours: &Server,
    grain_type: &'static str,
    connections: usize,
    keys: usize,
) -> Outcome<Compared> {
    let limit = Server::reference()?;
    let run = |server: &Server, grain_type| {
        load::run(&timed(
            effort,
            server,
            &Call::add(grain_type, "key-"),
            connections,
            keys,
        ))
    };
    load::touch(ours.address(), &Call::add(grain_type, "key-"), keys)?;
    load::touch(limit.address(), &Call::add("counter", "key-"), keys)?;
    Compared::measure(effort, || run(ours, grain_type), || run(&limit, "counter"))
}

/// A load for as long as a round's run lasts.
pub(super) fn timed(effort: Effort, server: &Server, call: &Call, connections: usize, keys: usize) -> Load {
    Load {
        to: server.address(),
        call: call.clone(),
        connections,
        keys,
        until: Until::Passed {
            warm_up: Duration::from_secs_f64(effort.seconds() / 5.0),
            time: Duration::from_secs_f64(effort.seconds()),
        },
    }
}

fn row(case: &str, compared: &Compared, bar: Option<f64>) -> Found {
    let row = Row {
        case: case.into(),
        ours: compared.ours.text(),
        against: compared.other.text(),
        ratio: compared.percent(),
        bar: bar.map(|bar| format!(">= {:.0} %", bar * 100.0)).unwrap_or_default(),
        holds: bar.map(|bar| compared.ratio >= bar),
    };
    Found {
        rows: vec![row],
        notes: Vec::new(),
    }
}

/// What a sync costs now, where the host's log is: median and 99th percentile.
fn sync_ms(server: &Server) -> Outcome<[f64; 2]> {
    use std::os::unix::fs::FileExt;
    const BLOCK: usize = 4096;
    let mut file = std::fs::File::create(server.folder().join("sync-probe"))?;
    file.write_all(&vec![1; 256 * BLOCK])?;
    file.sync_all()?;
    let mut times = Vec::new();
    for block in 0..256 {
        let started = Instant::now();
        file.write_all_at(&[2; BLOCK], (block * BLOCK) as u64)?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    let p99 = times[times.len() * 99 / 100];
    Ok([median(times), p99])
}

/// The log's counters.
#[derive(Debug)]
struct Log {
    bytes: f64,
    commits: f64,
    syncs: f64,
}

impl Log {
    fn of(server: &Server) -> Outcome<Log> {
        Ok(Log {
            bytes: server.metric("granary_log_append_bytes_total")?,
            commits: server.metric("granary_log_appends_total")?,
            syncs: server.metric("granary_log_groups_total")?,
        })
    }

    fn until(&self, later: &Log) -> Log {
        Log {
            bytes: later.bytes - self.bytes,
            commits: later.commits - self.commits,
            syncs: later.syncs - self.syncs,
        }
    }
}
