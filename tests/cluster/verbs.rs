//! An operator's way through a cluster's life, by the command line alone.

use granary_tests::cli::granary;
use granary_tests::{Cluster, Host, wait};
use serde_json::Value;

#[test]
fn a_host_joins_gets_a_grain_is_drained_and_leaves_by_the_command_line() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let token = granary(&cluster.hosts[1], &["token", "--valid", "10m"]);
    let joining = ["--cluster-listen", "127.0.0.1:0", "--join", token.ok()];
    cluster.hosts.push(Host::start_with(&joining));
    cluster.settle();
    let ids: Vec<String> = (0..4).map(|at| cluster.id(at)).collect();

    assert_all_are_shown(&cluster, &ids);
    for key in 0..20 {
        let path = format!("counter/k{key}");
        assert_eq!(
            granary(&cluster.hosts[key % 4], &["call", &path, "add", "n=1"]).ok(),
            "1"
        );
    }
    for to in [3, 1] {
        let moved = granary(&cluster.hosts[0], &["move", "counter/k7", &ids[to]]);
        assert!(moved.ok().starts_with("moved; for "), "{}", moved.stdout);
        // The host that it left may be a moment behind.
        wait::until_equal("the grain is where it was moved to", to, || {
            cluster.holder("counter/k7")
        });
    }
    granary(&cluster.hosts[0], &["move", "counter/k7", "nowhere"]).expect(1);

    let drained = granary(&cluster.hosts[3], &["drain"]);
    assert!(
        drained.ok().ends_with("drained: the host can be stopped"),
        "{}",
        drained.stdout
    );
    assert!(cluster.hosts[3].stop().success());
    let left = wait::until("the host has left", || {
        let status = granary(&cluster.hosts[0], &["status"]);
        let row = status
            .ok()
            .lines()
            .find(|line| line.starts_with(&format!("  {}", ids[3])));
        match row {
            Some(row) if row.contains(" alive ") || row.contains(" draining ") => None,
            row => Some(row.map(str::to_owned)),
        }
    });
    println!("{left:?}");
    for key in 0..20 {
        let path = format!("counter/k{key}");
        assert_eq!(granary(&cluster.hosts[key % 3], &["call", &path, "get"]).ok(), "1");
    }
}

/// A line a host, the one that answers marked, by any host; and whether all copies are there. A host that has just come gets types, copies and
/// the others' figures while it serves already.
fn assert_all_are_shown(cluster: &Cluster, ids: &[String]) {
    wait::until(
        "all hosts are shown with their figures, all copies, and the type",
        || {
            let status = granary(&cluster.hosts[3], &["status"]);
            let lines = || status.ok().lines();
            let is_shown = |(at, id): (usize, &String)| {
                let mark = if at == 3 { '*' } else { ' ' };
                let mut row = lines().filter(|line| line.starts_with(&format!("{mark} {id}")));
                row.any(|row| row.contains(" alive ") && row.ends_with(" ms"))
            };
            let is_whole = status.ok().contains("all slots have all their copies")
                && lines().any(|line| line.starts_with("type counter"))
                && ids.iter().enumerate().all(is_shown);
            is_whole.then_some(())
        },
    );
    wait::until_equal("another host says so, too", (4, Value::from(0)), || {
        let document: Value = serde_json::from_str(granary(&cluster.hosts[0], &["status", "--json"]).ok()).unwrap();
        let members = document["members"].as_array().unwrap().len();
        (members, document["cluster"]["slots_degraded"].clone())
    });
}

#[test]
fn a_dead_host_shows_in_the_status_and_so_do_the_copies_that_are_missing() {
    let mut cluster = Cluster::start(3);
    let dead = cluster.id(2);
    cluster.hosts[2].kill();
    wait::until("the others notice", || {
        let status = granary(&cluster.hosts[0], &["status"]);
        let row = status.ok().lines().find(|line| line.contains(&dead)).unwrap();
        row.contains(" down ").then_some(())
    });
    let status = granary(&cluster.hosts[0], &["status"]);
    assert!(status.ok().contains("; 4096 slots lack a copy"), "{}", status.stdout);
    cluster.hosts[2].start_again();
    cluster.settle();
    let status = granary(&cluster.hosts[0], &["status"]);
    assert!(
        status.ok().contains("; all slots have all their copies"),
        "{}",
        status.stdout
    );
}
