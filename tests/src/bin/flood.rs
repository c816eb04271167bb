//! Many calls at a time from a process of its own: `flood ADDRESS PATH BODY CALLS`.
//!
//! It opens a connection for each call, as far as its limit on open files goes, uses each once so that the host has
//! taken or refused it, says `ready`, and waits for a line. Then it sends all requests before it reads the first reply, and says
//! `sent` and their number; what goes beyond comes in further rounds on the same connections. Says in a line of JSON what it did.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails, and its report is read from stdout"
)]

use std::collections::BTreeMap;

use granary_tests::{Client, Request};
use serde_json::json;

/// Descriptors for everything that is no connection.
const KEPT: usize = 32;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, address, path, body, calls] = &words[..] else {
        panic!("flood ADDRESS PATH BODY CALLS");
    };
    let (address, calls) = (address.parse().unwrap(), calls.parse::<usize>().unwrap());
    let open_files = open_files();
    let count = calls.min(open_files - KEPT);
    let mut clients: Vec<Client> = (0..count).map(|_| Client::new(address)).collect();
    let probe = Request::new("GET", "/healthz");
    let refused = clients
        .iter_mut()
        .filter_map(|client| client.try_send(&probe).map(|reply| reply.status).ok())
        .filter(|status| *status != 200)
        .count();
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let request = Request::new("POST", format!("/v1/grains/{path}")).body(body.as_bytes());
    let (mut left, mut unsent, mut unknown) = (calls, 0, 0);
    let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
    while left > 0 {
        let round = left.min(count);
        // One that could not be written as a whole did nothing; the host reads whole requests only.
        let sent: Vec<bool> = clients[..round]
            .iter_mut()
            .map(|client| client.write(&request).is_ok())
            .collect();
        if left == calls {
            println!("sent {}", sent.iter().filter(|sent| **sent).count());
        }
        for (client, sent) in clients.iter_mut().zip(sent) {
            match client.read() {
                Ok(reply) => {
                    let code = match reply.status {
                        200 => "ok".to_owned(),
                        _ => reply.json()["code"].as_str().unwrap().to_owned(),
                    };
                    *statuses.entry(code).or_default() += 1;
                }
                Err(_) if sent => unknown += 1,
                Err(_) => unsent += 1,
            }
        }
        left -= round;
    }
    println!(
        "{}",
        json!({
            "open_files": open_files, "connections": count, "calls": calls, "codes": statuses,
            "refused_connections": refused, "unknown": unknown, "unsent": unsent,
        })
    );
}

/// How many files this process may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
