//! Headers that say too much, or nothing that is understood.

use granary_tests::{Client, Reply, Request};

use crate::{probe_with, refused, unchanged};

fn add(client: &mut Client, name: &str, value: &str) -> Reply {
    client.send(
        &Request::new("POST", "/v1/grains/probe/a/add")
            .header(name, value)
            .body("[0]"),
    )
}

#[test]
fn timeouts_that_are_none_are_refused_with_what_one_is() {
    let (_host, mut client) = probe_with(&[]);
    for wrong in [
        "",
        "0",
        "0s",
        "0ms",
        "5",
        "s",
        "-1s",
        "+1s",
        "1.5s",
        "1e3ms",
        "2 s",
        "2S",
        "1h",
        "61s",
        "2m",
        "1s1ms",
        "soon",
        "NaN",
        "99999999999999999999s",
        "18446744073709551615m",
        "\u{fc}s",
    ] {
        let problem = refused(&add(&mut client, "granary-timeout", wrong), 400, "bad_arguments", wrong);
        assert!(
            problem["detail"].as_str().unwrap().contains("500ms"),
            "{wrong}: {problem}"
        );
    }
    let twice = Request::new("POST", "/v1/grains/probe/a/add")
        .header("granary-timeout", "1s")
        .header("granary-timeout", "2s")
        .body("[1]");
    refused(&client.send(&twice), 400, "bad_arguments", "twice");
    for right in ["1s", "60s", "1m", "60000ms"] {
        add(&mut client, "granary-timeout", right).expect(200);
    }
    unchanged(&mut client);
}

#[test]
fn idempotency_keys_that_are_none_are_refused_with_what_one_is() {
    let (_host, mut client) = probe_with(&[]);
    let long = "k".repeat(256);
    for wrong in ["", "a b", "a\tb", "\u{fc}", "\u{1f980}", &long] {
        let problem = refused(&add(&mut client, "idempotency-key", wrong), 400, "bad_arguments", wrong);
        assert!(
            problem["detail"].as_str().unwrap().contains("255"),
            "{wrong}: {problem}"
        );
    }
    let twice = Request::new("POST", "/v1/grains/probe/a/add")
        .header("idempotency-key", "a")
        .header("idempotency-key", "a")
        .body("[1]");
    refused(&client.send(&twice), 400, "bad_arguments", "twice");
    add(&mut client, "idempotency-key", &"k".repeat(255)).expect(200);
    unchanged(&mut client);
}

#[test]
fn a_traceparent_that_is_none_starts_a_new_trace() {
    let (_host, mut client) = probe_with(&[]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for garbage in [
        "",
        "x",
        "00-0-0-0",
        &"-".repeat(1000),
        &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
        &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
        &format!("ff-{trace}-00f067aa0ba902b7-01"),
    ] {
        let reply = add(&mut client, "traceparent", garbage);
        let id = reply.expect(200).header("granary-request-id").unwrap();
        assert!(id.len() == 32 && id != "0".repeat(32) && id != trace, "{garbage}: {id}");
    }
    let reply = add(&mut client, "traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    assert_eq!(reply.header("granary-request-id"), Some(trace));
}

#[test]
fn compressed_bodies_are_refused() {
    let (_host, mut client) = probe_with(&[]);
    for coding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        let problem = refused(
            &add(&mut client, "content-encoding", coding),
            400,
            "bad_arguments",
            coding,
        );
        assert!(
            problem["detail"].as_str().unwrap().contains("content-encoding"),
            "{problem}"
        );
    }
    add(&mut client, "content-encoding", "identity").expect(200);
}

#[test]
fn foreign_origins_and_hosts_change_nothing() {
    let (host, mut client) = probe_with(&[]);
    let port = host.address().port();
    for (name, value, status, code) in [
        ("origin", "https://evil.example".to_owned(), 403, "forbidden"),
        ("origin", "null".into(), 403, "forbidden"),
        ("origin", format!("http://127.0.0.1:{}", port ^ 1), 403, "forbidden"),
        ("host", "evil.example".into(), 403, "forbidden"),
        ("host", format!("127.0.0.1.evil.example:{port}"), 403, "forbidden"),
        ("host", String::new(), 400, "bad_arguments"),
        ("host", "a b".into(), 400, "bad_arguments"),
        ("host", "localhost:port".into(), 400, "bad_arguments"),
    ] {
        let request = Request::new("POST", "/v1/grains/probe/a/add")
            .header(name, &value)
            .body("[1]");
        refused(&client.send(&request), status, code, &value);
    }
    unchanged(&mut client);
}
