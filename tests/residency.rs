//! Grains leave memory and come back as they were; what each durability keeps.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use granary_tests::{Client, Host, Request, wait};
use serde_json::{Value, json};

const IDLE: &[&str] = &["--idle-timeout", "100ms"];

fn wait_for_eviction(client: &mut Client, grain: &str) {
    wait::until_equal("the grain is evicted", json!(false), || {
        status(client, grain)["resident"].clone()
    });
}

fn status(client: &mut Client, grain: &str) -> Value {
    client.fetch(&format!("/v1/grains/{grain}")).value()
}

#[test]
fn an_idle_grain_leaves_memory_and_comes_back_as_it_was() {
    let host = Host::start_with(IDLE);
    host.deploy("probe");
    let mut client = host.client();
    client.call("probe/a/add", "[5]").expect(200);
    client.call("probe/a/fill", "[1000000, 7]").expect(200);
    client.call("probe/a/poke", "[999999, 8]").expect(200);
    let before = client.call("probe/a/checksum", "").value();
    let pages = client.call("probe/a/memory_pages", "").integer();
    for round in 0..3 {
        wait_for_eviction(&mut client, "probe/a");
        assert_eq!(status(&mut client, "probe/a")["exists"], true);
        assert_eq!(client.call("probe/a/checksum", "").value(), before, "round {round}");
        assert_eq!(client.call("probe/a/memory_pages", "").integer(), pages);
    }
    assert_eq!(client.call("probe/a/add", "[1]").integer(), 6);
}

#[test]
fn large_states_survive_kills() {
    let mut host = Host::start();
    host.deploy("probe");
    let mut client = host.client();
    client.call("probe/a/fill", "[20000000, 7]").expect(200);
    for at in [0, 4095, 4096, 10_000_000, 19_999_999] {
        client.call("probe/a/poke", &format!("[{at}, 9]")).expect(200);
    }
    let before = client.call("probe/a/checksum", "").value();
    for _ in 0..2 {
        host.kill();
        host.start_again();
        assert_eq!(host.client().call("probe/a/checksum", "").value(), before);
    }
    let mut client = host.client();
    client.call("probe/a/poke", "[4096, 7]").expect(200);
    assert_ne!(client.call("probe/a/checksum", "").value(), before);
}

#[test]
fn evictions_among_calls_lose_nothing() {
    let host = Host::start_with(&["--idle-timeout", "10ms"]);
    host.deploy("counter");
    let address = host.address();
    let clients: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                for n in 1..=40 {
                    assert_eq!(client.call(&format!("counter/k{number}/add"), "[1]").integer(), n);
                    // Around the idle time, so that calls meet evictions in every stage.
                    std::thread::sleep(std::time::Duration::from_millis(5 + n as u64 % 12));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn a_volatile_grain_survives_eviction_and_a_planned_restart_but_no_crash() {
    let mut host = Host::start_with(IDLE);
    host.deploy("probe-volatile");
    let mut client = host.client();
    let reply = client.call("probe-volatile/a/add", "[5]");
    assert_eq!(reply.integer(), 5);
    assert_eq!(reply.header("granary-durability"), Some("volatile"));
    wait_for_eviction(&mut client, "probe-volatile/a");
    assert_eq!(client.fetch("/v1/grains/probe-volatile/a/get").integer(), 5);
    assert!(host.stop().success());
    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/probe-volatile/a/get").integer(), 5);
}

/// Some in memory only, some written when they left it.
#[test]
fn volatile_grains_are_listed_whether_they_are_in_memory_or_not() {
    let mut host = Host::start();
    host.deploy("probe-volatile");
    let add = |host: &Host, key: &str| {
        host.client()
            .call(&format!("probe-volatile/{key}/add"), "[1]")
            .integer()
    };
    let page = |host: &Host, query: &str| {
        host.client()
            .fetch(&format!("/v1/grains/probe-volatile{query}"))
            .value()
    };
    for key in ["b1", "b3"] {
        add(&host, key);
    }
    assert!(host.stop().success());
    host.start_again();
    for key in ["a", "b2", "b3", "b4"] {
        add(&host, key);
    }
    assert_eq!(
        page(&host, "?prefix=b")["keys"],
        serde_json::json!(["b1", "b2", "b3", "b4"])
    );
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = page(&host, &format!("?limit=2{cursor}"));
        seen.extend(
            page["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key.as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["a", "b1", "b2", "b3", "b4"]);
    host.client()
        .send(&Request::new("DELETE", "/v1/grains/probe-volatile/b2"))
        .expect(204);
    assert_eq!(page(&host, "?prefix=b")["keys"], serde_json::json!(["b1", "b3", "b4"]));
}

#[test]
fn a_trap_undoes_its_turn_whatever_the_durability() {
    let host = Host::start();
    for guest in ["probe", "probe-relaxed", "probe-volatile"] {
        host.deploy(guest);
        let mut client = host.client();
        for _ in 0..3 {
            client.call(&format!("{guest}/a/add"), "[1]").expect(200);
            client
                .call(&format!("{guest}/a/trap_after_write"), "[100]")
                .problem(500, "trap");
        }
        assert_eq!(
            client.fetch(&format!("/v1/grains/{guest}/a/get")).integer(),
            3,
            "{guest}"
        );
    }
}

#[test]
fn a_relaxed_grain_is_durable_soon() {
    let mut host = Host::start();
    host.deploy("probe-relaxed");
    host.deploy("counter");
    let mut client = host.client();
    let reply = client.call("probe-relaxed/a/add", "[5]");
    assert_eq!(reply.integer(), 5);
    assert_eq!(reply.header("granary-durability"), Some("relaxed"));
    // The log is one order: once a later commit is durable, so is this one.
    client.call("counter/a/add", "[1]").expect(200);
    host.kill();
    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/probe-relaxed/a/get").integer(), 5);
}

#[test]
fn more_grains_than_fit_take_turns_in_memory() {
    let host = Host::start_with(&["--max-resident", "8"]);
    host.deploy("counter");
    let mut client = host.client();
    for round in 1..=3 {
        for key in 0..40 {
            assert_eq!(
                client.call(&format!("counter/k{key}/add"), "[1]").integer(),
                round,
                "key {key}"
            );
        }
    }
    let resident = host.metric("granary_activations").unwrap();
    assert!(resident <= 8.0, "{resident} resident");
    assert!(host.metric("granary_evictions_total").unwrap() >= 32.0);
}
