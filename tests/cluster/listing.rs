//! Lists of keys, whichever hosts have the grains: complete, or refused.

use std::collections::BTreeSet;

use granary_tests::{Client, Cluster, Request, wait};
use serde_json::Value;

const KEYS: usize = 60;
const PAGE: usize = 7;

fn key(number: usize) -> String {
    format!("k{number:02}")
}

/// All keys, page after page.
fn pages(client: &mut Client) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client
            .fetch(&format!("/v1/grains/counter?limit={PAGE}{cursor}"))
            .value();
        let listed = page["keys"].as_array().unwrap().iter();
        keys.extend(listed.map(|key| key.as_str().unwrap().to_owned()));
        match &page["next"] {
            Value::Null => return keys,
            next => cursor = format!("&cursor={}", next.as_str().unwrap()),
        }
        assert_eq!(keys.len() % PAGE, 0, "a page that isn't the last one is full");
    }
}

#[test]
fn a_list_is_complete_without_one_of_three_hosts_and_refused_without_two() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    for number in 0..KEYS {
        let path = format!("counter/{}/add", key(number));
        cluster.hosts[number % 3].client().call(&path, "[1]").expect(200);
    }
    let mut all: BTreeSet<String> = (0..KEYS).map(key).collect();
    for host in &cluster.hosts {
        assert!(pages(&mut host.client()).iter().eq(&all), "each once, in order");
    }
    cluster.hosts[2].kill();
    assert!(pages(&mut cluster.hosts[0].client()).iter().eq(&all));
    // These are on two hosts, and the third will not hear of them.
    for number in KEYS..KEYS + 20 {
        let path = format!("/v1/grains/counter/{}/add", key(number));
        let add = Request::new("POST", path).header("idempotency-key", "once").body("[1]");
        wait::until("a grain of the dead host is served by another", || {
            (cluster.hosts[number % 2].client().send(&add).status == 200).then_some(())
        });
        all.insert(key(number));
    }
    for at in 0..2 {
        assert!(pages(&mut cluster.hosts[at].client()).iter().eq(&all), "host {at}");
    }
    cluster.hosts[2].start_again();
    cluster.settle();
    cluster.hosts[0].kill();
    cluster.hosts[1].kill();
    // It has heard of all that was done in its presence, and can't know whether that's all.
    let refused = cluster.hosts[2].client().fetch("/v1/grains/counter?limit=1000");
    let problem = refused.problem(503, "no_quorum");
    assert!(
        problem["detail"].as_str().unwrap().contains("doesn't answer"),
        "{problem}"
    );
    cluster.hosts[0].start_again();
    wait::until("two of three are there", || {
        let listed = cluster.hosts[2].client().fetch("/v1/grains/counter?limit=1000");
        (listed.status == 200).then_some(())
    });
    assert!(pages(&mut cluster.hosts[2].client()).iter().eq(&all));
}
