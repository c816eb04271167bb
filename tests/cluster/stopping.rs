//! Hosts that are stopped (SIGTERM) while clients talk to the others: no call fails, what was begun is ended, and nothing hangs.

use std::sync::Arc;

use granary_tests::host::signal;
use granary_tests::seed::{self, Random};
use granary_tests::{Cluster, Request, soak, wait};
use serde_json::{Value, json};

use crate::targets::Targets;
use crate::writers::{self, Writers};

/// How often each of the three is stopped and started again.
fn rounds() -> usize {
    soak::or(1, 20)
}

#[test]
fn each_host_stops_in_turn_and_no_call_of_the_others_clients_fails() {
    let mut random = Random::new(seed::of_this_run());
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let targets = Arc::new(Targets::new(&cluster));
    let writers = Writers::start_at(targets.clone(), 6, 8, &mut random);
    writers.until_acknowledged(300);
    for round in 0..rounds() {
        for at in 0..3 {
            targets.spare(&cluster, at);
            // Each client has begun a call since that goes elsewhere.
            writers.until_all_get_on(2);
            writers.take_longest();
            assert!(cluster.hosts[at].stop().success());
            cluster.hosts[at].has_logged("stopped took_ms");
            writers.until_all_get_on(20);
            assert_eq!(writers.failures(), [""; 0], "a stop fails no call");
            let longest = writers.take_longest();
            println!("round {round}, host {at}: the longest call took {longest:?}");
            cluster.hosts[at].start_again();
            cluster.settle();
        }
    }
    targets.take(&cluster);
    writers.until_acknowledged(100);
    println!("{} calls", writers.acknowledged());
    assert_eq!(writers.failures(), [""; 0]);
    // None was left open: each counter has to be exactly what was acknowledged.
    writers::check(&cluster, writers.stop());
}

/// Turns that are under way on a host when it's told to stop: one that has called grains on all hosts, and one that such a turn waits for.
#[test]
fn what_was_under_way_on_a_host_that_stops_is_finished_there() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("probe");
    let at = 2;
    let mut client = cluster.hosts[0].client();
    let mut key_on = |host: usize, name: &str| {
        let key = format!("{name}{host}");
        client.call(&format!("probe/{key}/add"), "[1]").expect(200);
        let body = json!({ "type": "probe", "key": key, "host": cluster.id(host) }).to_string();
        let moves = Request::new("POST", "/v1/cluster/move").body(body);
        cluster.hosts[0].owner().send(&moves).expect(200);
        key
    };
    let gate = key_on(0, "gate");
    let (here, elsewhere) = (key_on(at, "parent"), key_on(1, "parent"));
    let children: Vec<String> = (0..3).map(|host| key_on(host, "child")).collect();
    let (held, held_elsewhere) = (key_on(at, "held"), key_on(1, "held"));
    let call = |key: &str, method: &str, args: Value| json!({ "grain_type": "probe", "key": key, "method": method, "args": args });
    // One parent's child waits on the host that stops; the other parent is there itself.
    let fan_out = |parent: &str, held: &str| {
        let mut calls: Vec<Value> = vec![call(held, "wait_at", json!([gate]))];
        calls.extend(children.iter().map(|child| call(child, "add", json!([1]))));
        let path = format!("/v1/grains/probe/{parent}/call_all");
        let mut client = cluster.hosts[0].client();
        let request = Request::new("POST", path).header("granary-timeout", "60s");
        client.write(&request.body(json!([calls]).to_string())).unwrap();
        client
    };
    let under_way = [fan_out(&elsewhere, &held), fan_out(&here, &held_elsewhere)];
    for child in &children {
        wait::until("both have called their children", || {
            (client.call(&format!("probe/{child}/get"), "[]").integer() == 3).then_some(())
        });
    }
    let gone = cluster.id(at);
    signal(cluster.hosts[at].pid(), "TERM");
    cluster.hosts[at].has_logged("stopping");
    // Its other grains have gone already; new calls for them are served where they are now.
    let rests = format!("/v1/grains/probe/{}", children[at]);
    wait::until("a grain at rest has gone", || {
        let status = client.fetch(&rests).value();
        (status["resident"] == true && status["host"] != gone.as_str()).then_some(())
    });
    client.call(&format!("probe/{}/add", children[at]), "[1]").expect(200);
    let opens = Request::new("DELETE", format!("/v1/grains/probe/{gate}"));
    client.send(&opens).expect(204);
    for mut client in under_way {
        let reply = client.read().unwrap();
        let codes: Vec<Value> = reply
            .value()
            .as_array()
            .unwrap()
            .iter()
            .map(|outcome| outcome["code"].clone())
            .collect();
        assert_eq!(codes, ["ok"; 4], "{}", reply.text());
    }
    let status = wait::until("the host has stopped", || cluster.hosts[at].end());
    assert!(status.success());
    cluster.hosts[at].has_logged("stopped took_ms");
}

/// What waits for hosts that are gone would wait for ever.
#[test]
fn a_host_whose_others_are_gone_stops_all_the_same_and_says_what_it_left() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let mut client = cluster.hosts[0].client();
    let here = (0..100).map(|key| format!("counter/k{key}")).find(|grain| {
        client.call(&format!("{grain}/add"), "[1]").expect(200);
        cluster.holder(grain) == 0
    });
    cluster.hosts[1].kill();
    cluster.hosts[2].kill();
    // Its commit finds no majority.
    let waits = Request::new("POST", format!("/v1/grains/{}/add", here.unwrap())).header("granary-timeout", "60s");
    client.write(&waits.body("[1]")).unwrap();
    wait::until("the others are seen to be gone", || {
        let view = cluster.hosts[0].view();
        let members = view["members"].as_array().unwrap().clone();
        (members.iter().filter(|member| member["state"] == "down").count() == 2).then_some(())
    });
    assert!(cluster.hosts[0].stop().success());
    cluster.hosts[0].has_logged("stopped before everything had ended");
}

#[test]
fn a_host_that_nobody_has_joined_stops_at_once() {
    let mut cluster = Cluster::start_first(&[]);
    cluster.hosts[0].deploy("counter");
    cluster.hosts[0].client().call("counter/a/add", "[1]").expect(200);
    assert!(cluster.hosts[0].stop().success());
    cluster.hosts[0].has_logged("stopped took_ms");
}
