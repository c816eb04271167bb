//! Bytes that a client library would never send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use granary_tests::occupied::occupy;
use granary_tests::{Client, Host, Reply, Request, wait};

use crate::{probe_with, refused, unchanged};

/// Sends bytes on a connection of their own and reads the reply.
fn ask(host: &Host, bytes: &[u8]) -> (Client, Reply) {
    let mut client = host.client();
    client.write_bytes(bytes).unwrap();
    let reply = client.read().unwrap_or_else(|error| {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        panic!("{shown:?} got no reply: {error}")
    });
    (client, reply)
}

#[test]
fn a_client_that_ends_its_half_behind_its_request_is_answered() {
    let (host, mut client) = probe_with(&[]);
    for count in 1..=50 {
        let mut stream = TcpStream::connect(host.address()).unwrap();
        stream
            .write_all(format!("{ADD}content-length: 3\r\n\r\n[1]").as_bytes())
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        assert!(reply.ends_with(&format!("\r\n\r\n{count}")), "{reply}");
    }
    assert_eq!(client.fetch("/v1/grains/probe/a/get").integer(), 50);
}

#[test]
fn a_client_that_breaks_off_waits_for_nothing_any_more() {
    let (host, mut client) = probe_with(&[]);
    let occupied = occupy(&host, "busy");
    let in_flight = || host.metric("granary_http_requests_in_flight").unwrap();
    // Its turn's own calls come from inside; those in flight are the one that occupies it, and the one that asks.
    let before = in_flight();
    let mut gone = TcpStream::connect(host.address()).unwrap();
    gone.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    gone.write_all(
        b"POST /v1/grains/probe/busy/add HTTP/1.1\r\nhost: localhost\r\ngranary-timeout: 60s\r\ncontent-length: 3\r\n\r\n[1]",
    )
    .unwrap();
    wait::until_equal("it waits", before + 1.0, in_flight);
    // With a reply that it hasn't read, its system breaks the connection off.
    drop(gone);
    wait::until_equal("it waits for nothing", before, in_flight);
    occupied.release();
    // Its call took place all the same.
    wait::until_equal("its turn is over", 1, || {
        client.fetch("/v1/grains/probe/busy/get").integer()
    });
}

const ADD: &str = "POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: localhost\r\n";

#[test]
fn what_is_not_http_is_told_so_and_does_nothing() {
    let (host, mut client) = probe_with(&[]);
    for (bytes, status, code) in [
        ("\r\n\r\nnonsense\r\n\r\n".to_owned(), 400, "bad_arguments"),
        ("\0\u{1}\u{2}\u{3}\r\n\r\n".into(), 400, "bad_arguments"),
        (format!("{ADD}content-length: x\r\n\r\n[1]"), 400, "bad_arguments"),
        (format!("{ADD}content-length: -3\r\n\r\n[1]"), 400, "bad_arguments"),
        (
            format!("{ADD}content-length: 3\r\ncontent-length: 4\r\n\r\n[1]"),
            400,
            "bad_arguments",
        ),
        (format!("{ADD}content-length: 3, 4\r\n\r\n[1]"), 400, "bad_arguments"),
        (format!("{ADD}content-length: 0x3\r\n\r\n[1]"), 400, "bad_arguments"),
        (
            format!("{ADD}transfer-encoding: xchunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n"),
            400,
            "bad_arguments",
        ),
        (
            format!("{ADD}transfer-encoding: chunked\r\n\r\nz\r\n[1]\r\n0\r\n\r\n"),
            400,
            "bad_arguments",
        ),
        (format!("{ADD}x\r\n\r\n"), 400, "bad_arguments"),
        (format!("{ADD}x y: z\r\n\r\n"), 400, "bad_arguments"),
        (format!("{ADD}x: a\0b\r\n\r\n"), 400, "bad_arguments"),
        (format!("{ADD}{}\r\n", "x: y\r\n".repeat(200)), 431, "too_large"),
        (format!("{ADD}x: {}\r\n\r\n", "y".repeat(100_000)), 431, "too_large"),
        (format!("{ADD}{}: y\r\n\r\n", "x".repeat(100_000)), 431, "too_large"),
        (
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)),
            431,
            "too_large",
        ),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\u{12}\u{4}\0\0\0\0\0".into(),
            505,
            "bad_arguments",
        ),
    ] {
        let shown: String = bytes.chars().take(120).collect();
        let (mut sender, reply) = ask(&host, bytes.as_bytes());
        refused(&reply, status, code, &shown);
        // Whatever follows, the connection is at its end.
        let ended = sender.read().map(|reply| reply.status).map_err(|error| error.kind());
        assert!(
            matches!(ended, Err(kind) if kind != ErrorKind::WouldBlock),
            "{shown}: {ended:?}"
        );
    }
    unchanged(&mut client);
}

