//! Any host answers for all.

use std::time::Instant;

use granary_tests::{Cluster, Request, built, wait};
use serde_json::json;

use crate::circles::{Places, assert_told_at_once};

#[test]
fn any_host_takes_any_call_deploys_for_all_and_knows_of_all_grains() {
    let cluster = Cluster::start(3);
    cluster.hosts[1].deploy("counter");
    // Deployed on one host, ready on all that answer when the deploy returns.
    for key in 0..30 {
        for (at, host) in cluster.hosts.iter().enumerate() {
            let reply = host.client().call(&format!("counter/k{key}/add"), "[1]");
            assert_eq!(reply.integer(), at as i64 + 1);
        }
    }
    let holders: std::collections::BTreeSet<usize> =
        (0..30).map(|key| cluster.holder(&format!("counter/k{key}"))).collect();
    assert_eq!(holders.len(), 3, "grains are spread over all hosts: {holders:?}");
    for host in &cluster.hosts {
        let mut client = host.client();
        let keys = client.fetch("/v1/grains/counter?limit=10").value();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 10, "{keys}");
        let status = client.fetch("/v1/grains/counter/k7?digest=true").value();
        assert_eq!(
            (&status["exists"], &status["seq"]),
            (&true.into(), &3.into()),
            "{status}"
        );
        assert_eq!(
            status["digest"],
            cluster.hosts[0]
                .client()
                .fetch("/v1/grains/counter/k7?digest=true")
                .value()["digest"]
        );
    }
}

#[test]
fn grains_call_one_another_across_hosts_and_circles_are_refused_at_once() {
    let cluster = Cluster::start(3);
    cluster.deploy("counter");
    cluster.deploy("bank");
    cluster.deploy("probe");
    for key in 0..20 {
        let from = &cluster.hosts[key % 3];
        let reply = from
            .client()
            .call(&format!("counter/from{key}/mirror"), &format!("[\"to{key}\"]"));
        reply.expect(200);
    }
    // From one host to another and back to the grain that waits.
    let mut places = Places::new(&cluster);
    let mut told = Vec::new();
    for round in 0..15 {
        let [from, to] = [0, 1].map(|host| places.take((round + host) % 3));
        let back = json!(["probe", from, "add", [1]]);
        let mut client = cluster.hosts[(round / 3) % 3].client();
        let began = Instant::now();
        let call = json!(["probe", to, "call", back]).to_string();
        let outcome = client.call(&format!("probe/{from}/call"), &call).value();
        told.push(began.elapsed());
        assert_eq!(outcome["value"]["code"], "deadlock", "{outcome}");
        // The call didn't run, and its grain isn't waited for any more.
        assert_eq!(client.call(&format!("probe/{from}/add"), "[1]").integer(), 1);
    }
    assert_told_at_once(told);
}

#[test]
fn grains_that_prefer_it_are_activated_where_they_are_called_first() {
    let cluster = Cluster::start(3);
    cluster.deploy("presence-session");
    cluster.deploy("presence-player");
    for number in 0..12 {
        let path = format!("presence-session/s{number}/heartbeat");
        let mut client = cluster.hosts[number % 3].client();
        client.call(&path, &format!("[\"p{number}\", 1]")).expect(200);
        let session = cluster.holder(&format!("presence-session/s{number}"));
        let player = cluster.holder(&format!("presence-player/p{number}"));
        assert_eq!(player, session, "a player is with its session");
    }
}

#[test]
fn a_revision_deployed_anywhere_can_be_rolled_back_anywhere() {
    let cluster = Cluster::start(3);
    let deploy = |at: usize, module: &str| {
        let reply = cluster.hosts[at].client().deploy("shape", &built::module_bytes(module));
        assert!([200, 201].contains(&reply.status), "{}", reply.text());
        reply.json()["revision"].clone()
    };
    assert_eq!(deploy(0, "shape-1"), 1);
    assert_eq!(deploy(1, "shape-2"), 2);
    // The same bytes again are no new revision, wherever they come in.
    assert_eq!(deploy(2, "shape-2"), 2);
    let revision = |at: usize| cluster.hosts[at].client().fetch("/v1/modules/shape").value()["revision"].clone();
    (0..3).for_each(|at| assert_eq!(revision(at), 2));
    let back = Request::new("POST", "/v1/modules/shape/rollback");
    cluster.hosts[2].client().send(&back).expect(200);
    for at in 0..3 {
        wait::until_equal("all hosts have rolled back", 1.into(), || revision(at));
    }
}
