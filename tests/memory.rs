//! The host's memory budget: what is above it waits or is refused, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use granary_tests::{Client, Host, Reply, Request, soak, wait};

const MIB: u64 = 1 << 20;
/// What isn't charged before it's there: the changes of turns on their way into the log, images on their way into the snapshot store,
/// and what guests touch between two looks of the host. Some images of the size that these tests use.
const SLACK: u64 = 96 * MIB;

/// Looks at a process' memory again and again.
struct Watch {
    stop: Arc<AtomicBool>,
    join: Option<JoinHandle<()>>,
    most: Arc<AtomicU64>,
}

impl Watch {
    fn start(pid: u32) -> Watch {
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (theirs, peak) = (stop.clone(), most.clone());
        let join = std::thread::spawn(move || {
            while !theirs.load(Ordering::Relaxed) {
                peak.fetch_max(taken(pid), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        Watch {
            stop,
            join: Some(join),
            most,
        }
    }

    /// The most that was seen.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.join.take().unwrap().join().unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

/// Heap, stacks, page tables and grains' memories of a process, in bytes. The latter are a memory file: its blocks count, mapped or
/// not.
fn taken(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap_or(0)
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let memories = files.filter(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        target.to_string_lossy().contains("granary-memories")
    });
    let blocks = memories
        .filter_map(|file| Some(std::fs::metadata(file.path()).ok()?.blocks()))
        .max();
    ((kib("RssAnon:") + kib("VmPTE:")) << 10) + blocks.unwrap_or(0) * 512
}

/// Whether a call took place. A refusal has to be one that the budget may cause, and has to say that nothing happened.
fn took_place(reply: &Reply) -> bool {
    if reply.status == 200 {
        return true;
    }
    let problem = reply.json();
    let code = problem["code"].as_str().unwrap_or_default();
    assert!(
        ["overloaded", "memory_limit", "deadline"].contains(&code),
        "{}: {problem}",
        reply.status
    );
    assert_eq!(problem["committed"], "no", "{problem}");
    if code == "overloaded" {
        assert!(reply.header("retry-after").is_some(), "{problem}");
    }
    false
}

#[test]
fn guests_with_more_memory_than_the_budget_stay_below_it() {
    let budget = 200 * MIB;
    let host = Host::start_with(&["--memory-budget", "200MiB"]);
    host.deploy("probe");
    let watch = Watch::start(host.pid());
    let address = host.address();
    let refused = Arc::new(AtomicU64::new(0));
    // What each grain holds: how much of which byte.
    let expected = Arc::new(Mutex::new(BTreeMap::new()));
    let clients: Vec<_> = (0..8_u64)
        .map(|number| {
            let (refused, expected) = (refused.clone(), expected.clone());
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                for round in 0..4_u64 {
                    let key = format!("{number}-{round}");
                    let (bytes, value) = ((12 + number) * MIB, (number * 4 + round + 1) as u8);
                    wait::until("the host has room for the grain", || {
                        let reply = client.call(&format!("probe/{key}/fill"), &format!("[{bytes}, {value}]"));
                        let took_place = took_place(&reply);
                        refused.fetch_add(u64::from(!took_place), Ordering::Relaxed);
                        took_place.then_some(())
                    });
                    expected.lock().unwrap().insert(key, (bytes, value));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let expected = std::mem::take(&mut *expected.lock().unwrap());
    let mut client = host.client();
    for (key, (bytes, value)) in &expected {
        let reply = wait::until("the host has room for the grain", || {
            let reply = client.call(&format!("probe/{key}/checksum"), "");
            took_place(&reply).then_some(reply)
        });
        assert_eq!(reply.value(), checksum(*bytes, *value), "{key}");
    }
    let most = watch.end();
    let evicted = host.metric("granary_evictions_total").unwrap();
    println!(
        "{} grains filled, {} calls refused, {evicted} evictions, {} MiB at most",
        expected.len(),
        refused.load(Ordering::Relaxed),
        most / MIB
    );
    assert_eq!(expected.len(), 32);
    assert!(evicted > 0.0);
    soak::measured(&format!("{} MiB were taken", most / MIB), most <= budget + SLACK);
    assert_eq!(client.call("probe/new/add", "[1]").integer(), 1);
}

/// FNV-1a over `bytes` times `value`, as the guest says it.
fn checksum(bytes: u64, value: u8) -> String {
    let sum = (0..bytes).fold(0xcbf2_9ce4_8422_2325_u64, |sum, _| {
        (sum ^ u64::from(value)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{sum:016x}")
}

#[test]
fn thousands_of_small_grains_beyond_the_budget_keep_their_state() {
    let budget = 128 * MIB;
    let host = Host::start_with(&["--memory-budget", "128MiB"]);
    host.deploy("counter");
    let watch = Watch::start(host.pid());
    let address = host.address();
    let clients: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                for round in 1..=2 {
                    for key in 0..1_000 {
                        let reply = client.call(&format!("counter/{number}-{key}/add"), "[1]");
                        assert_eq!(reply.integer(), round, "{number}-{key}");
                    }
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let most = watch.end();
    let evicted = host.metric("granary_evictions_total").unwrap();
    println!("{evicted} evictions, {} MiB at most", most / MIB);
    assert!(evicted >= 1_000.0, "{evicted} evictions");
    soak::measured(&format!("{} MiB were taken", most / MIB), most <= budget + SLACK);
}

#[test]
fn a_grain_that_traps_in_a_loop_is_not_rebuilt_as_fast_as_it_is_called() {
    let host = Host::start();
    host.deploy("probe");
    let address = host.address();
    let mut client = host.client();
    client.call("probe/bad/add", "[5]").expect(200);
    let loads = host.metric("granary_loads_total").unwrap();
    let started = Instant::now();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                for _ in 0..4 {
                    let request = Request::new("POST", "/v1/grains/probe/bad/trap_after_write")
                        .header("granary-timeout", "500ms")
                        .body("[1]");
                    let reply = client.send(&request);
                    match reply.status {
                        500 => drop(reply.problem(500, "trap")),
                        _ => assert_eq!(reply.problem(504, "deadline")["committed"], "no"),
                    }
                }
            })
        })
        .collect();
    // Its neighbour doesn't notice.
    for n in 1..=100 {
        assert_eq!(client.call("probe/good/add", "[1]").integer(), n);
    }
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let loads = host.metric("granary_loads_total").unwrap() - loads;
    // Three at once, then after 10, 20, 40 ... 640 ms, then one a second; and one for the neighbour.
    let most = 3.0 + 7.0 + started.elapsed().as_secs_f64() + 1.0 + 1.0;
    assert!(loads <= most, "{loads} loads in {:?}", started.elapsed());
    assert!(host.metric("granary_backoffs_total").unwrap() >= 3.0);
    let status = client.fetch("/v1/grains/probe/bad").value();
    assert!(status["last_error"].as_str().unwrap().contains("trap"), "{status}");
    // A good turn is all it takes.
    let value = wait::until("the grain has rested", || {
        let reply = client.call("probe/bad/add", "[1]");
        (reply.status == 200).then(|| reply.integer())
    });
    assert_eq!(value, 6);
    client.call("probe/bad/trap_now", "").problem(500, "trap");
    assert_eq!(client.call("probe/bad/add", "[1]").integer(), 7);
}

#[test]
fn the_host_says_what_it_takes_and_what_a_busy_grain_does() {
    let host = Host::start_with(&["--memory-budget", "300MiB"]);
    host.deploy("probe");
    let mut client = host.client();
    client.call("probe/a/fill", "[10000000, 1]").expect(200);
    let memory = host.view()["memory"].clone();
    assert_eq!(memory["budget_bytes"], 300 * MIB);
    assert_eq!(memory["grains_in_memory"], 1);
    let [taken, grains] = ["taken_bytes", "grain_bytes"].map(|name| memory[name].as_u64().unwrap());
    assert!(grains > 10_000_000 && taken > grains && taken < 300 * MIB, "{memory}");
    let address = host.address();
    let sleeper = std::thread::spawn(move || {
        Client::new(address)
            .call("probe/a/sleep_ms", "[300]")
            .expect(200)
            .status
    });
    while !sleeper.is_finished() {
        let status = client.fetch("/v1/grains/probe/a").value();
        assert!(status["memory_bytes"].as_u64().unwrap() > 10_000_000, "{status}");
    }
    sleeper.join().unwrap();
}

#[test]
fn a_budget_too_small_for_a_host_is_refused_with_what_it_needs() {
    let mut host = Host::prepared(&["--memory-budget", "10MiB"]);
    let said = host.try_start().unwrap_err();
    assert!(said.contains("too small"), "{said}");
}
