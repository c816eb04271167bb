//! Presence: heartbeats to sessions, each of which tells a player. `examples/presence-session` and `examples/presence-player`.

use super::throughput::timed;
use super::{Effort, Found};
use crate::Outcome;
use crate::host::Server;
use crate::load::{self, Call};
use crate::table::{Row, median, thousands};

const SESSIONS: usize = 1000;
const PLAYERS_EACH: usize = 8;
/// Heartbeats a second, on two cores that the generator shares.
const BAR: f64 = 10_000.0;

pub(super) fn measure(effort: Effort) -> Outcome<Found> {
    let server = Server::granary(&["presence-player", "presence-session"])?;
    let call = Call {
        grain_type: "presence-session",
        method: "heartbeat",
        prefix: "session-".into(),
        body: |session, number| {
            // One call in so many is for the same session: what it names has to vary with all of the number.
            let player = session * PLAYERS_EACH + number.wrapping_mul(0x9e37_79b9) / 1024 % PLAYERS_EACH;
            format!("[\"player-{player}\",{}]", number % 1000).into()
        },
    };
    // Every session, and most players, before the measurement.
    for _ in 0..PLAYERS_EACH {
        load::touch(server.address(), &call, SESSIONS)?;
    }
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds() {
        let first = load::run(&timed(effort, &server, &call, 64, SESSIONS))?;
        rounds.push(first.and(load::run(&timed(effort, &server, &call, 64, SESSIONS))?));
    }
    let rate = median(rounds.iter().map(|round| round.rate()).collect());
    let quantile = |share| median(rounds.iter().map(|round| round.quantile_ms(share)).collect());
    let row = Row {
        case: "Presence, heartbeats of two calls, relaxed".into(),
        ours: format!(
            "{}/s, p50 {:.2} p99 {:.2} ms",
            thousands(rate),
            quantile(0.5),
            quantile(0.99)
        ),
        against: format!("{}/s", thousands(BAR)),
        ratio: format!("{:.1}x", rate / BAR),
        bar: format!(">= {}/s", thousands(BAR)),
        holds: Some(rate >= BAR),
    };
    Ok(Found {
        rows: vec![row],
        notes: Vec::new(),
    })
}
