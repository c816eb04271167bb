//! Clients that add to the same counters and read them, through any host; what they saw has to be what one counter could have shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use granary_tests::history::{History, Seen};
use granary_tests::seed::Random;
use granary_tests::{Request, wait};

use crate::targets::{Line, Targets};
use crate::writers::{Failed, judged};

const KEYS: usize = 4;
/// Of a hundred operations so many are reads.
const READS_PERCENT: u64 = 30;

/// Clients at work.
pub(crate) struct Sharers {
    threads: Vec<JoinHandle<BTreeMap<String, History>>>,
    answered: Arc<Answered>,
}

/// Operations that were answered so far, by key.
type Answered = [AtomicUsize; KEYS];

impl Sharers {
    pub(crate) fn start(targets: &Arc<Targets>, threads: usize, random: &mut Random) -> Sharers {
        let clock = Instant::now();
        let answered = Arc::new(Answered::default());
        let start = |_| {
            let (targets, answered, random) = (targets.clone(), answered.clone(), random.fork());
            std::thread::spawn(move || work(&targets, &answered, clock, random))
        };
        Sharers {
            threads: (0..threads).map(start).collect(),
            answered,
        }
    }

    /// Waits until so many operations on each key are answered in all.
    pub(crate) fn until_answered(&self, count: usize) {
        let is_there = |key: &AtomicUsize| key.load(Ordering::Relaxed) >= count;
        wait::until("each key's operations are answered", || {
            self.answered.iter().all(is_there).then_some(())
        });
    }

    /// After [`Targets::end`]. What was seen of each counter.
    pub(crate) fn histories(self) -> BTreeMap<String, History> {
        let mut all: BTreeMap<String, History> = BTreeMap::new();
        for thread in self.threads {
            for (key, history) in thread.join().unwrap() {
                all.entry(key).or_default().merge(history);
            }
        }
        all
    }
}

fn work(targets: &Targets, answered: &Answered, clock: Instant, mut random: Random) -> BTreeMap<String, History> {
    let now = || u64::try_from(clock.elapsed().as_nanos()).unwrap();
    let mut histories: BTreeMap<String, History> = BTreeMap::new();
    let mut line = Line::default();
    while !targets.is_over() {
        let number = random.below(KEYS as u64) as usize;
        let key = format!("s{number}");
        let adds = random.below(100) >= READS_PERCENT;
        let (method, body) = if adds { ("add", "[1]") } else { ("get", "[]") };
        let request = Request::new("POST", format!("/v1/grains/counter/{key}/{method}")).body(body);
        let history = histories.entry(key).or_default();
        let began = now();
        let failed = match line.any(targets, &mut random).try_send(&request) {
            Ok(reply) if reply.status == 200 => {
                let value = u64::try_from(reply.integer()).unwrap();
                let ended = now();
                history.answered(Seen {
                    adds,
                    began,
                    ended,
                    value,
                });
                answered[number].fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Ok(reply) => judged(&reply),
            Err(error) => Failed::Unknown(error.to_string()),
        };
        if let Failed::Unknown(_) = failed {
            line.close();
            if adds {
                history.left_open(began);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    histories
}
