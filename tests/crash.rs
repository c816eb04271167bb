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

use granary_tests::flip::Flip;
use granary_tests::ledger::Ledger;
use granary_tests::seed::{self, Random};
use granary_tests::{Client, Host, Request, built, soak, wait};

const CLIENTS: usize = 64;
/// Kills of one trial.
fn rounds() -> usize {
    soak::or(6, 20)
}

/// Acknowledged since the last kill, at least.
const ACKNOWLEDGED_FIRST: u64 = 1_000;
/// In flight at the moment of the kill, at least.
const IN_FLIGHT: i64 = 32;
/// The kill comes at a random moment within this time after enough calls are acknowledged.
const JITTER_US: u64 = 200_000;
/// Room for a part of the keys' grains only.
const STORM_BUDGET: &str = "64MiB";

/// Steps of [`storm`] that were answered.
static STORMS: AtomicU64 = AtomicU64::new(0);
/// Grains that have left for want of memory since the last start, as of a moment ago.
static SQUEEZED: AtomicU64 = AtomicU64::new(0);
/// As often a revision changes between two kills at least.
const STORMS_FIRST: u64 = 3;

#[test]
fn nothing_acknowledged_is_lost_with_userfaultfd() {
    let flags = &["--dirty-tracking", "userfaultfd"];
    let host = survive_kills(&Trial { flags, ..counters() }).unwrap();
    assert_eq!(host.view()["dirty_tracking"], "userfaultfd");
}

#[test]
fn nothing_acknowledged_is_lost_with_comparing() {
    let flags = &["--dirty-tracking", "compare"];
    let host = survive_kills(&Trial { flags, ..counters() }).unwrap();
    assert_eq!(host.view()["dirty_tracking"], "compare");
}

/// All at once: grains move between revisions and back, leave memory after a moment, and have to make room for others.
#[test]
fn nothing_acknowledged_is_lost_among_upgrades_evictions_and_pressure() {
    let storm = Trial {
        flags: &["--idle-timeout", "300ms", "--memory-budget", STORM_BUDGET],
        rounds: rounds() / 2,
        keys: 4 * KEYS,
        may_refuse: true,
        kind: "shape",
        module: "shape-1",
        prepare: |host| {
            // Both are compiled before the first kill.
            deploy_shape(&mut host.client(), "shape-2").unwrap();
        },
        meanwhile: storm,
        until: || STORMS.load(Ordering::SeqCst) >= STORMS_FIRST && SQUEEZED.load(Ordering::SeqCst) > 0,
        ..counters()
    };
    let host = survive_kills(&storm).unwrap();
    let revisions = host.client().fetch("/v1/modules/shape").value()["revisions"].clone();
    assert!(revisions.as_array().unwrap().len() > rounds() / 2, "{revisions}");
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
    let segment = host.fullest_segment();
    let flip = Flip::make(segment.clone());
    let said = host.try_start().expect_err("it must not serve");
    assert!(
        said.contains("damaged") && said.contains(segment.file_name().unwrap().to_str().unwrap()),
        "{said}"
    );

    flip.undo();
    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/counter/a/get").integer(), 50);
}

/// What the tests above say of hosts that lose acknowledged calls: one that doesn't read its log, and one whose grains
/// live in memory only.
#[test]
fn a_loss_is_noticed() {
    let forgetful = Trial {
        fault: Some("no-replay"),
        rounds: 2,
        ..counters()
    };
    let volatile = Trial {
        kind: "probe-volatile",
        module: "probe-volatile",
        rounds: 2,
        ..counters()
    };
    for trial in [forgetful, volatile] {
        let said = survive_kills(&trial).expect_err("nothing was lost?");
        assert!(said.contains("were acknowledged"), "{said}");
    }
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What is put to the test.
#[derive(Clone, Copy)]
struct Trial {
    flags: &'static [&'static str],
    kind: &'static str,
    module: &'static str,
    /// A host with a fault, see tests/sabotaged.
    fault: Option<&'static str>,
    rounds: usize,
    keys: u64,
    /// Whether an add may be refused for want of memory; it wasn't begun then.
    may_refuse: bool,
    /// What happens before the first add.
    prepare: fn(&Host),
    /// What happens besides the adds, until it's over.
    meanwhile: fn(Client, &AtomicBool),
    /// Whether enough of that has happened for the next kill.
    until: fn() -> bool,
}

/// Keys of the usual trial.
const KEYS: u64 = 500;

fn counters() -> Trial {
    Trial {
        flags: &[],
        kind: "counter",
        module: "counter",
        fault: None,
        rounds: rounds(),
        keys: KEYS,
        may_refuse: false,
        prepare: |_| {},
        meanwhile: |_, _| {},
        until: || true,
    }
}

