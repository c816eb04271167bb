//! Deploys while hosts are away, and several at once.

use std::collections::BTreeSet;

use granary_tests::{Cluster, Request, built, wait};
use serde_json::Value;

/// What a host has of a type: its revisions in order, each with its hash, and the one that is current.
fn revisions(cluster: &Cluster, at: usize, kind: &str) -> Option<Vec<(u64, String, bool)>> {
    let reply = cluster.hosts[at].client().fetch(&format!("/v1/modules/{kind}"));
    if reply.status == 404 {
        return None;
    }
    let shown = reply.value();
    let of = |revision: &Value| {
        let hash = revision["blake3"].as_str().unwrap().to_owned();
        (
            revision["revision"].as_u64().unwrap(),
            hash,
            revision["current"] == true,
        )
    };
    Some(shown["revisions"].as_array().unwrap().iter().map(of).collect())
}

#[test]
fn a_host_that_was_away_has_what_was_deployed_when_it_is_back() {
    let mut cluster = Cluster::start(3);
    cluster.hosts[0]
        .client()
        .deploy("shape", &built::module_bytes("shape-1"))
        .expect(201);
    cluster.hosts[2].kill();
    // One type gets a new revision, and one is new.
    cluster.hosts[0]
        .client()
        .deploy("shape", &built::module_bytes("shape-2"))
        .expect(201);
    cluster.hosts[1].deploy("counter");
    cluster.hosts[2].start_again();
    for kind in ["shape", "counter"] {
        let agreed = revisions(&cluster, 0, kind);
        assert!(agreed.is_some());
        wait::until_equal("it has caught up", agreed, || revisions(&cluster, 2, kind));
    }
    // It has the modules themselves: the others may go.
    cluster.settle();
    cluster.hosts[0].kill();
    let add = Request::new("POST", "/v1/grains/counter/a/add")
        .header("idempotency-key", "a")
        .body("[1]");
    wait::until("it serves the type", || {
        (cluster.hosts[2].client().send(&add).status == 200).then_some(())
    });
}

/// A type that nobody was told of is found when it's called first, however soon.
#[test]
fn a_host_that_was_away_serves_what_was_deployed_with_its_first_call() {
    let mut cluster = Cluster::start(3);
    cluster.hosts[2].kill();
    cluster.hosts[0].deploy("counter");
    cluster.hosts[2].start_again();
    let add = Request::new("POST", "/v1/grains/counter/a/add")
        .header("idempotency-key", "a")
        .body("[1]");
    let reply = wait::until("the host has found the others", || {
        let reply = cluster.hosts[2].client().send(&add);
        // Until then it can't know; that there's no such type would be wrong.
        (reply.status != 503).then_some(reply)
    });
    assert_eq!(reply.integer(), 1);
}

#[test]
fn deploys_at_once_on_two_hosts_get_one_order_that_all_hosts_have() {
    let cluster = Cluster::start(3);
    cluster.hosts[2]
        .client()
        .deploy("probe", &built::module_bytes("probe"))
        .expect(201);
    for round in 0..2u64 {
        // Other bytes each time, so that each is a revision of its own.
        let deploy = |at: usize| {
            let mut bytes = built::module_bytes(["probe", "counter"][at]);
            bytes.extend(custom_section(&format!("{round}-{at}")));
            let mut client = cluster.hosts[at].client();
            let path = "/v1/modules/probe?allow_breaking=true";
            std::thread::spawn(move || client.send(&Request::new("PUT", path).body(bytes)))
        };
        let both = [deploy(0), deploy(1)].map(|thread| thread.join().unwrap().expect(201).json());
        let numbers: BTreeSet<u64> = both.iter().map(|done| done["revision"].as_u64().unwrap()).collect();
        assert_eq!(numbers, BTreeSet::from([2 + 2 * round, 3 + 2 * round]), "{both:?}");
        let agreed = revisions(&cluster, 0, "probe").unwrap();
        for done in &both {
            let (number, hash) = (done["revision"].as_u64().unwrap(), done["blake3"].as_str().unwrap());
            let found = agreed.iter().find(|revision| revision.0 == number).unwrap();
            assert_eq!(found.1, hash, "each is the revision that its deploy was told");
        }
        assert_eq!(agreed.last().map(|last| (last.0, last.2)), Some((3 + 2 * round, true)));
        for at in 1..3 {
            wait::until_equal("all hosts have that order", Some(agreed.clone()), || {
                revisions(&cluster, at, "probe")
            });
        }
    }
}

/// A section of a module that means nothing.
fn custom_section(text: &str) -> Vec<u8> {
    let name = b"x";
    let length = 1 + name.len() + text.len();
    assert!(length < 128, "its length is one byte");
    let mut section = vec![0, length as u8, name.len() as u8];
    section.extend_from_slice(name);
    section.extend_from_slice(text.as_bytes());
    section
}
