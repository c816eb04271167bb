//! Clients that add to counters through any host while hosts come and go, and know what they may rely on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use granary_tests::ledger::Ledger;
use granary_tests::seed::Random;
use granary_tests::{Client, Cluster, Reply, wait};

use crate::targets::{Line, Targets};

/// Writers at work; each has keys of its own.
pub(crate) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Ledger>>,
}

struct Shared {
    targets: Arc<Targets>,
    /// By thread.
    acknowledged: Vec<AtomicU64>,
    failures: Mutex<Vec<String>>,
    /// What each thread tried last.
    last: Vec<Mutex<Try>>,
    /// The longest that one call took until it was acknowledged, tries included, in milliseconds.
    longest_ms: AtomicU64,
}

/// A call, for whoever reads of a client that doesn't get on.
#[derive(Clone, Debug, Default, PartialEq)]
struct Try {
    key: String,
    /// Why it failed, once it has.
    failed: Option<String>,
}

impl Writers {
    /// So many threads, each with so many keys.
    pub(crate) fn start(cluster: &Cluster, threads: usize, keys: usize, random: &mut Random) -> Writers {
        Writers::start_at(Arc::new(Targets::new(cluster)), threads, keys, random)
    }

    /// The same beside other clients.
    pub(crate) fn start_at(targets: Arc<Targets>, threads: usize, keys: usize, random: &mut Random) -> Writers {
        let shared = Arc::new(Shared {
            targets,
            acknowledged: (0..threads).map(|_| AtomicU64::new(0)).collect(),
            failures: Mutex::default(),
            last: (0..threads).map(|_| Mutex::default()).collect(),
            longest_ms: AtomicU64::new(0),
        });
        let start = |thread: usize| {
            let (shared, random) = (shared.clone(), random.fork());
            std::thread::spawn(move || write(&shared, thread, keys, random))
        };
        Writers {
            threads: (0..threads).map(start).collect(),
            shared: shared.clone(),
        }
    }

    /// From now on calls go to the hosts that run now.
    pub(crate) fn retarget(&self, cluster: &Cluster) {
        self.shared.targets.take(cluster);
    }

    /// Waits until so many more calls are acknowledged.
    pub(crate) fn until_acknowledged(&self, more: u64) {
        let first = self.acknowledged();
        wait::until("calls are acknowledged", || {
            (self.acknowledged() >= first + more).then_some(())
        });
    }

    /// Waits until each thread has so many more calls acknowledged, whatever host its keys are on.
    pub(crate) fn until_all_get_on(&self, more: u64) {
        let goals: Vec<u64> = self.counts().map(|count| count + more).collect();
        let behind = || {
            let behind = self.counts().zip(&goals).zip(&self.shared.last);
            let behind = behind.filter(|((count, goal), _)| count < *goal);
            behind.map(|(_, last)| last.lock().unwrap().clone()).collect()
        };
        wait::until_equal("every client gets on", Vec::<Try>::new(), behind);
    }

    /// Calls that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.counts().sum()
    }

    fn counts(&self) -> impl Iterator<Item = u64> {
        self.shared
            .acknowledged
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// Refusals so far, with their reasons.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.shared.failures.lock().unwrap().clone()
    }

    /// The longest wait for an acknowledgement since the last time that somebody asked.
    pub(crate) fn take_longest(&self) -> Duration {
        Duration::from_millis(self.shared.longest_ms.swap(0, Ordering::Relaxed))
    }

    /// Ends them. What they know together.
    pub(crate) fn stop(self) -> Ledger {
        self.shared.targets.end();
        let mut all = Ledger::default();
        for thread in self.threads {
            all.merge(thread.join().unwrap());
        }
        all
    }
}

fn write(shared: &Shared, thread: usize, keys: usize, mut random: Random) -> Ledger {
    let mut ledger = Ledger::default();
    let mut line = Line::default();
    // Of each key: the last value that was acknowledged, and how many adds since may have happened.
    let mut known = vec![(0i64, 0i64); keys];
    let mut waiting = Instant::now();
    while !shared.targets.is_over() {
        let key = random.below(keys as u64) as usize;
        let name = format!("w{thread}-{key}");
        *shared.last[thread].lock().unwrap() = Try {
            key: name.clone(),
            failed: None,
        };
        match add(line.any(&shared.targets, &mut random), &name) {
            Ok(value) => {
                let (last, unknown) = known[key];
                assert!(
                    (last + 1..=last + unknown + 1).contains(&value),
                    "{name} is {value} after {last} and {unknown} whose outcome isn't known"
                );
                known[key] = (value, 0);
                ledger.acknowledge(&name, 1);
                ledger.settle(&name, value).unwrap();
                shared.acknowledged[thread].fetch_add(1, Ordering::Relaxed);
                let waited = u64::try_from(waiting.elapsed().as_millis()).unwrap();
                shared.longest_ms.fetch_max(waited, Ordering::Relaxed);
                waiting = Instant::now();
            }
            Err(Failed::Unharmed(why)) => {
                note(shared, thread, why);
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Failed::Unknown(why)) => {
                note(shared, thread, why);
                known[key].1 += 1;
                ledger.leave_open(&name, 1);
                line.close();
            }
        }
    }
    ledger
}

fn note(shared: &Shared, thread: usize, why: String) {
    shared.last[thread].lock().unwrap().failed = Some(why.clone());
    let mut failures = shared.failures.lock().unwrap();
    if failures.len() < 1000 {
        failures.push(why);
    }
}

pub(crate) enum Failed {
    Unharmed(String),
    Unknown(String),
}

fn add(client: &mut Client, key: &str) -> Result<i64, Failed> {
    let path = format!("/v1/grains/counter/{key}/add");
    let request = granary_tests::Request::new("POST", path).body("[1]");
    match client.try_send(&request) {
        Ok(reply) if reply.status == 200 => Ok(reply.integer()),
        Ok(reply) => Err(judged(&reply)),
        Err(error) => Err(Failed::Unknown(error.to_string())),
    }
}

/// What an answer other than success says of the call.
pub(crate) fn judged(reply: &Reply) -> Failed {
    let problem = reply.json();
    let why = format!("{} {}", reply.status, problem["detail"]);
    match problem["committed"].as_str() {
        Some("no") => Failed::Unharmed(why),
        _ => Failed::Unknown(why),
    }
}

/// What is there has to be what clients may rely on.
pub(crate) fn check(cluster: &Cluster, mut ledger: Ledger) {
    let keys: Vec<String> = ledger.keys().map(str::to_owned).collect();
    assert!(!keys.is_empty());
    for (at, host) in cluster.running().enumerate() {
        let mut client = host.client();
        for key in keys.iter().skip(at % 2).step_by(2) {
            let value = wait::until("a counter can be read", || {
                let reply = client.call(&format!("counter/{key}/get"), "[]");
                (reply.status == 200).then(|| reply.integer())
            });
            ledger.settle(key, value).unwrap();
        }
    }
}
