//! Nothing acknowledged is lost when hosts die, freeze and come back.

use std::time::Duration;

use granary_tests::seed::{self, Random};
use granary_tests::{Cluster, soak, wait};
use serde_json::Value;

use crate::writers::{self, Writers};

/// A killed host's grains are served by another within this time, on a machine that has time for it: measured in soak.
const TAKEOVER: Duration = Duration::from_secs(5);
/// As often each client's calls are acknowledged after a death: each has keys on each host.
const EACH: u64 = 20;

#[test]
fn hosts_are_killed_in_turn_and_nothing_acknowledged_is_lost() {
    let mut random = Random::new(seed::of_this_run());
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let writers = Writers::start(&cluster, 8, 6, &mut random);
    for round in 0..6 {
        writers.until_acknowledged(500);
        let dies = round % 3;
        cluster.hosts[dies].kill();
        writers.retarget(&cluster);
        writers.take_longest();
        writers.until_all_get_on(EACH);
        let longest = writers.take_longest();
        let figure = format!("round {round}: the longest call after a death took {longest:?}");
        soak::measured(&figure, longest <= TAKEOVER);
        cluster.hosts[dies].start_again();
        writers.retarget(&cluster);
        cluster.settle();
    }
    writers.until_acknowledged(500);
    writers::check(&cluster, writers.stop());
}

#[test]
fn all_hosts_are_killed_at_once_and_nothing_acknowledged_is_lost() {
    let mut random = Random::new(seed::of_this_run());
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let writers = Writers::start(&cluster, 8, 6, &mut random);
    writers.until_acknowledged(1000);
    cluster.hosts.iter_mut().for_each(|host| host.kill());
    let ledger = writers.stop();
    // Two of three are a majority of every slot.
    for host in &mut cluster.hosts[..2] {
        host.start_again();
    }
    writers::check(&cluster, ledger.clone());
    cluster.hosts[2].start_again();
    cluster.settle();
    writers::check(&cluster, ledger);
}

/// Its copies are gone with it: the others make new ones once it's out of the configuration.
#[test]
fn a_wiped_host_comes_back_as_a_new_one_and_another_may_die_then() {
    let mut random = Random::new(seed::of_this_run());
    let mut cluster = Cluster::start_with(3, &["--cluster-remove-after", "10s"]);
    cluster.deploy("counter");
    let writers = Writers::start(&cluster, 4, 6, &mut random);
    writers.until_acknowledged(500);
    let old = cluster.id(2);
    cluster.hosts[2].kill();
    writers.retarget(&cluster);
    cluster.wipe(2);
    assert_ne!(cluster.id(2), old, "an empty folder is a new host");
    writers.retarget(&cluster);
    wait::until("the old host is out and its copies are made anew", || {
        let view = cluster.hosts[0].view();
        let members = view["members"].as_array().unwrap();
        let is_out = |member: &&Value| member["host"] == old.as_str() && member["in_configuration"] == true;
        (!members.iter().any(|member| is_out(&member)) && cluster.is_settled()).then_some(())
    });
    writers.until_acknowledged(500);
    cluster.hosts[1].kill();
    writers.retarget(&cluster);
    writers.until_acknowledged(500);
    writers::check(&cluster, writers.stop());
}

#[test]
fn a_host_that_reaches_no_majority_takes_no_turns_and_goes_on_when_it_does_again() {
    let cluster = Cluster::start(3);
    cluster.deploy("counter");
    for key in 0..12 {
        cluster.hosts[0]
            .client()
            .call(&format!("counter/k{key}/add"), "[1]")
            .expect(200);
    }
    cluster.freeze(1, true);
    cluster.freeze(2, true);
    let mut client = cluster.hosts[0].client();
    let reply = wait::until("the host notices", || {
        let reply = client.send(
            &granary_tests::Request::new("POST", "/v1/grains/counter/k0/add")
                .header("granary-timeout", "2s")
                .body("[1]"),
        );
        (reply.status != 200).then_some(reply)
    });
    assert!([503, 504].contains(&reply.status), "{}", reply.text());
    // What was there before can be read by those who can live with an old answer, and by nobody else.
    let get = granary_tests::Request::new("GET", "/v1/grains/counter/k2/get").header("granary-timeout", "2s");
    assert!([503, 504].contains(&client.send(&get).status));
    let old = client.send(&get.header("granary-read", "stale"));
    assert_eq!((old.integer(), old.header("granary-read")), (1, Some("stale")));
    let add = granary_tests::Request::new("POST", "/v1/grains/counter/k2/add").body("[1]");
    client
        .send(&add.header("granary-read", "stale"))
        .problem(400, "bad_arguments");
    let reply = client.send(
        &granary_tests::Request::new("POST", "/v1/grains/counter/k1/add")
            .header("granary-timeout", "2s")
            .body("[1]"),
    );
    assert!([503, 504].contains(&reply.status), "{}", reply.text());
    cluster.freeze(1, false);
    cluster.freeze(2, false);
    cluster.settle();
    for key in 0..12 {
        for host in &cluster.hosts {
            let value = wait::until("the counter is read", || {
                let reply = host.client().call(&format!("counter/k{key}/get"), "[]");
                (reply.status == 200).then(|| reply.integer())
            });
            // What wasn't acknowledged may have happened.
            assert!((1..=12).contains(&value), "{value}");
        }
    }
}
