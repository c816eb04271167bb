//! W4: what a resident grain costs, and whether very many of them slow anything down.

use super::compared::Compared;
use super::throughput::timed;
use super::{Effort, Found};
use crate::Outcome;
use crate::footprint::Usage;
use crate::host::Server;
use crate::load::{self, Call};
use crate::table::{Row, thousands};

const FEW: usize = 2000;
const MANY: usize = 100_000;
const BAR_KIB: f64 = 64.0;
/// More than with few grains: nothing that a grain has is a mapping of its own.
const MORE_MAPPINGS: u64 = 16;
/// Of the rate on few keys.
const BAR_RATE: f64 = 0.85;

pub(super) fn measure(effort: Effort) -> Outcome<Found> {
    let many = effort.of(MANY);
    let most = (MANY + FEW).to_string();
    let server = Server::granary_with(&[], &["--idle-timeout", "1h", "--max-resident", &most])?;
    let call = Call::add("counter", "key-");
    // The module's own memory and the first connections aren't a grain's.
    load::touch(server.address(), &call, 1)?;
    let empty = Usage::of(server.pid())?;
    load::touch(server.address(), &call, FEW)?;
    let few = Usage::of(server.pid())?;
    load::touch(server.address(), &call, many)?;
    let all = Usage::of(server.pid())?;
    let resident = server.metric("granary_slots_taken")? as usize;
    if resident < many {
        return Err(format!(
            "only {resident} of {many} grains are in memory: the machine has too little for this case"
        )
        .into());
    }
    let run = |keys| load::run(&timed(effort, &server, &call, 64, keys));
    let compared = Compared::measure(effort, || run(many), || run(1000))?;
    let each = all.each(&empty, many);
    let more = all.mappings.saturating_sub(few.mappings);
    let name = thousands(many as f64);
    let rows = vec![
        Row {
            case: format!("W4 {name} resident counter grains, memory each"),
            ours: format!("{each:.1} KiB"),
            against: format!("{:.1} KiB at {}", few.each(&empty, FEW), thousands(FEW as f64)),
            bar: format!("<= {BAR_KIB:.0} KiB"),
            holds: Some(each <= BAR_KIB),
            ..Row::default()
        },
        Row {
            case: format!("W4 {name} resident, kernel mappings"),
            ours: all.mappings.to_string(),
            against: format!("{} at {}", few.mappings, thousands(FEW as f64)),
            bar: format!("<= {MORE_MAPPINGS} more"),
            holds: Some(more <= MORE_MAPPINGS),
            ..Row::default()
        },
        Row {
            case: format!("W4 calls to {name} resident grains"),
            ours: compared.ours.text(),
            against: format!("{} on 1,000", compared.other.text()),
            ratio: compared.percent(),
            bar: format!(">= {:.0} %", BAR_RATE * 100.0),
            holds: Some(compared.ratio >= BAR_RATE),
        },
    ];
    let part = |of: fn(&Usage) -> u64| of(&all).saturating_sub(of(&empty)) as f64 / many as f64;
    let note = format!(
        "W4: of that {:.1} KiB are private memory, {:.1} page tables, {:.1} pages of the memory file that aren't mapped, which \
         PSS leaves out (PSS and page tables alone: {:.1} KiB)",
        part(|usage| usage.private),
        part(|usage| usage.tables),
        part(|usage| usage.unmapped),
        part(|usage| usage.pss + usage.tables),
    );
    Ok(Found {
        rows,
        notes: vec![note],
    })
}