#[test]
fn no_request_hides_in_anothers_body() {
    let (host, mut client) = probe_with(&[]);
    let hidden = format!("{ADD}content-length: 3\r\n\r\n[1]");
    let get = "POST /v1/grains/probe/a/get HTTP/1.1\r\nhost: localhost\r\n";
    for lengths in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\n",
    ] {
        let (mut sender, reply) = ask(&host, format!("{get}{lengths}\r\n0\r\n\r\n{hidden}").as_bytes());
        assert!([200, 400].contains(&reply.status), "{lengths}: {}", reply.text());
        assert_eq!(reply.header("connection"), Some("close"), "{lengths}");
        assert!(sender.read().is_err(), "{lengths}");
    }
    unchanged(&mut client);
}

#[test]
fn odd_verbs_and_targets_change_nothing() {
    let (host, mut client) = probe_with(&[]);
    for verb in [
        "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "post",
    ] {
        let mut other = host.client();
        let end = "host: localhost\r\nconnection: close\r\n\r\n";
        other
            .write_bytes(format!("{verb} /v1/grains/probe/a/add HTTP/1.1\r\n{end}").as_bytes())
            .unwrap();
        if verb == "HEAD" {
            // Its reply announces a body that doesn't come.
            continue;
        }
        let reply = other.read().unwrap();
        refused(&reply, 405, "read_only_verb", verb);
        assert_eq!(reply.header("allow"), Some("POST"), "{verb}");
    }
    for (line, status, code) in [
        ("OPTIONS *", 404, "not_found"),
        ("CONNECT localhost:80", 404, "not_found"),
        ("CONNECT evil.example:443", 403, "forbidden"),
        ("POST http://evil.example/v1/grains/probe/a/add", 403, "forbidden"),
        ("POST //v1/grains/probe/a/add", 404, "not_found"),
        ("POST /v1/grains/../grains/probe/a/add", 404, "not_found"),
        ("POST /V1/grains/probe/a/add", 404, "not_found"),
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n[1]");
        refused(&ask(&host, bytes.as_bytes()).1, status, code, line);
    }
    unchanged(&mut client);
    let absolute = "GET http://localhost/v1/grains/probe/a/get HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(ask(&host, absolute.as_bytes()).1.integer(), 0);
    let upgrade = "GET /v1/grains/probe/a/get HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(
        ask(&host, upgrade.as_bytes()).1.integer(),
        0,
        "an upgrade that isn't offered is passed over"
    );
}

#[test]
fn several_hosts_or_none_are_refused() {
    let (host, mut client) = probe_with(&[]);
    for hosts in [
        "",
        "host: localhost\r\nhost: localhost\r\n",
        "host: localhost\r\nhost: evil.example\r\n",
    ] {
        let bytes = format!("POST /v1/grains/probe/a/add HTTP/1.1\r\n{hosts}content-length: 3\r\n\r\n[1]");
        refused(&ask(&host, bytes.as_bytes()).1, 400, "bad_arguments", hosts);
    }
    unchanged(&mut client);
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let (host, mut client) = probe_with(&[]);
    let mut ahead = host.client();
    let one = Request::new("POST", "/v1/grains/probe/b/add").body("[1]");
    for _ in 0..500 {
        ahead.write(&one).unwrap();
    }
    for n in 1..=500 {
        assert_eq!(ahead.read().unwrap().integer(), n);
    }
    unchanged(&mut client);
}

#[test]
fn a_body_is_asked_for_only_when_it_is_wanted() {
    let (host, mut client) = probe_with(&[]);
    let mut asking = host.client();
    asking
        .write_bytes(format!("{ADD}expect: 100-continue\r\ncontent-length: 3\r\n\r\n").as_bytes())
        .unwrap();
    let go_on = asking.read().unwrap();
    assert_eq!(go_on.status, 100);
    asking.write_bytes(b"[0]").unwrap();
    assert_eq!(asking.read().unwrap().integer(), 0);
    let foreign = "POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: evil.example\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    refused(&ask(&host, foreign.as_bytes()).1, 403, "forbidden", "not asked for");
    unchanged(&mut client);
}
