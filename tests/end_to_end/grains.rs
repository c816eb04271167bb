//! Status, listing and deletion of grains.

use granary_tests::seed::{self, Random};
use granary_tests::{Client, Host, Request};
use serde_json::{Value, json};

fn counter() -> (Host, Client) {
    let host = Host::start();
    host.deploy("counter");
    let client = host.client();
    (host, client)
}

fn delete(client: &mut Client, key: &str) {
    client
        .send(&Request::new("DELETE", format!("/v1/grains/counter/{key}")))
        .expect(204);
}

fn keys(client: &mut Client, query: &str) -> (Vec<String>, Value) {
    let page = client.fetch(&format!("/v1/grains/counter{query}")).value();
    let keys = page["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key.as_str().unwrap().to_owned())
        .collect();
    (keys, page["next"].clone())
}

#[test]
fn status_says_what_is_known_without_running_the_grain() {
    let (_host, mut client) = counter();
    let status = client.fetch("/v1/grains/counter/alice").value();
    assert_eq!(status["exists"], false);
    client.call("counter/alice/add", "[1]").expect(200);
    client.call("counter/alice/add", "[1]").expect(200);
    let status = client.fetch("/v1/grains/counter/alice").value();
    assert_eq!(status["exists"], true, "{status}");
    assert_eq!(status["revision"], 1, "{status}");
    assert_eq!(status["seq"], 2, "{status}");
    assert_eq!(status["durability"], "committed", "{status}");
    assert!(status["memory_bytes"].as_u64().unwrap() >= 65_536, "{status}");
    assert!(status["idle_ms"].is_u64(), "{status}");
    assert!(status["host"].is_string(), "{status}");
    client.fetch("/v1/grains/nothing/alice").problem(404, "unknown_type");
}

#[test]
fn a_grain_that_was_only_read_does_not_exist() {
    let (_host, mut client) = counter();
    assert_eq!(client.fetch("/v1/grains/counter/alice/get").integer(), 0);
    assert_eq!(client.fetch("/v1/grains/counter/alice").value()["exists"], false);
    assert_eq!(keys(&mut client, "").0, Vec::<String>::new());
}

#[test]
fn the_last_error_is_kept() {
    let host = Host::start();
    host.deploy("probe");
    let mut client = host.client();
    client.call("probe/a/add", "[1]").expect(200);
    client.call("probe/a/trap_now", "").problem(500, "trap");
    let status = client.fetch("/v1/grains/probe/a").value();
    assert!(
        status["last_error"].as_str().is_some_and(|text| text.contains("trap")),
        "{status}"
    );
}

#[test]
fn keys_are_listed_in_order_by_prefix_and_page() {
    let (mut host, mut client) = counter();
    for key in ["b2", "a1", "b1", "b3", "c%2F1"] {
        client.call(&format!("counter/{key}/add"), "[1]").expect(200);
    }
    assert_eq!(
        keys(&mut client, ""),
        (
            vec!["a1".into(), "b1".into(), "b2".into(), "b3".into(), "c/1".into()],
            json!(null)
        )
    );
    let (first, next) = keys(&mut client, "?prefix=b&limit=2");
    assert_eq!(first, ["b1", "b2"]);
    let next = next.as_str().expect("there is more").to_owned();
    assert_eq!(
        keys(&mut client, &format!("?prefix=b&limit=2&cursor={next}")),
        (vec!["b3".into()], json!(null))
    );

    host.kill();
    host.start_again();
    assert_eq!(
        keys(&mut host.client(), "?prefix=b").0,
        ["b1", "b2", "b3"],
        "resident or not"
    );
    host.client().fetch("/v1/grains/nothing").problem(404, "unknown_type");
    host.client()
        .fetch("/v1/grains/counter?limit=none")
        .problem(400, "bad_arguments");
}

#[test]
fn a_deleted_grain_starts_anew_and_stays_deleted() {
    let (mut host, mut client) = counter();
    client.call("counter/alice/add", "[5]").expect(200);
    client.call("counter/bob/add", "[6]").expect(200);
    delete(&mut client, "alice");
    delete(&mut client, "alice");
    delete(&mut client, "never-there");
    assert_eq!(client.fetch("/v1/grains/counter/alice").value()["exists"], false);
    assert_eq!(keys(&mut client, "").0, ["bob"]);

    host.kill();
    host.start_again();
    let mut client = host.client();
    assert_eq!(keys(&mut client, "").0, ["bob"], "a deletion is durable");
    assert_eq!(client.fetch("/v1/grains/counter/alice/get").integer(), 0);
    let reply = client.call("counter/alice/add", "[1]");
    assert_eq!(reply.integer(), 1);
    let seq: u64 = reply.header("granary-seq").unwrap().parse().unwrap();
    assert!(seq > 2, "numbers are never used twice: {seq}");
    assert_eq!(client.fetch("/v1/grains/counter/bob/get").integer(), 6);
}

/// All kinds of doubles, each of a few bits and of many: in a body, in a query, between grains.
#[test]
fn a_float_is_the_same_one_bit_for_bit_wherever_it_goes() {
    let host = Host::start();
    host.deploy("probe");
    let mut client = host.client();
    let mut random = Random::new(seed::of_this_run());
    let mut floats = vec![
        9_007_199_254_740_991.0,
        -0.0,
        0.1,
        f64::MIN_POSITIVE,
        f64::MAX,
        5e-324,
        2.225_073_858_507_201e-308,
    ];
    while floats.len() < 5000 {
        let float = f64::from_bits(random.bits());
        floats.extend(Some(float).filter(|float| float.is_finite()));
    }
    let same = |got: &Value| {
        let got: Vec<u64> = got
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_f64().unwrap().to_bits())
            .collect();
        got.iter()
            .zip(&floats)
            .filter(|(got, sent)| **got != sent.to_bits())
            .count()
            + floats.len().abs_diff(got.len())
    };
    let sent = json!([floats]).to_string();
    assert_eq!(same(&client.call("probe/a/echo", &sent).value()), 0);
    let onward = json!(["probe", "b", "echo", [floats]]).to_string();
    assert_eq!(same(&client.call("probe/a/call", &onward).value()["value"]), 0);
    let asked = client.fetch("/v1/grains/probe/a/echo?value=9007199254740991.0");
    assert_eq!(asked.text(), "9007199254740991.0");
}
