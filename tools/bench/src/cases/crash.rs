//! W5: kill -9 under load. Is everything there that was acknowledged, nothing that wasn't sent, and how soon is the first reply?

use std::time::{Duration, Instant};

use super::{Effort, Found};
use crate::Outcome;
use crate::connection::Connection;
use crate::host::Server;
use crate::load::{self, Call, Load, Measured, Until};
use crate::table::{Row, median, thousands};

const STORED: usize = 10_000;
const KEYS: usize = 1000;
const FIRST_REPLY_MS: f64 = 100.0;

pub(super) fn measure(effort: Effort) -> Outcome<Found> {
    let call = Call::add("counter", "key-");
    let (mut lost, mut invented, mut acked) = (0, 0, 0);
    let (mut ready_ms, mut first_ms) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds() {
        let mut server = Server::granary(&[])?;
        load::touch(server.address(), &call, effort.of(STORED))?;
        let under_load = killed_under_load(&mut server, &call, Duration::from_secs_f64(effort.seconds()))?;
        let started = Instant::now();
        server.start_again()?;
        ready_ms.push(started.elapsed().as_secs_f64() * 1e3);
        value(&server, 0)?;
        first_ms.push(started.elapsed().as_secs_f64() * 1e3);
        for key in 0..KEYS {
            // Each key was touched once before.
            let (value, least) = (value(&server, key)?, u64::from(under_load.acked[key]) + 1);
            lost += least.saturating_sub(value);
            invented += value.saturating_sub(u64::from(under_load.sent[key]) + 1);
            acked += least;
        }
    }
    let first = median(first_ms);
    let row = Row {
        case: format!(
            "W5 kill -9 under load, {} grains stored",
            thousands(effort.of(STORED) as f64)
        ),
        ours: format!("{lost} lost of {}, first reply {first:.0} ms", thousands(acked as f64)),
        bar: format!("0 lost, <= {FIRST_REPLY_MS:.0} ms"),
        holds: Some(lost == 0 && invented == 0 && first <= FIRST_REPLY_MS),
        ..Row::default()
    };
    let note = format!(
        "W5: from exec to `ready` {:.0} ms; {invented} adds that nobody sent",
        median(ready_ms)
    );
    Ok(Found {
        rows: vec![row],
        notes: vec![note],
    })
}

fn killed_under_load(server: &mut Server, call: &Call, after: Duration) -> Outcome<Measured> {
    let load = Load {
        to: server.address(),
        call: call.clone(),
        connections: 64,
        keys: KEYS,
        until: Until::Killed,
    };
    std::thread::scope(|scope| {
        let measured = scope.spawn(move || load::run(&load).map_err(|error| error.to_string()));
        std::thread::sleep(after);
        server.kill()?;
        Ok(measured.join().map_err(|_| "the generator panicked")??)
    })
}

/// What a counter says, over a connection of its own.
fn value(server: &Server, key: usize) -> Outcome<u64> {
    let request = format!(
        "GET /v1/grains/counter/key-{key}/get HTTP/1.1\r\nhost: {}\r\n\r\n",
        server.address()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(server.address()).await?;
        let body = connection.call(request.as_bytes()).await?;
        Ok(std::str::from_utf8(body)?.trim().parse()?)
    })
}
