//! Clients that move money between accounts and repeat each transfer under its idempotency key until they know what came of it: then no
//! money may be lost or made.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use granary_tests::seed::Random;
use granary_tests::{Cluster, Reply, Request, wait};

use crate::targets::{Line, Targets};

const ACCOUNTS: u64 = 8;
const START: i64 = 1000;
/// A transfer that nobody can tell the end of after this time is a failure.
const PATIENCE: Duration = Duration::from_secs(90);

/// Clients at work.
pub(crate) struct Bankers(Vec<JoinHandle<Done>>);

/// How transfers ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) moved: u64,
    /// By the account's own rules, or as part of a circle.
    pub(crate) refused: u64,
    /// Requests that repeated one.
    pub(crate) repeats: u64,
}

impl Bankers {
    /// Opens the accounts first.
    pub(crate) fn start(cluster: &Cluster, targets: &Arc<Targets>, threads: usize, random: &mut Random) -> Bankers {
        let mut client = cluster.running().next().unwrap().client();
        for account in 0..ACCOUNTS {
            let path = format!("bank/b{account}/deposit");
            client.call(&path, &format!("[{START}]")).expect(200);
        }
        let start = |thread| {
            let (targets, random) = (targets.clone(), random.fork());
            std::thread::spawn(move || work(&targets, thread, random))
        };
        Bankers((0..threads).map(start).collect())
    }

    /// After [`Targets::end`].
    pub(crate) fn done(self) -> Done {
        let mut all = Done::default();
        for thread in self.0 {
            let done = thread.join().unwrap();
            all.moved += done.moved;
            all.refused += done.refused;
            all.repeats += done.repeats;
        }
        all
    }
}

fn work(targets: &Targets, thread: usize, mut random: Random) -> Done {
    let mut done = Done::default();
    let mut line = Line::default();
    let mut number = 0;
    while !targets.is_over() {
        number += 1;
        let from = random.below(ACCOUNTS);
        let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
        let request = Request::new("POST", format!("/v1/grains/bank/b{from}/transfer"))
            .header("idempotency-key", &format!("{thread}-{number}"))
            .header("granary-timeout", "5s")
            .body(format!("[\"b{to}\", {}]", 1 + random.below(5)));
        let began = Instant::now();
        loop {
            match line.any(targets, &mut random).try_send(&request) {
                Ok(reply) if reply.status == 200 => {
                    done.moved += 1;
                    break;
                }
                Ok(reply) if is_final(&reply) => {
                    done.refused += 1;
                    break;
                }
                Ok(reply) => assert!(began.elapsed() < PATIENCE, "{}", reply.text()),
                Err(error) => {
                    line.close();
                    assert!(began.elapsed() < PATIENCE, "{error}");
                }
            }
            done.repeats += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    done
}

/// The account has answered, whatever it is: the same request gets the same answer from now on.
fn is_final(reply: &Reply) -> bool {
    let problem = reply.json();
    problem["committed"] == "yes" && problem["retryable"] != true
}

/// All money is somewhere: in accounts, or on the way between them for good because an account couldn't find out.
pub(crate) fn check(cluster: &Cluster) {
    let mut client = cluster.running().next().unwrap().client();
    let mut sum = |method: &str| -> i64 {
        let mut of = |account: u64| {
            wait::until("an account can be read", || {
                let reply = client.call(&format!("bank/b{account}/{method}"), "[]");
                (reply.status == 200).then(|| reply.integer())
            })
        };
        (0..ACCOUNTS).map(&mut of).sum()
    };
    let (there, in_doubt) = (sum("balance"), sum("in_doubt"));
    let all = START * i64::try_from(ACCOUNTS).unwrap();
    println!(
        "of {all} cents {there} are in accounts, {in_doubt} left in transfers whose end their account doesn't know"
    );
    assert!(
        (all - in_doubt..=all).contains(&there),
        "{there} and {in_doubt} of {all}"
    );
}
