//! What a host does under more and more calls: throughput and latencies over the load that's offered, as a table and a picture.
//!
//! The host has one processor and the generator the other, or the generator would be what is overloaded.

mod picture;

use std::path::PathBuf;
use std::time::Duration;

use crate::Outcome;
use crate::host::{Server, bind};
use crate::load::{self, Call, Load, Until};
use crate::open::{self, Offer};

const KEYS: usize = 1_000;
/// What the host can do is what it does for so many connections that wait for their replies.
const WAITING: usize = 32;
/// For calls that don't wait.
const CONNECTIONS: usize = 500;
/// Of what the host does when calls wait for replies, in percent.
const OFFERED: &[u32] = &[10, 25, 50, 75, 90, 100, 110, 125, 150, 200];

/// What the host did at one load.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// Calls in a second, each.
    offered: f64,
    accepted: f64,
    refused: f64,
    /// Milliseconds.
    accepted_p50: f64,
    accepted_p99: f64,
    refused_p99: f64,
}

/// Prints the table and draws the picture into the documents.
pub(crate) fn measure(is_quick: bool) -> Outcome<()> {
    let host = Server::on_first_processor()?;
    bind(std::process::id(), 1)?;
    let time = Duration::from_secs(if is_quick { 1 } else { 10 });
    let call = Call::add("counter", "key-");
    load::touch(host.address(), &call, KEYS)?;
    let most = load::run(&Load {
        to: host.address(),
        call: call.clone(),
        connections: WAITING,
        keys: KEYS,
        until: Until::Passed {
            warm_up: time / 5,
            time,
        },
    })?;
    println!(
        "one processor for the host, one for the generator; {WAITING} connections that wait for their replies get {:.0}/s, p50 {:.2}, p99 {:.2} ms\n",
        most.rate(),
        most.quantile_ms(0.5),
        most.quantile_ms(0.99)
    );
    println!("| offered | calls/s | accepted/s | refused/s | accepted p50 ms | accepted p99 ms | refused p99 ms |");
    println!("|---|---|---|---|---|---|---|");
    let mut points = Vec::new();
    for percent in OFFERED {
        let rate = most.rate() * f64::from(*percent) / 100.0;
        let answered = open::run(&Offer {
            to: host.address(),
            call: call.clone(),
            keys: KEYS,
            rate,
            connections: CONNECTIONS,
            warm_up: Duration::from_secs(1),
            time,
        })?;
        let point = Point {
            offered: rate,
            accepted: answered.accepted(),
            refused: answered.refused(),
            accepted_p50: answered.accepted_ms(0.5),
            accepted_p99: answered.accepted_ms(0.99),
            refused_p99: answered.refused_ms(0.99),
        };
        println!(
            "| {percent} % | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} |",
            point.offered, point.accepted, point.refused, point.accepted_p50, point.accepted_p99, point.refused_p99
        );
        points.push(point);
    }
    if !is_quick {
        let file = PathBuf::from("docs/load.svg");
        std::fs::write(&file, picture::draw(&points)).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
