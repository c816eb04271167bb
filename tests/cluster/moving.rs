//! Grains that move while they are called, and hosts that leave.

use granary_tests::seed::{self, Random};
use granary_tests::{Cluster, Request, wait};
use serde_json::json;

use crate::writers::{self, Writers};

#[test]
fn a_grain_moves_from_host_to_host_under_load_without_a_failed_call() {
    let mut random = Random::new(seed::of_this_run());
    let cluster = Cluster::start(3);
    cluster.deploy("counter");
    let writers = Writers::start(&cluster, 4, 2, &mut random);
    writers.until_acknowledged(100);
    let mut longest = 0;
    for round in 0..20 {
        let to = cluster.id(round % 3);
        let body = json!({ "type": "counter", "key": "w0-0", "host": to }).to_string();
        let asked = &cluster.hosts[(round / 3) % 3];
        let reply = asked.owner().send(&Request::new("POST", "/v1/cluster/move").body(body));
        longest = longest.max(reply.expect(200).json()["pause_us"].as_u64().unwrap());
        assert_eq!(cluster.holder("counter/w0-0"), round % 3);
        writers.until_acknowledged(50);
    }
    assert_eq!(writers.failures(), [""; 0], "moving fails no call");
    println!("the longest pause of 20 moves: {longest} us");
    writers::check(&cluster, writers.stop());
}

#[test]
fn a_drained_host_is_left_by_all_grains_without_a_failed_call_and_can_be_stopped() {
    let mut random = Random::new(seed::of_this_run());
    let mut cluster = Cluster::start(4);
    cluster.deploy("counter");
    let writers = Writers::start(&cluster, 6, 8, &mut random);
    writers.until_acknowledged(300);
    let drain = Request::new("POST", "/v1/cluster/drain");
    cluster.hosts[3].owner().send(&drain).expect(202);
    let gone = cluster.id(3);
    wait::until("the host is drained", || {
        let view = cluster.hosts[3].view();
        let own = view["members"]
            .as_array()
            .unwrap()
            .iter()
            .find(|member| member["host"] == gone.as_str())
            .unwrap()
            .clone();
        (view["cluster"]["activations"] == 0 && own["slots"] == 0).then_some(())
    });
    writers.until_acknowledged(300);
    assert_eq!(writers.failures(), [""; 0], "draining fails no call");
    // It takes calls until it's stopped; clients are told of the others first.
    let mut drained = cluster.hosts.pop().unwrap();
    writers.retarget(&cluster);
    writers.until_acknowledged(300);
    assert!(drained.stop().success());
    writers.until_acknowledged(300);
    cluster.settle();
    writers::check(&cluster, writers.stop());
}
