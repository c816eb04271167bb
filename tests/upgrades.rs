//! Grains move to a new revision while they are called and while the host is killed; those that can't move stay and
//! serve; a rollback brings every state back.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; what it prints is shown then"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use granary_tests::ledger::Ledger;
use granary_tests::seed::{self, Random};
use granary_tests::{Client, Host, Request, built, soak, wait};
use serde_json::Value;

/// One key in a hundred fails to move in each of these ways; the guest reads it from the key.
const FAILURES: [&str; 5] = ["trap", "error", "loop", "check", "memory"];
/// The host is killed when this many in a hundred have moved.
const KILLS_AT: [u64; 5] = [15, 30, 45, 60, 75];
const CLIENTS: usize = 8;
/// A guest that loops is stopped soon, so that a hundred of them don't take all day.
const FLAGS: &[&str] = &["--turn-limit", "50ms", "--memory-limit", "4MiB"];

/// A multiple of a hundred.
fn grains() -> u64 {
    soak::or(2_000, 10_000)
}

fn failing() -> u64 {
    grains() / 100 * FAILURES.len() as u64
}

#[test]
fn thousands_of_grains_move_under_load_and_kills_and_come_back() {
    let mut random = Random::new(seed::of_this_run());
    let mut host = Host::start_with(FLAGS);
    deploy(&host, "shape-1", 201);
    let mut ledger = fill(&host);
    let before = unwritten(&host);
    deploy(&host, "shape-2", 201);

    for percent in KILLS_AT {
        ledger.merge(under_load(&mut host, &mut random, |host| {
            let mut client = host.client();
            sweep(&mut client, 202);
            let moved = wait::until("enough grains have moved", || {
                let moved = number(&client.fetch("/v1/modules/shape/upgrade").value(), "moved");
                (moved >= grains() * percent / 100).then_some(moved)
            });
            host.kill();
            assert!(moved < grains() - failing(), "the kill came too late: all had moved");
        }));
        host.start_again();
        check_values(&host, &mut ledger);
    }
    ledger.merge(under_load(&mut host, &mut random, |host| {
        let end = finish_sweep(host);
        assert_eq!(number(&end, "failed"), failing(), "{end}");
        assert_eq!(number(&end, "moved"), grains() - failing(), "{end}");
        assert_eq!(number(&end, "left"), 0, "{end}");
        assert_eq!(
            end["failures"].as_array().unwrap().len(),
            100,
            "the first hundred are listed: {end}"
        );
    }));
    check_values(&host, &mut ledger);
    check_revisions(&host);

    come_back(&host, &mut ledger, &before);
}

/// Rolls back: the grains that nobody wrote to have the very memory from before their move.
fn come_back(host: &Host, ledger: &mut Ledger, before: &[(String, Value)]) {
    let mut client = host.client();
    for (key, first) in before {
        assert_ne!(
            digest(&mut client, key),
            *first,
            "{key} has another module's memory now"
        );
    }
    let current = client.send(&Request::new("POST", "/v1/modules/shape/rollback")).value();
    assert_eq!(number(&current, "revision"), 1, "{current}");
    let end = finish_sweep(host);
    assert_eq!((number(&end, "failed"), number(&end, "moved")), (0, grains()), "{end}");
    for (key, first) in before {
        assert_eq!(digest(&mut client, key), *first, "{key} came back as something else");
    }
    check_values(host, ledger);
    for n in 0..grains() {
        let status = client.fetch(&format!("/v1/grains/shape/{}", key(n))).value();
        assert_eq!(number(&status, "revision"), 1, "{}: {status}", key(n));
    }
}

/// The keys that nobody writes to while grains move, with what their state is now.
fn unwritten(host: &Host) -> Vec<(String, Value)> {
    let mut client = host.client();
    let keys = (0..grains())
        .filter(|n| !is_written(*n) && failure(*n).is_none())
        .map(key);
    keys.map(|key| {
        let digest = digest(&mut client, &key);
        assert!(digest.is_string(), "{key} has no digest: {digest}");
        (key, digest)
    })
    .collect()
}

