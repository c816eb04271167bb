//! Nothing acknowledged is lost: many clients add to many keys, the host is killed without warning, again and again.
//!
//! For each key, what is there after a restart lies between what was acknowledged and what was sent. A kill counts only
//! when it hit: enough calls were acknowledged since the last one, and enough were in flight at that moment.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; what it prints is shown then"
)]

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use granary_tests::ledger::Ledger;
use granary_tests::seed::{self, Random};
use granary_tests::{Client, Host, Request, wait};

const CLIENTS: usize = 64;
const KEYS: u64 = 500;
const ROUNDS: usize = 20;
/// Acknowledged since the last kill, at least.
const ACKNOWLEDGED_FIRST: u64 = 1_000;
/// In flight at the moment of the kill, at least.
const IN_FLIGHT: i64 = 32;
/// The kill comes at a random moment within this time after enough calls are acknowledged.
const JITTER_US: u64 = 200_000;

#[test]
fn nothing_acknowledged_is_lost_with_userfaultfd() {
    survive_kills("userfaultfd", "counter", None, ROUNDS).unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_with_comparing() {
    survive_kills("compare", "counter", None, ROUNDS).unwrap();
}

#[test]
fn the_kernel_finds_changed_pages_wherever_it_can() {
    let host = Host::start();
    let chosen = host.view()["dirty_tracking"].clone();
    if kernel() >= (6, 7) {
        assert_eq!(chosen, "userfaultfd", "the fallback was chosen unasked");
    } else {
        assert_eq!(chosen, "compare");
    }
}

/// A bad record in the middle is no torn tail: to cut there would lose what was acknowledged behind it.
#[test]
fn damage_in_the_middle_of_the_log_is_not_passed_over() {
    let mut host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    for n in 1..=50 {
        assert_eq!(client.call("counter/a/add", "[1]").integer(), n);
    }
    host.kill();
    let segment = host.data().join("log/00000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 0x10;
    std::fs::write(&segment, &bytes).unwrap();
    let said = host.try_start().expect_err("it must not serve");
    assert!(said.contains("damaged") && said.contains("00000000.seg"), "{said}");

    bytes[used / 2] ^= 0x10;
    std::fs::write(&segment, &bytes).unwrap();
    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/counter/a/get").integer(), 50);
}

/// What the tests above say of hosts that lose acknowledged calls: one that doesn't read its log, and one whose grains
/// live in memory only.
#[test]
fn a_loss_is_noticed() {
    for (guest, fault) in [("counter", Some("no-replay")), ("probe-volatile", None)] {
        let said = survive_kills("compare", guest, fault, 2).expect_err("nothing was lost?");
        assert!(said.contains("were acknowledged"), "{said}");
    }
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn survive_kills(dirty_tracking: &str, guest: &str, fault: Option<&'static str>, rounds: usize) -> Result<(), String> {
    let mut random = Random::new(seed::of_this_run());
    let mut host = Host::prepared(&["--dirty-tracking", dirty_tracking]).sabotaged(fault);
    host.start_again();
    assert_eq!(host.view()["dirty_tracking"], dirty_tracking);
    host.deploy(guest);
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        let known = round_of_adds(&mut host, guest, &mut random);
        assert!(
            known.acknowledged_calls >= ACKNOWLEDGED_FIRST,
            "{} acknowledged",
            known.acknowledged_calls
        );
        ledger.merge(known);
        host.start_again();
        assert_eq!(host.view()["dirty_tracking"], dirty_tracking);
        check_all(&host, guest, &mut ledger).map_err(|error| format!("round {round}: {error}"))?;
    }
    println!(
        "{} calls acknowledged, {} unanswered",
        ledger.acknowledged_calls, ledger.unknown_calls
    );
    Ok(())
}

/// Adds with all clients until the kill; returns what they know.
fn round_of_adds(host: &mut Host, guest: &str, random: &mut Random) -> Ledger {
    let acknowledged = AtomicU64::new(0);
    let in_flight = AtomicI64::new(0);
    let is_over = AtomicBool::new(false);
    let address = host.address();
    let mut ledger = Ledger::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let random = random.fork();
                let (acknowledged, in_flight, is_over) = (&acknowledged, &in_flight, &is_over);
                scope.spawn(move || {
                    add_until_over(Client::new(address), guest, random, acknowledged, in_flight, is_over)
                })
            })
            .collect();
        wait::until("enough calls are acknowledged", || {
            (acknowledged.load(Ordering::SeqCst) >= ACKNOWLEDGED_FIRST).then_some(())
        });
        std::thread::sleep(Duration::from_micros(random.below(JITTER_US)));
        let at_the_kill = wait::until("enough calls are in flight", || {
            let flying = in_flight.load(Ordering::SeqCst);
            (flying >= IN_FLIGHT).then_some(flying)
        });
        host.kill();
        assert!(at_the_kill >= IN_FLIGHT, "{at_the_kill} in flight");
        is_over.store(true, Ordering::SeqCst);
        for client in clients {
            ledger.merge(client.join().unwrap());
        }
    });
    ledger
}

fn add_until_over(
    mut client: Client,
    guest: &str,
    mut random: Random,
    acknowledged: &AtomicU64,
    in_flight: &AtomicI64,
    is_over: &AtomicBool,
) -> Ledger {
    let mut ledger = Ledger::default();
    while !is_over.load(Ordering::SeqCst) {
        let key = format!("key-{}", random.below(KEYS));
        let n = 1 + random.below(9) as i64;
        let request = Request::new("POST", format!("/v1/grains/{guest}/{key}/add")).body(format!("{{\"n\": {n}}}"));
        in_flight.fetch_add(1, Ordering::SeqCst);
        let reply = client.try_send(&request);
        in_flight.fetch_sub(1, Ordering::SeqCst);
        match reply {
            Ok(reply) => {
                reply.expect(200);
                ledger.acknowledge(&key, n);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            // Refused connections come after the kill: that add was never sent.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => break,
            Err(_) => {
                ledger.leave_open(&key, n);
                break;
            }
        }
    }
    ledger
}

fn check_all(host: &Host, guest: &str, ledger: &mut Ledger) -> Result<(), String> {
    let mut client = host.client();
    let keys: Vec<String> = ledger.keys().map(str::to_owned).collect();
    for key in keys {
        let value = client.fetch(&format!("/v1/grains/{guest}/{key}/get")).integer();
        ledger.settle(&key, value)?;
    }
    Ok(())
}
