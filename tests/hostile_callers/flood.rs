//! Ten thousand calls at a time to one key, from another process.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use granary_tests::occupied::{occupy, queued};
use granary_tests::{Host, procfs, soak, wait};
use serde_json::Value;

use crate::probe_with;

const CALLS: usize = 10_000;
/// As many wait for a grain at most.
const MAILBOX: u64 = 1024;
/// Floods after which the allocator has what it wants: 44 MB became 297, 349, 372 and 380 MB when this was tried.
const WARMING: usize = 4;
/// Connections of this test that are being opened or closed.
const CLOSING: f64 = 2.0;

/// What the flood came to.
#[derive(Debug)]
struct Told {
    connections: u64,
    codes: BTreeMap<String, u64>,
    unknown: u64,
    unsent: u64,
}

impl Told {
    fn count(&self, code: &str) -> u64 {
        self.codes.get(code).copied().unwrap_or(0)
    }
}

/// Calls `add` with 1 from a process of its own, with as many open files as the system lets it have. `begin` is called when
/// its connections are open, `sent` with the number of calls when all that they can have at a time was sent.
fn flood(host: &Host, key: &str, begin: impl FnOnce(), sent: impl FnOnce(u64)) -> Told {
    let script = format!(
        "ulimit -n $(ulimit -H -n); exec {} {} probe/{key}/add '[1]' {CALLS}",
        env!("CARGO_BIN_EXE_flood"),
        host.address()
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    begin();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    line.clear();
    said.read_line(&mut line).unwrap();
    sent(line.trim().strip_prefix("sent ").unwrap().parse().unwrap());
    line.clear();
    said.read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success());
    println!("flood of {key}: {line}");
    let told: Value = serde_json::from_str(&line).unwrap();
    let codes = told["codes"].as_object().unwrap();
    Told {
        connections: told["connections"].as_u64().unwrap(),
        codes: codes
            .iter()
            .map(|(code, count)| (code.clone(), count.as_u64().unwrap()))
            .collect(),
        unknown: told["unknown"].as_u64().unwrap(),
        unsent: told["unsent"].as_u64().unwrap(),
    }
}

/// Every call is accounted for, and the value is what was acknowledged.
fn check(host: &Host, key: &str, told: &Told) {
    let counted = told.codes.values().sum::<u64>() + told.unknown + told.unsent;
    assert_eq!(counted, CALLS as u64, "{told:?}");
    let known = ["ok", "mailbox_full", "overloaded"];
    assert!(told.codes.keys().all(|code| known.contains(&code.as_str())), "{told:?}");
    let value = host.client().fetch(&format!("/v1/grains/probe/{key}/get")).integer() as u64;
    let least = told.count("ok");
    assert!(
        (least..=least + told.unknown).contains(&value),
        "the value is {value}, acknowledged were {least}, unknown {}",
        told.unknown
    );
}

#[derive(Debug)]
struct Footprint {
    resident_bytes: f64,
    descriptors: f64,
}

impl Footprint {
    fn most(&self, other: &Footprint) -> Footprint {
        Footprint {
            resident_bytes: self.resident_bytes.max(other.resident_bytes),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

fn footprint(host: &Host) -> Footprint {
    Footprint {
        resident_bytes: procfs::bytes(host.pid(), "VmRSS:") as f64,
        descriptors: procfs::descriptors(host.pid()).len() as f64,
    }
}

/// When the connections of a flood are gone.
fn quiet_footprint(host: &Host) -> Footprint {
    let open = || {
        let text = host.client().fetch("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("granary_http_connections "));
        line.unwrap().parse::<u64>().unwrap()
    };
    wait::until("the flood is gone", || (open() <= 4).then_some(()));
    footprint(host)
}

/// A flood of a grain that is in the middle of a turn: as many as its mailbox holds wait, the others are told to come back.
fn flood_occupied(host: &Host, key: &str) -> Told {
    let busy = RefCell::new(None);
    let refused = || {
        let of_code = |code| host.counted("granary_http_requests_total", code);
        of_code("mailbox_full") + of_code("overloaded")
    };
    let before = refused();
    flood(
        host,
        key,
        || *busy.borrow_mut() = Some(occupy(host, key)),
        |calls| {
            wait::until_equal("the mailbox is full", MAILBOX, || queued(&mut host.client(), key));
            // Counted: one that the host has yet to read isn't in flight, and would find a place once the turn ends.
            wait::until_equal("all others are refused", calls - MAILBOX, || refused() - before);
            busy.take().unwrap().release();
        },
    )
}

/// Sets a flag when dropped, also by a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn ten_thousand_calls_at_a_time_to_one_key_are_served_or_refused_and_none_is_lost() {
    let limits = [
        "--http-connections",
        "12000",
        "--http-peer-connections",
        "12000",
        "--http-calls",
        "12000",
    ];
    let (host, mut client) = probe_with(&limits);
    assert_eq!(client.call("probe/other/add", "[0]").integer(), 0);
    let done = AtomicBool::new(false);
    let (slowest, served) = std::thread::scope(|scope| {
        // Another key is called all the while.
        let others = scope.spawn(|| {
            let (mut slowest, mut served) = (Duration::ZERO, 0);
            while !done.load(Ordering::Relaxed) {
                let started = Instant::now();
                served += 1;
                assert_eq!(client.call("probe/other/add", "[1]").integer(), served);
                slowest = slowest.max(started.elapsed());
            }
            (slowest, served)
        });
        let ending = Done(&done);
        let told = flood_occupied(&host, "hot");
        if told.connections as usize == CALLS {
            // Each has a connection of its own, so all of them are there while the grain is busy.
            assert_eq!(told.count("ok"), MAILBOX, "{told:?}");
        }
        assert!(told.count("mailbox_full") > 0, "{told:?}");
        check(&host, "hot", &told);
        // The allocator keeps what the first floods took of it, and gives it back now and then; a host that holds on to something
        // goes on growing beyond the most that it took before.
        let mut before = quiet_footprint(&host);
        for round in 1..=soak::or(1, WARMING) {
            let key = format!("warming-{round}");
            let told = flood(&host, &key, || {}, |_| {});
            check(&host, &key, &told);
            before = before.most(&quiet_footprint(&host));
        }
        let told = flood(&host, "hot-again", || {}, |_| {});
        check(&host, "hot-again", &told);
        let after = quiet_footprint(&host);
        println!("before {before:?}, after {after:?}");
        assert!(
            after.descriptors <= before.descriptors * 1.05 + CLOSING,
            "{before:?} became {after:?}"
        );
        soak::measured(
            &format!("{before:?} became {after:?}"),
            after.resident_bytes <= before.resident_bytes * 1.05,
        );
        drop(ending);
        others.join().unwrap()
    });
    println!("another key meanwhile: {served} calls, the slowest took {slowest:?}");
    assert!(served > 0);
}

#[test]
fn a_flood_beyond_the_limits_on_connections_and_calls_is_overloaded_and_passes() {
    let (host, mut client) = probe_with(&["--http-connections", "2000", "--http-calls", "500"]);
    assert_eq!(client.call("probe/other/add", "[0]").integer(), 0);
    let begin = || {
        let value = client.call("probe/other/add", "[1]").integer();
        assert_eq!(value, 1, "who is connected is served");
    };
    let told = flood(&host, "hot", begin, |_| {});
    assert!(told.count("overloaded") > 0, "{told:?}");
    client.close();
    wait::until_equal("the flood is gone", true, || footprint(&host).descriptors < 200.0);
    check(&host, "hot", &told);
    assert_eq!(client.call("probe/other/add", "[1]").integer(), 2);
}
