//! Many clients at once until the host is killed, and what they may rely on afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::http::Connection;
use crate::host::Host;
use crate::work::in_words;

const CLIENTS: usize = 16;
const KEYS: usize = 100;
/// The host is killed once this many calls of the burst are acknowledged.
const ACKNOWLEDGED_FIRST: u64 = 2_000;
/// A host this slow is stuck.
const BURST_LIMIT: Duration = Duration::from_secs(60);

/// What was acknowledged for each key, and what was sent but never answered.
#[derive(Debug, Default)]
pub(super) struct Known {
    sums: BTreeMap<String, (i64, i64)>,
    acknowledged: u64,
    refusal: Option<String>,
}

impl Known {
    /// An add of `n` to `key` was answered.
    pub(super) fn acknowledge(&mut self, key: &str, n: i64) {
        self.sums.entry(key.to_owned()).or_default().0 += n;
        self.acknowledged += 1;
    }

    /// An add of `n` to `key` was sent and not answered: it may have been done or not.
    fn leave_open(&mut self, key: &str, n: i64) {
        self.sums.entry(key.to_owned()).or_default().1 += n;
    }

    fn merge(&mut self, other: Known) {
        for (key, (acknowledged, open)) in other.sums {
            let sum = self.sums.entry(key).or_default();
            sum.0 += acknowledged;
            sum.1 += open;
        }
        self.acknowledged += other.acknowledged;
        self.refusal = self.refusal.take().or(other.refusal);
    }

    /// The least and the most that `key` may hold.
    pub(super) fn bounds(&self, key: &str) -> (i64, i64) {
        let (acknowledged, open) = self.sums.get(key).copied().unwrap_or_default();
        (acknowledged, acknowledged + open)
    }

    /// The keys that were added to.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.sums.keys().map(String::as_str)
    }

    /// How many calls were answered.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}

/// How the burst went.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) acknowledged: u64,
    pub(super) unanswered: u64,
    pub(super) took: Duration,
}

/// Adds until enough is acknowledged, then kills the host in the middle of it. `before_kill` is told the process id.
pub(super) fn run(host: &mut Host, known: &mut Known, before_kill: impl FnOnce(u32)) -> Result<Report, String> {
    let started = Instant::now();
    let address = host.address();
    let acknowledged = AtomicU64::new(0);
    let results: Vec<(Known, u64)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let acknowledged = &acknowledged;
                scope.spawn(move || add_until_cut_off(client, Connection::open(address), acknowledged))
            })
            .collect();
        while acknowledged.load(Ordering::Relaxed) < ACKNOWLEDGED_FIRST
            && started.elapsed() < BURST_LIMIT
            && clients.iter().any(|client| !client.is_finished())
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        before_kill(host.pid());
        let killed = host.kill();
        let results = clients
            .into_iter()
            .map(|client| client.join().unwrap_or_default())
            .collect();
        killed.map(|()| results)
    })?;
    let took = started.elapsed();
    let unanswered = results.iter().map(|(_, unanswered)| unanswered).sum();
    let before = known.acknowledged();
    results.into_iter().for_each(|(sums, _)| known.merge(sums));
    let acknowledged = known.acknowledged() - before;
    if let Some(refusal) = &known.refusal {
        return Err(refusal.clone());
    }
    if acknowledged < ACKNOWLEDGED_FIRST {
        return Err(format!("only {acknowledged} calls were answered in {}", in_words(took)));
    }
    Ok(Report {
        acknowledged,
        unanswered,
        took,
    })
}

/// One client: returns what it knows, and how many of its calls were sent but not answered.
fn add_until_cut_off(client: usize, connection: std::io::Result<Connection>, acknowledged: &AtomicU64) -> (Known, u64) {
    let mut known = Known::default();
    let Ok(mut connection) = connection else {
        return (known, 0);
    };
    for turn in 0.. {
        let key = format!("key-{:02}", (client * 31 + turn * 7) % KEYS);
        let n = 1 + (turn % 9) as i64;
        let path = format!("/v1/grains/counter/{key}/add");
        match connection.request("POST", &path, &format!("{{\"n\": {n}}}")) {
            Ok(reply) if reply.status == 200 => {
                known.acknowledge(&key, n);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(reply) => {
                known.refusal = Some(format!("the host answered {}: {}", reply.status, reply.body));
                return (known, 0);
            }
            Err(_) => {
                known.leave_open(&key, n);
                return (known, 1);
            }
        }
    }
    (known, 0)
}
