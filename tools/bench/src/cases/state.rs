//! Growth of state: do adds slow down when the same grains hold much?

use std::borrow::Cow;

use super::compared::Compared;
use super::throughput::timed;
use super::{Effort, Found};
use crate::Outcome;
use crate::host::Server;
use crate::load::{self, Call};
use crate::table::Row;

const GRAINS: usize = 32;
const BAR: f64 = 0.5;

pub(super) fn measure(effort: Effort) -> Outcome<Found> {
    let server = Server::granary(&["probe"])?;
    let fill = |prefix: &str, body: fn(usize, usize) -> Cow<'static, str>| {
        let call = Call {
            method: "fill",
            body,
            ..Call::add("probe", prefix)
        };
        load::touch(server.address(), &call, GRAINS)
    };
    fill("small-", |_, _| "[65536,7]".into())?;
    fill("large-", |_, _| "[16777216,7]".into())?;
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
