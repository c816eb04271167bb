//! Any host tells what guests wrote on all of them, and which hosts it couldn't ask.

use granary_tests::cli::granary;
use granary_tests::{Cluster, Request, wait};
use serde_json::{Value, json};

use crate::circles::Places;

fn write(cluster: &Cluster, key: &str, message: &str) {
    let by = cluster.running().next().unwrap();
    let body = json!(["info", message]).to_string();
    by.client().call(&format!("probe/{key}/log"), &body).expect(200);
}

fn page(cluster: &Cluster, at: usize) -> Value {
    cluster.hosts[at].client().fetch("/v1/logs?type=probe").value()
}

fn messages(page: &Value) -> Vec<&str> {
    let records = page["records"].as_array().unwrap().iter();
    records.map(|record| record["message"].as_str().unwrap()).collect()
}

#[test]
fn any_host_tells_and_follows_the_records_of_all_and_names_those_that_are_silent() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("probe");
    let mut places = Places::new(&cluster);
    let keys: Vec<String> = (0..3).map(|at| places.take(at)).collect();
    let ids: Vec<String> = (0..3).map(|at| cluster.id(at)).collect();
    for (key, message) in keys.iter().zip(["one", "two", "three"]) {
        write(&cluster, key, message);
    }
    for at in 0..3 {
        let page = page(&cluster, at);
        assert_eq!(
            (messages(&page), &page["silent"]),
            (vec!["one", "two", "three"], &json!([]))
        );
        for (record, id) in page["records"].as_array().unwrap().iter().zip(&ids) {
            assert_eq!(record["host"], id.as_str(), "each ran on a host of its own");
        }
    }
    // Followed by one host, while each writes.
    let mut client = cluster.hosts[1].client();
    client
        .write(&Request::new("GET", "/v1/logs?follow=true&type=probe"))
        .unwrap();
    let mut told = client.into_lines().filter_map(|line| {
        let data: Value = serde_json::from_str(line.strip_prefix("data: ")?).unwrap();
        Some(data)
    });
    let mut next = || told.next().unwrap();
    let first: Vec<Value> = (0..3).map(|_| next()["message"].take()).collect();
    assert_eq!(first, ["one", "two", "three"]);
    for (number, key) in keys.iter().cycle().take(9).enumerate() {
        write(&cluster, key, &format!("followed {number}"));
        assert_eq!(next()["message"], format!("followed {number}"));
    }

    cluster.hosts[2].kill();
    let silent = page(&cluster, 0);
    assert_eq!(silent["silent"], json!([ids[2]]));
    assert!(!messages(&silent).contains(&"three") && messages(&silent).contains(&"one"));
    let said = granary(&cluster.hosts[0], &["logs", "probe"]);
    assert!(said.ok().contains("  one") && said.stderr.contains(&format!("host {} doesn't answer", ids[2])));
    assert_eq!(next()["hosts"], json!([ids[2]]), "who follows is told, too");
    write(&cluster, &keys[0], "without the third");
    assert_eq!(next()["message"], "without the third");

    // It comes back without what it had in memory, and is heard again.
    cluster.hosts[2].start_again();
    cluster.settle();
    wait::until_equal("no host is silent", json!([]), || page(&cluster, 0)["silent"].take());
    assert_eq!(next()["hosts"], json!([]));
    let back = Places::new(&cluster).take(2);
    write(&cluster, &back, "from the third");
    assert_eq!(next()["message"], "from the third");
}