/// Deploys, moves all, rolls back, moves all. The host may be gone at any moment.
fn storm(mut client: Client, is_over: &AtomicBool) {
    let sweep = |client: &mut Client| client.try_send(&Request::new("POST", "/v1/modules/shape/upgrade"));
    while !is_over.load(Ordering::SeqCst) {
        for module in ["shape-1", "shape-2"] {
            let answered = deploy_shape(&mut client, module).and_then(|()| sweep(&mut client));
            if answered.is_err() {
                return;
            }
            STORMS.fetch_add(1, Ordering::SeqCst);
        }
        let back = client.try_send(&Request::new("POST", "/v1/modules/shape/rollback"));
        if back.and_then(|_| sweep(&mut client)).is_err() {
            return;
        }
        let Ok(metrics) = client.try_send(&Request::new("GET", "/metrics")) else {
            return;
        };
        let squeezed = metrics.text().lines().find_map(|line| {
            let count = line.strip_prefix("granary_evictions_total{reason=\"budget\"} ")?;
            count.parse::<u64>().ok()
        });
        SQUEEZED.store(squeezed.unwrap_or(0), Ordering::SeqCst);
    }
}

/// The way back is a breaking change, too: the first shape has a method less.
fn deploy_shape(client: &mut Client, module: &str) -> std::io::Result<()> {
    let deploy = Request::new("PUT", "/v1/modules/shape?allow_breaking=true").body(built::module_bytes(module));
    let reply = client.try_send(&deploy)?;
    assert!([200, 201].contains(&reply.status), "{}", reply.text());
    Ok(())
}

fn survive_kills(trial: &Trial) -> Result<Host, String> {
    let mut random = Random::new(seed::of_this_run());
    let mut host = Host::prepared(trial.flags).sabotaged(trial.fault);
    host.start_again();
    host.client()
        .deploy(trial.kind, &built::module_bytes(trial.module))
        .expect(201);
    (trial.prepare)(&host);
    let mut ledger = Ledger::default();
    for round in 0..trial.rounds {
        let known = round_of_adds(&mut host, trial, &mut random);
        assert!(
            known.acknowledged_calls >= ACKNOWLEDGED_FIRST,
            "{} acknowledged",
            known.acknowledged_calls
        );
        ledger.merge(known);
        host.start_again();
        check_all(&host, trial.kind, &mut ledger).map_err(|error| format!("round {round}: {error}"))?;
    }
    println!(
        "{} calls acknowledged, {} unanswered",
        ledger.acknowledged_calls, ledger.unknown_calls
    );
    Ok(host)
}

/// Adds with all clients until the kill; returns what they know.
fn round_of_adds(host: &mut Host, trial: &Trial, random: &mut Random) -> Ledger {
    let acknowledged = AtomicU64::new(0);
    let in_flight = AtomicI64::new(0);
    let is_over = AtomicBool::new(false);
    STORMS.store(0, Ordering::SeqCst);
    SQUEEZED.store(0, Ordering::SeqCst);
    let address = host.address();
    let mut ledger = Ledger::default();
    std::thread::scope(|scope| {
        let meanwhile = scope.spawn(|| (trial.meanwhile)(Client::new(address), &is_over));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let random = random.fork();
                let (acknowledged, in_flight, is_over) = (&acknowledged, &in_flight, &is_over);
                scope.spawn(move || {
                    add_until_over(Client::new(address), trial, random, acknowledged, in_flight, is_over)
                })
            })
            .collect();
        wait::until("enough calls are acknowledged", || {
            (acknowledged.load(Ordering::SeqCst) >= ACKNOWLEDGED_FIRST).then_some(())
        });
        wait::until("enough else has happened", || (trial.until)().then_some(()));
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
        meanwhile.join().unwrap();
    });
    ledger
}

fn add_until_over(
    mut client: Client,
    trial: &Trial,
    mut random: Random,
    acknowledged: &AtomicU64,
    in_flight: &AtomicI64,
    is_over: &AtomicBool,
) -> Ledger {
    let mut ledger = Ledger::default();
    while !is_over.load(Ordering::SeqCst) {
        let key = format!("key-{}", random.below(trial.keys));
        let n = 1 + random.below(9) as i64;
        let request =
            Request::new("POST", format!("/v1/grains/{}/{key}/add", trial.kind)).body(format!("{{\"n\": {n}}}"));
        in_flight.fetch_add(1, Ordering::SeqCst);
        let reply = client.try_send(&request);
        in_flight.fetch_sub(1, Ordering::SeqCst);
        match reply {
            Ok(reply) if trial.may_refuse && reply.status == 503 => {
                assert_eq!(reply.problem(503, "overloaded")["committed"], "no");
            }
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
