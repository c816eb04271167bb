//! Calls in a second by HTTP, with their latencies, and what they leave in the log.

use std::time::Duration;

use crate::Outcome;
use crate::host::Server;
use crate::load::{self, Load, Measured};

/// Connections of the loaded rows, as in the comparisons with other systems.
const CONNECTIONS: usize = 64;

pub(crate) fn measure(is_quick: bool) -> Outcome<()> {
    let seconds = if is_quick { 0.5 } else { 5.0 };
    println!(
        "durable calls by HTTP, {CONNECTIONS} connections unless it says otherwise; reference: a map behind axum\n"
    );
    println!(
        "| workload | calls/s | p50 ms | p99 ms | of the reference | bytes in the log for each call | replies for each sync |"
    );
    println!("|---|---|---|---|---|---|---|");
    let granary = Server::granary(&[])?;
    let reference = Server::reference()?;
    for (name, keys, connections, is_write) in [
        ("add, one key", 1, CONNECTIONS, true),
        ("add, 1,000 keys", 1000, CONNECTIONS, true),
        ("add, one key, one connection", 1, 1, true),
        ("get, 1,000 keys", 1000, CONNECTIONS, false),
    ] {
        let load = |server: &Server| Load {
            address: server.address(),
            connections,
            keys,
            is_write,
            warm_up: Duration::from_secs_f64(seconds / 5.0),
            time: Duration::from_secs_f64(seconds),
        };
        let limit = load::run(&load(&reference))?;
        let log = Log::of(&granary)?;
        let measured = load::run(&load(&granary))?;
        row(name, &measured, &limit, &log.until(&Log::of(&granary)?));
    }
    println!();
    Ok(())
}

fn row(name: &str, measured: &Measured, limit: &Measured, log: &Log) {
    let each = |sum: f64, count: f64| {
        if count > 0.0 {
            format!("{:.0}", sum / count)
        } else {
            "-".into()
        }
    };
    println!(
        "| {name} | {:.0} | {:.2} | {:.2} | 1/{:.1} of {:.0} | {} | {} |",
        measured.rate(),
        measured.quantile_ms(0.5),
        measured.quantile_ms(0.99),
        limit.rate() / measured.rate(),
        limit.rate(),
        each(log.bytes, log.commits),
        each(log.commits, log.syncs),
    );
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
