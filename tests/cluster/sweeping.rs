//! All grains of a type move to its current revision, whichever host keeps them and whichever is asked.

use std::time::Duration;

use granary_tests::{Cluster, Request, built, wait};
use serde_json::Value;

const GRAINS: usize = 400;
/// So many fail to move, in one of these ways each, which the guest reads from the key.
const FAILURES: [&str; 3] = ["trap", "error", "check"];
const FAILING: usize = 30;
/// What `moved`, `failed` and `left` are at the end.
const END: [u64; 3] = [(GRAINS - FAILING) as u64, FAILING as u64, 0];
/// As long as a host may take on a busy machine to notice that another one has died, and to sweep what it kept.
const TAKEOVER_MOST: Duration = Duration::from_secs(60);

#[test]
fn every_host_moves_its_share_and_any_host_tells_of_all() {
    let cluster = Cluster::start(4);
    fill(&cluster);
    deploy(&cluster, "shape-2");
    begin(&cluster, 2);
    for at in 0..4 {
        wait::until_equal("all have moved", Some(END), || ended(&cluster, at));
    }
    let listed = &cluster.hosts[1].client().fetch("/v1/modules/shape/upgrade").value()["failures"];
    assert_eq!(listed.as_array().unwrap().len(), FAILING, "{listed}");
    for number in 0..GRAINS {
        let path = format!("/v1/grains/shape/{}", key(number));
        let status = cluster.hosts[number % 4].client().fetch(&path).value();
        let expected = if number < FAILING { 1 } else { 2 };
        assert_eq!(status["revision"], expected, "{}: {status}", key(number));
    }
}

#[test]
fn a_host_that_dies_leaves_its_share_to_the_others() {
    let mut cluster = Cluster::start(4);
    fill(&cluster);
    deploy(&cluster, "shape-2");
    begin(&cluster, 0);
    cluster.hosts[3].kill();
    for at in 0..3 {
        let what = "those that are left have moved all";
        wait::within(TAKEOVER_MOST, what, || (ended(&cluster, at) == Some(END)).then_some(()));
    }
    // And with one host more, whose share is counted as well.
    cluster.hosts[3].start_again();
    cluster.settle();
    begin(&cluster, 3);
    for at in 0..4 {
        wait::until_equal("all have moved", Some(END), || ended(&cluster, at));
    }
}

fn key(number: usize) -> String {
    match number {
        number if number < FAILING => format!("k{number}-{}", FAILURES[number % FAILURES.len()]),
        number => format!("k{number}"),
    }
}

/// Adds to every key once, so that it has a state.
fn fill(cluster: &Cluster) {
    deploy(cluster, "shape-1");
    for number in 0..GRAINS {
        let mut client = cluster.hosts[number % cluster.hosts.len()].client();
        client.call(&format!("shape/{}/add", key(number)), "[1]").expect(200);
    }
}

fn deploy(cluster: &Cluster, module: &str) {
    let reply = cluster.hosts[0].client().deploy("shape", &built::module_bytes(module));
    reply.expect(201);
}

/// Has all grains moved; a cluster whose hosts don't agree yet on who is there says so, and is asked again.
fn begin(cluster: &Cluster, at: usize) {
    let sweep = Request::new("POST", "/v1/modules/shape/upgrade");
    wait::until("a sweep begins", || {
        let reply = cluster.hosts[at].client().send(&sweep);
        match reply.status {
            503 => None,
            _ => Some(reply.expect(202).status),
        }
    });
}

/// The figures of a sweep that has ended, as a host tells them.
fn ended(cluster: &Cluster, at: usize) -> Option<[u64; 3]> {
    let reply = cluster.hosts[at].client().fetch("/v1/modules/shape/upgrade");
    if reply.status == 503 {
        return None;
    }
    let status: Value = reply.expect(200).json();
    let is_over = status["running"] == false;
    is_over.then(|| ["moved", "failed", "left"].map(|name| status[name].as_u64().unwrap()))
}
