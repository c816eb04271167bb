//! Copies are spread over zones, and by weights, as the hosts say of themselves.

use granary_tests::{Cluster, wait};
use serde_json::Value;

/// Of each host: what the configuration has of it.
fn shares(cluster: &Cluster) -> Vec<(String, u64, u64)> {
    let view = cluster.hosts[0].view();
    let members = view["members"].as_array().unwrap();
    let share = |at: usize| {
        let id = Value::from(cluster.id(at));
        let member = members.iter().find(|member| member["host"] == id).unwrap();
        let zone = member["zone"].as_str().unwrap().to_owned();
        (
            zone,
            member["weight"].as_u64().unwrap(),
            member["slots"].as_u64().unwrap(),
        )
    };
    (0..cluster.hosts.len()).map(share).collect()
}

#[test]
fn each_slot_has_its_copies_in_different_zones() {
    let mut cluster = Cluster::start_first(&["--zone", "a"]);
    for own in [
        &["--zone", "a", "--weight", "300"][..],
        &["--zone", "b"],
        &["--zone", "c"],
    ] {
        cluster.join_with(own);
    }
    cluster.settle();
    let shares = shares(&cluster);
    let zones: Vec<&str> = shares.iter().map(|(zone, ..)| zone.as_str()).collect();
    assert_eq!(zones, ["a", "a", "b", "c"]);
    let slots: Vec<u64> = shares.iter().map(|(.., slots)| *slots).collect();
    assert_eq!((slots[2], slots[3]), (4096, 4096), "no zone has two copies");
    assert_eq!(slots[0] + slots[1], 4096);
    assert_eq!((shares[0].1, shares[1].1), (100, 300));
    assert!(slots[1] > 2 * slots[0], "by weight: {slots:?}");

    // A host that says something else at its next start gets other copies.
    assert!(cluster.hosts[1].stop().success());
    cluster.hosts[1].set_flag("--zone", "b");
    cluster.hosts[1].start_again();
    wait::until("the configuration says so", || {
        let shares = self::shares(&cluster);
        let is_spread = shares[0].2 == 4096 && shares[1].2 + shares[2].2 == 4096;
        (shares[1].0 == "b" && is_spread).then_some(())
    });
    cluster.settle();
}
