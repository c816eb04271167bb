//! Counters that are added to, read, deleted and made again while hosts are killed and restarted, by clients that only ever see HTTP. What
//! they were told has to be what one counter could have told them.
//!
//! A minute of it is part of every run of the tests; `cargo xtask soak` has ten. `GRANARY_LIFETIMES_SECONDS` sets the time, `GRANARY_SEED`
//! repeats the choices (not the timing of the hosts).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use granary_tests::linearizable::{self, Act, Operation};
use granary_tests::seed::{self, Random};
use granary_tests::{Cluster, Request, soak, wait};

use crate::chaos::number;
use crate::targets::{Line, Targets};
use crate::writers::{Failed, judged};

/// Few clients a key: what overlaps is what the search for an order chooses from.
const CLIENTS: u64 = 4;
/// Counters at a time; when one has had its operations, another takes its place.
const KEYS: u64 = 4;
/// A history's length: each operation whose outcome isn't known doubles what an order could be, to its counter's end.
const OPERATIONS: u64 = 100;
/// After all is mended: one view of the cluster within this time, on any machine.
const HEALING_MOST: Duration = Duration::from_secs(60);

type Histories = BTreeMap<String, Vec<Operation>>;

#[test]
fn what_clients_saw_of_counters_that_are_deleted_and_made_again_is_one_order_of_it_all() {
    let mut random = Random::new(seed::of_this_run());
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let targets = Arc::new(Targets::new(&cluster));
    let clients = start(&targets, &mut random);
    let end = Instant::now() + Duration::from_secs(number("GRANARY_LIFETIMES_SECONDS", soak::or(60, 600)));
    let mut struck = [0; 3];
    while Instant::now() < end {
        struck[strike(&mut cluster, &targets, &mut random)] += 1;
        std::thread::sleep(Duration::from_millis(random.below(3000)));
    }
    let [killed, restarted, all] = struck;
    println!("{killed} hosts killed, {restarted} restarted, all killed {all} times");
    wait::within(HEALING_MOST, "all see one cluster", || {
        cluster.is_settled().then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    targets.end();
    let mut histories = Histories::new();
    for client in clients {
        for (key, operations) in client.join().unwrap() {
            histories.entry(key).or_default().extend(operations);
        }
    }
    report(&histories);
    for (key, operations) in histories {
        assert_eq!(linearizable::check(operations), Ok(()), "{key}");
    }
}

/// One host is killed or restarted, or all are killed at once; they run again when this returns. Which of the three it was.
fn strike(cluster: &mut Cluster, targets: &Targets, random: &mut Random) -> usize {
    let victim = random.below(3) as usize;
    let pause = Duration::from_millis(random.below(2500));
    let kind = random.below(8);
    let (victims, kind) = match kind {
        0 => (0..3, 2),
        1..4 => (victim..victim + 1, 1),
        _ => (victim..victim + 1, 0),
    };
    for at in victims.clone() {
        match kind {
            1 => drop(cluster.hosts[at].stop()),
            _ => cluster.hosts[at].kill(),
        }
    }
    if kind != 2 {
        targets.take(cluster);
    }
    std::thread::sleep(pause);
    for at in victims {
        cluster.hosts[at].start_again();
    }
    targets.take(cluster);
    kind
}

fn start(targets: &Arc<Targets>, random: &mut Random) -> Vec<JoinHandle<Histories>> {
    let clock = Instant::now();
    let start = |_| {
        let (targets, random) = (targets.clone(), random.fork());
        std::thread::spawn(move || work(&targets, clock, random))
    };
    (0..CLIENTS).map(start).collect()
}

fn work(targets: &Targets, clock: Instant, mut random: Random) -> Histories {
    let now = || u64::try_from(clock.elapsed().as_nanos()).unwrap();
    let mut histories = Histories::new();
    let mut line = Line::default();
    // Each client goes on to the next counters at its own pace: they meet on most.
    for number in 0.. {
        if targets.is_over() {
            break;
        }
        let (round, place) = (number / (KEYS * OPERATIONS / CLIENTS), random.below(KEYS));
        let key = format!("l{round}-{place}");
        let act = match random.below(20) {
            0..2 => Act::Delete,
            2..7 => Act::Read,
            // No other add has this amount, nor do two others together.
            _ => Act::Add((random.bits() >> 24) as i64),
        };
        let path = format!("/v1/grains/counter/{key}");
        let request = match act {
            Act::Add(amount) => Request::new("POST", format!("{path}/add")).body(format!("[{amount}]")),
            Act::Read => Request::new("GET", format!("{path}/get")),
            Act::Delete => Request::new("DELETE", path),
        };
        let began = now();
        let answered = line.any(targets, &mut random).try_send(&request);
        let operation = |ended, told| Operation {
            act,
            began,
            ended,
            told,
        };
        let failed = match answered {
            Ok(reply) if reply.status == 200 || reply.status == 204 => {
                let told = if reply.status == 200 { reply.integer() } else { 0 };
                let ended = Some(now());
                histories.entry(key).or_default().push(operation(ended, told));
                continue;
            }
            Ok(reply) => judged(&reply),
            // Nobody has heard of it.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Failed::Unharmed(error.to_string()),
            Err(error) => Failed::Unknown(error.to_string()),
        };
        if let Failed::Unknown(_) = failed {
            line.close();
            histories.entry(key).or_default().push(operation(None, 0));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    histories
}

/// Says how much was tested, and fails when it's nothing.
fn report(histories: &Histories) {
    let all = || histories.values().flatten();
    let count = |is_it: fn(&Operation) -> bool| all().filter(|operation| is_it(operation)).count();
    let deleted = count(|operation| operation.act == Act::Delete && operation.ended.is_some());
    let open = count(|operation| operation.ended.is_none());
    println!(
        "{} counters, {} operations, {deleted} deletions, {open} whose outcome isn't known",
        histories.len(),
        all().count()
    );
    assert!(all().count() > 500 && deleted > 20, "nothing was tested");
}
