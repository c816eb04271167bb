//! The README's example: add, get, mirror; what every reply says of itself; what a kill leaves.

use granary_tests::{Host, Request};
use serde_json::json;

#[test]
fn a_counter_counts_and_survives_a_kill() {
    let mut host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    assert_eq!(client.call("counter/alice/add", r#"{"n": 5}"#).integer(), 5);
    assert_eq!(client.call("counter/alice/add", "[37]").integer(), 42);
    assert_eq!(client.call("counter/bob/add", r#"{"n": -1}"#).integer(), -1);
    assert_eq!(client.fetch("/v1/grains/counter/alice/get").integer(), 42);

    host.kill();
    host.start_again();
    let mut client = host.client();
    assert_eq!(client.fetch("/v1/grains/counter/alice/get").integer(), 42);
    assert_eq!(client.call("counter/bob/get", "").integer(), -1);
    assert_eq!(client.call("counter/alice/add", r#"{"n": 1}"#).integer(), 43);
}

#[test]
fn a_clean_stop_loses_nothing_and_ends_well() {
    let mut host = Host::start();
    host.deploy("counter");
    host.client().call("counter/alice/add", "[7]").expect(200);
    assert!(host.stop().success());
    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/counter/alice/get").integer(), 7);
}

#[test]
fn one_counter_mirrors_into_another() {
    let host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    client.call("counter/alice/add", "[5]").expect(200);
    assert_eq!(client.call("counter/alice/mirror", r#"{"to": "bob"}"#).integer(), 5);
    assert_eq!(client.fetch("/v1/grains/counter/bob/get").integer(), 5);
}

#[test]
fn a_reply_says_what_it_saw_and_how_sure_it_is() {
    let host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    let first = client.call("counter/alice/add", "[1]");
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("granary-seq"), Some("1"));
    assert_eq!(first.header("granary-revision"), Some("1"));
    assert_eq!(first.header("granary-durability"), Some("committed"));
    let host_id = first.header("granary-host").unwrap().to_owned();
    assert!(!host_id.is_empty());
    let second = client.call("counter/alice/add", "[1]");
    assert_eq!(second.header("granary-seq"), Some("2"));
    let read = client.fetch("/v1/grains/counter/alice/get");
    assert_eq!(
        read.header("granary-seq"),
        Some("2"),
        "a read commits nothing and says what it saw"
    );
    assert_eq!(read.header("granary-host"), Some(host_id.as_str()));
    let ids = [&first, &second, &read].map(|reply| reply.header("granary-request-id").unwrap());
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2],
        "each request has an id of its own: {ids:?}"
    );
}

#[test]
fn a_trace_goes_through() {
    let host = Host::start();
    host.deploy("probe");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = Request::new("POST", "/v1/grains/probe/a/whoami")
        .header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    let reply = host.client().send(&request);
    assert_eq!(reply.header("granary-request-id"), Some(trace));
    assert_eq!(reply.value(), json!(["a", trace]), "the guest sees the id, too");
}

#[test]
fn grains_do_not_share_a_hash_seed() {
    let host = Host::start();
    host.deploy("probe");
    let mut client = host.client();
    let [a, b] = ["a", "b"].map(|key| client.call(&format!("probe/{key}/random"), "").value());
    assert_ne!(a, b);
}
