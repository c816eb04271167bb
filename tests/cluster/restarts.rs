//! A restart of all hosts, one after the other, as for a new release: callers who repeat what they asked don't notice.

use std::sync::Arc;
use std::time::Duration;

use granary_tests::seed::{self, Random};
use granary_tests::{Cluster, wait};

use crate::repeaters::{self, Repeaters};
use crate::targets::Targets;
use crate::writers::{self, Writers};

/// What a call has until its deadline unless its caller says otherwise: so long a client repeats it under its key.
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn all_hosts_restart_in_turn_and_no_call_under_a_key_fails() {
    let mut random = Random::new(seed::of_this_run());
    let mut cluster = Cluster::start(3);
    for guest in ["counter", "probe-volatile", "probe-relaxed"] {
        cluster.deploy(guest);
    }
    // What isn't committed with each reply is written when its host stops in peace.
    let kept = ["probe-volatile", "probe-relaxed"];
    for number in 0..12 {
        for kind in kept {
            let path = format!("{kind}/k{number}/add");
            cluster.hosts[number % 3]
                .client()
                .call(&path, &format!("[{}]", number + 1))
                .expect(200);
        }
    }
    let holders = (0..12).map(|number| cluster.holder(&format!("probe-volatile/k{number}")));
    assert_eq!(
        holders.collect::<std::collections::BTreeSet<_>>().len(),
        3,
        "each host has some"
    );
    let targets = Arc::new(Targets::new(&cluster));
    let repeaters = Repeaters::start(&targets, (4, 6), DEADLINE, &mut random);
    let writers = Writers::start_at(targets.clone(), 2, 6, &mut random);
    writers.until_acknowledged(200);
    for at in 0..3 {
        assert!(cluster.hosts[at].stop().success());
        cluster.hosts[at].start_again();
        targets.take(&cluster);
        cluster.settle();
        writers.until_acknowledged(200);
    }
    let ledger = writers.stop();
    let done = repeaters.done();
    println!(
        "{} calls, {} requests repeated; the longest call took {:?}",
        done.answered, done.repeats, done.longest
    );
    repeaters::check(&cluster, &done);
    writers::check(&cluster, ledger);
    for number in 0..12 {
        for kind in kept {
            let mut client = cluster.hosts[(number + 1) % 3].client();
            let value = wait::until("a grain can be read", || {
                let reply = client.call(&format!("{kind}/k{number}/get"), "[]");
                (reply.status == 200).then(|| reply.integer())
            });
            assert_eq!(value, number as i64 + 1, "{kind}/k{number}");
        }
    }
}
