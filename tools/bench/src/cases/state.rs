//! Growth of state: do adds slow down when the same grains hold much?

use std::time::{Duration, Instant};

use super::compared::Compared;
use super::throughput::timed;
use super::{Effort, Found};
use crate::Outcome;
use crate::host::Server;
use crate::load::{self, Call};
use crate::table::Row;

const GRAINS: usize = 16;
const BAR: f64 = 0.5;

pub(super) fn measure(effort: Effort) -> Outcome<Found> {
    let server = Server::granary(&["probe"])?;
    fill(&server, "small-", 64 << 10)?;
    fill(&server, "large-", 16 << 20)?;
    let run = |prefix: &str| load::run(&timed(effort, &server, &Call::add("probe", prefix), 64, GRAINS));
    let compared = Compared::measure(effort, || run("large-"), || run("small-"))?;
    let row = Row {
        case: format!("growth of state: adds on {GRAINS} grains of 16 MiB"),
        ours: compared.ours.text(),
        against: format!("{} at 64 KiB", compared.other.text()),
        ratio: compared.percent(),
        bar: format!(">= {:.0} %", BAR * 100.0),
        holds: Some(compared.ratio >= BAR),
    };
    Ok(Found {
        rows: vec![row],
        notes: Vec::new(),
    })
}

/// Gives each grain so many bytes. The log takes a few such commits at a time: the others wait for a checkpoint.
fn fill(server: &Server, prefix: &str, bytes: usize) -> Outcome<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    for key in 0..GRAINS {
        let started = Instant::now();
        let path = format!("/v1/grains/probe/{prefix}{key}/fill");
        while let Err(refusal) = server.request("POST", &path, format!("[{bytes},7]").as_bytes()) {
            if started.elapsed() > PATIENCE || !refusal.to_string().contains("overloaded") {
                return Err(refusal);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
