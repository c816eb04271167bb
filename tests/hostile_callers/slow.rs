//! Callers that take their time, or leave in the middle.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use granary_tests::{Request, wait};

use crate::{probe_with, refused, unchanged};

const HASTY: &[&str] = &[
    "--http-header-timeout",
    "300ms",
    "--http-body-timeout",
    "300ms",
    "--http-reply-timeout",
    "300ms",
    "--http-idle-timeout",
    "2s",
];

#[test]
fn headers_and_bodies_that_stop_coming_are_a_slow_client() {
    let (host, mut client) = probe_with(HASTY);
    for part in [
        "P",
        "POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: loc",
        "POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n",
        "POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n[1",
        "POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1",
    ] {
        let mut slow = host.client();
        slow.write_bytes(part.as_bytes()).unwrap();
        let reply = slow.read().unwrap();
        let problem = refused(&reply, 408, "slow_client", part);
        assert_eq!(problem["retryable"], true);
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(slow.read().is_err(), "{part}: the connection is closed");
    }
    unchanged(&mut host.client());
    client.close();
    assert_eq!(
        host.metric("granary_http_requests_total").map(|count| count > 5.0),
        Some(true)
    );
}

#[test]
fn many_half_open_connections_leave_room_for_others_and_end() {
    let (host, mut client) = probe_with(HASTY);
    let mut open: Vec<TcpStream> = Vec::new();
    for n in 0..300 {
        let mut stream = TcpStream::connect(host.address()).unwrap();
        if n % 3 > 0 {
            stream
                .write_all(b"POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: localhost\r\n")
                .unwrap();
        }
        if n % 3 > 1 {
            stream.write_all(b"content-length: 3\r\n\r\n[").unwrap();
        }
        open.push(stream);
    }
    assert_eq!(
        client.call("probe/b/add", "[1]").integer(),
        1,
        "others are served meanwhile"
    );
    client.close();
    // This one asks.
    wait::until_equal("all of them are gone", Some(1.0), || {
        host.metric("granary_http_connections")
    });
    unchanged(&mut host.client());
}

#[test]
fn headers_that_trickle_for_ever_are_cut_off() {
    let (host, mut client) = probe_with(HASTY);
    let mut stream = TcpStream::connect(host.address()).unwrap();
    stream
        .write_all(b"POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: localhost\r\n")
        .unwrap();
    wait::until("it is cut off", || {
        // The reply comes while this still writes; the connection takes no more some time later.
        stream.write_all(b"x: y\r\n").is_err().then_some(())
    });
    unchanged(&mut client);
}

#[test]
fn who_does_not_take_a_reply_is_left_and_its_memory_is_free_again() {
    let (host, mut client) = probe_with(HASTY);
    let mut greedy = Vec::new();
    for _ in 0..4 {
        let mut other = host.client();
        other
            .write(&Request::new("POST", "/v1/grains/probe/b/big_reply").body("[8000000]"))
            .unwrap();
        greedy.push(other);
    }
    wait::until_equal("they are left", Some(4.0), || {
        host.metric("granary_http_slow_readers_total")
    });
    wait::until_equal("their memory is free", Some(0.0), || {
        host.metric("granary_http_memory_bytes")
    });
    unchanged(&mut client);
}

#[test]
fn who_leaves_in_the_middle_leaves_nothing_half_done() {
    let (host, mut client) = probe_with(&[]);
    for _ in 0..20 {
        let mut stream = TcpStream::connect(host.address()).unwrap();
        stream
            .write_all(b"POST /v1/grains/probe/a/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n[1")
            .unwrap();
        drop(stream);
        let mut stream = TcpStream::connect(host.address()).unwrap();
        stream
            .write_all(
                b"POST /v1/grains/probe/b/big_reply HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n[8000000]",
            )
            .unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        drop(stream);
    }
    client.close();
    wait::until_equal("all are gone", Some(1.0), || host.metric("granary_http_connections"));
    wait::until_equal("their memory is free", Some(0.0), || {
        host.metric("granary_http_memory_bytes")
    });
    unchanged(&mut host.client());
    // A whole call whose caller leaves has its turn all the same.
    let mut leaving = host.client();
    leaving
        .write(&Request::new("POST", "/v1/grains/probe/c/add").body("[1]"))
        .unwrap();
    wait::until_equal("its request is read", Some(1.0), || {
        Some(host.client().fetch("/v1/grains/probe/c/get").integer() as f64)
    });
}
