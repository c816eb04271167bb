//! Clients that send each add under an idempotency key until it's answered, through any host: each takes place once, whatever happens.
//!
//! Each has counters of its own and one add under way, so it knows what a counter has to say next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use granary_tests::Request;
use granary_tests::seed::Random;

use crate::targets::{Line, Targets};

/// Of a hundred adds that were answered so many are sent once more.
const REPEATED_PERCENT: u64 = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Clients at work.
pub(crate) struct Repeaters(Vec<JoinHandle<Done>>);

/// What they did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) answered: u64,
    /// Requests that repeated one.
    pub(crate) repeats: u64,
    /// The longest that an add took, with its repeats.
    pub(crate) longest: Duration,
    /// What each counter has to be.
    pub(crate) values: BTreeMap<String, i64>,
}

impl Repeaters {
    /// So many threads, each with so many keys. An add that isn't answered within `patience` is a failure.
    pub(crate) fn start(
        targets: &Arc<Targets>,
        (threads, keys): (usize, u64),
        patience: Duration,
        random: &mut Random,
    ) -> Repeaters {
        let start = |thread| {
            let (targets, random) = (targets.clone(), random.fork());
            std::thread::spawn(move || work(&targets, (thread, keys), patience, random))
        };
        Repeaters((0..threads).map(start).collect())
    }

    /// After [`Targets::end`].
    pub(crate) fn done(self) -> Done {
        let mut all = Done::default();
        for thread in self.0 {
            let done = thread.join().unwrap();
            all.answered += done.answered;
            all.repeats += done.repeats;
            all.longest = all.longest.max(done.longest);
            all.values.extend(done.values);
        }
        all
    }
}

fn work(targets: &Targets, (thread, keys): (usize, u64), patience: Duration, mut random: Random) -> Done {
    let mut done = Done::default();
    let mut line = Line::default();
    while !targets.is_over() {
        let name = format!("r{thread}-{}", random.below(keys));
        let due = done.values.get(&name).copied().unwrap_or(0) + 1;
        let request = Request::new("POST", format!("/v1/grains/counter/{name}/add"))
            .header("idempotency-key", &format!("{thread}-{}", done.answered))
            .header("granary-timeout", "5s")
            .body("[1]");
        let again = usize::from(random.below(100) < REPEATED_PERCENT);
        for _ in 0..=again {
            let began = Instant::now();
            let value = loop {
                let failed = match line.any(targets, &mut random).try_send(&request) {
                    Ok(reply) if reply.status == 200 => break reply.integer(),
                    Ok(reply) => reply.text(),
                    Err(error) => {
                        line.close();
                        error.to_string()
                    }
                };
                assert!(began.elapsed() < patience, "{name}: {failed}");
                done.repeats += 1;
                std::thread::sleep(PAUSE);
            };
            assert_eq!(value, due, "{name}: an add took place twice, or not at all");
            done.longest = done.longest.max(began.elapsed());
        }
        done.answered += 1;
        done.values.insert(name, due);
    }
    done
}

/// The counters have to be as they were left.
pub(crate) fn check(cluster: &granary_tests::Cluster, done: &Done) {
    assert!(!done.values.is_empty());
    let mut client = cluster.running().next().unwrap().client();
    for (name, value) in &done.values {
        let found = granary_tests::wait::until("a counter can be read", || {
            let reply = client.call(&format!("counter/{name}/get"), "[]");
            (reply.status == 200).then(|| reply.integer())
        });
        assert_eq!(found, *value, "{name}");
    }
}