/// Adds to every key once, so that it has a state.
fn fill(host: &Host) -> Ledger {
    let address = host.address();
    let mut ledger = Ledger::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS as u64)
            .map(|first| {
                scope.spawn(move || {
                    let mut client = Client::new(address);
                    let mut ledger = Ledger::default();
                    for n in (first..grains()).step_by(CLIENTS) {
                        let key = key(n);
                        let value = first_value(n);
                        client
                            .call(&format!("shape/{key}/add"), &format!("[{value}]"))
                            .expect(200);
                        ledger.acknowledge(&key, value);
                    }
                    ledger
                })
            })
            .collect();
        for client in clients {
            ledger.merge(client.join().unwrap());
        }
    });
    ledger
}

/// Does something while clients add to the keys that are written to.
fn under_load(host: &mut Host, random: &mut Random, work: impl FnOnce(&mut Host)) -> Ledger {
    let is_over = AtomicBool::new(false);
    let address = host.address();
    let mut ledger = Ledger::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (random, is_over) = (random.fork(), &is_over);
                scope.spawn(move || add_until_over(Client::new(address), random, is_over))
            })
            .collect();
        work(host);
        is_over.store(true, Ordering::SeqCst);
        for client in clients {
            ledger.merge(client.join().unwrap());
        }
    });
    ledger
}

/// No call may fail while grains move: only the kill ends a client early.
fn add_until_over(mut client: Client, mut random: Random, is_over: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::default();
    while !is_over.load(Ordering::SeqCst) {
        let key = key(random.below(grains() / 2) * 2);
        let request = Request::new("POST", format!("/v1/grains/shape/{key}/add")).body("[1]");
        match client.try_send(&request) {
            Ok(reply) => {
                reply.expect(200);
                ledger.acknowledge(&key, 1);
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => break,
            Err(_) => {
                ledger.leave_open(&key, 1);
                break;
            }
        }
    }
    ledger
}

fn check_values(host: &Host, ledger: &mut Ledger) {
    let mut client = host.client();
    let keys: Vec<String> = ledger.keys().map(str::to_owned).collect();
    assert_eq!(keys.len() as u64, grains());
    for key in keys {
        let value = client.fetch(&format!("/v1/grains/shape/{key}/get")).integer();
        ledger.settle(&key, value).unwrap();
    }
}

/// Those that fail are on the first revision and say why, all others on the second.
fn check_revisions(host: &Host) {
    let mut client = host.client();
    for n in 0..grains() {
        let status = client.fetch(&format!("/v1/grains/shape/{}", key(n))).value();
        let has_failed = !status["upgrade_failure"].is_null();
        let expected = if failure(n).is_some() { (1, true) } else { (2, false) };
        assert_eq!(
            (number(&status, "revision"), has_failed),
            expected,
            "{}: {status}",
            key(n)
        );
    }
}

fn deploy(host: &Host, guest: &str, status: u16) {
    host.client()
        .deploy("shape", &built::module_bytes(guest))
        .expect(status);
}

fn sweep(client: &mut Client, status: u16) {
    client
        .send(&Request::new("POST", "/v1/modules/shape/upgrade"))
        .expect(status);
}

fn finish_sweep(host: &Host) -> Value {
    let mut client = host.client();
    sweep(&mut client, 202);
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        let status = client.fetch("/v1/modules/shape/upgrade").value();
        if status["running"] == false {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "the sweep does not end: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn digest(client: &mut Client, key: &str) -> Value {
    client.fetch(&format!("/v1/grains/shape/{key}?digest=true")).value()["digest"].clone()
}

fn number(document: &Value, field: &str) -> u64 {
    document[field]
        .as_u64()
        .unwrap_or_else(|| panic!("`{field}` is no number in {document}"))
}

fn failure(n: u64) -> Option<&'static str> {
    FAILURES.get((n % 100) as usize).copied()
}

fn key(n: u64) -> String {
    match failure(n) {
        Some(kind) => format!("{n:05}-{kind}"),
        None => format!("{n:05}"),
    }
}

/// Clients add to every second key only.
fn is_written(n: u64) -> bool {
    n.is_multiple_of(2)
}

fn first_value(n: u64) -> i64 {
    1 + (n % 7) as i64
}
