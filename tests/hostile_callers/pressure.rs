//! More of everything than the host gives: memory, waiting calls, a mailbox's bytes, connections, descriptors.

use std::net::TcpStream;
use std::time::Instant;

use granary_tests::occupied::{occupy, queued};
use granary_tests::{Client, Host, Request, procfs, soak, wait};

use crate::{probe_with, refused, unchanged};

fn resident_bytes(host: &Host) -> u64 {
    procfs::bytes(host.pid(), "VmRSS:")
}

/// 32 MiB, as the test below sets it.
const BUDGET_BYTES: f64 = 33_554_432.0;

#[test]
fn sixty_four_large_bodies_at_a_time_take_no_more_than_the_budget() {
    let (host, mut client) = probe_with(&["--http-memory", "32MiB", "--http-body-timeout", "60s"]);
    let before = resident_bytes(&host);
    let mut senders: Vec<Client> = Vec::new();
    for _ in 0..64 {
        let mut sender = host.client();
        sender
            .write_bytes(b"POST /v1/grains/probe/b/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8000000\r\n\r\n")
            .unwrap();
        senders.push(sender);
    }
    let piece = vec![b' '; 100_000];
    let mut most = 0;
    for _ in 0..70 {
        for sender in &mut senders {
            // Those that are refused close.
            let _ = sender.write_bytes(&piece);
        }
        most = most.max(resident_bytes(&host).saturating_sub(before));
        let held = host.metric("granary_http_memory_bytes").unwrap();
        assert!(held <= BUDGET_BYTES, "{held} bytes of bodies are held");
    }
    assert_eq!(
        client.call("probe/c/add", "[1]").integer(),
        1,
        "small calls need none of it"
    );
    let refused = host.metric("granary_http_memory_refused_total").unwrap();
    assert!(refused > 0.0, "nobody was refused");
    soak::measured(
        &format!("the host grew by {most} bytes for bodies that may take 32 MiB"),
        most < 100 << 20,
    );
    drop(senders);
    wait::until_equal("all is given back", Some(0.0), || {
        host.metric("granary_http_memory_bytes")
    });
    unchanged(&mut client);
}

#[test]
fn a_mailbox_holds_so_many_bytes() {
    let (host, mut client) = probe_with(&["--mailbox-bytes", "4MiB"]);
    let busy = occupy(&host, "b");
    let large = Request::new("POST", "/v1/grains/probe/b/echo").body(format!("[\"{}\"]", "x".repeat(1_500_000)));
    let mut waiting: Vec<Client> = (0..2).map(|_| host.client()).collect();
    for (n, other) in (1..).zip(&mut waiting) {
        other.write(&large).unwrap();
        wait::until_equal("it waits", n, || queued(&mut client, "b"));
    }
    let reply = client.send(&large);
    let problem = refused(&reply, 429, "mailbox_full", "the third");
    assert!(problem["detail"].as_str().unwrap().contains("4194304"), "{problem}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    busy.release();
    for other in &mut waiting {
        other.read().unwrap().expect(200);
    }
    client.send(&large).expect(200);
}

#[test]
fn calls_beyond_the_hosts_limit_are_overloaded_whatever_their_grain() {
    let (host, mut client) = probe_with(&["--http-calls", "3"]);
    let busy = [occupy(&host, "b"), occupy(&host, "c")];
    // The third one has sent its head only: it'll open the gate of the second.
    let [first, mut second] = busy;
    let mut third = host.client();
    let head = format!(
        "POST /v1/grains/probe/{}/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n",
        second.gate()
    );
    third.write_bytes(head.as_bytes()).unwrap();
    wait::until_equal("all three are worked on, and the question itself", Some(4.0), || {
        host.metric("granary_http_requests_in_flight")
    });
    let reply = client.call("probe/a/add", "[1]");
    refused(&reply, 503, "overloaded", "the fourth");
    assert_eq!(reply.header("retry-after"), Some("1"));
    client.fetch("/healthz").expect(200);
    third.write_bytes(b"[-1]").unwrap();
    assert_eq!(third.read().unwrap().integer(), 0);
    second.reply().expect(200);
    first.release();
    unchanged(&mut client);
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_others_go_on() {
    for flag in ["--http-connections", "--http-peer-connections"] {
        let (host, mut client) = probe_with(&[flag, "8"]);
        client.fetch("/healthz").expect(200);
        let mut open: Vec<Client> = Vec::new();
        while open.len() < 7 {
            let mut other = host.client();
            match other.fetch("/healthz").status {
                200 => open.push(other),
                // The connection that deployed the module may be on its way out yet.
                status => assert_eq!(status, 503),
            }
        }
        let mut surplus = host.client();
        surplus.write_bytes(b"").unwrap();
        let reply = surplus.read().unwrap();
        refused(&reply, 503, "overloaded", flag);
        assert_eq!(reply.header("retry-after"), Some("1"));
        unchanged(&mut client);
    }
}

#[test]
fn a_host_without_descriptors_neither_spins_nor_ends() {
    let base = {
        let (host, mut client) = probe_with(&[]);
        unchanged(&mut client);
        std::fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count()
    };
    // Few enough that connections use them up before their own limit, half of all, stops them.
    let limit = base + 12;
    let script = format!("ulimit -n {limit}; exec \"$@\"");
    let mut host = Host::prepared(&[]).wrapped(&["sh", "-c", &script, "sh"]);
    host.start_again();
    host.deploy("probe");
    let mut client = host.client();
    unchanged(&mut client);
    let open: Vec<TcpStream> = (0..limit)
        .map(|_| TcpStream::connect(host.address()).unwrap())
        .collect();
    let mut errors = || {
        let text = client.fetch("/metrics").expect(200).text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("granary_http_accept_errors_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    wait::until("descriptors are used up", || (errors() > 0).then_some(()));
    let from = errors();
    let started = Instant::now();
    let tries = wait::until("it has tried again", || {
        Some(errors() - from).filter(|tries| *tries >= 5)
    });
    // A try each 50 ms: less time on the clock than that would be a loop without pause, and more only a slow machine.
    let most = started.elapsed().as_millis() / 40 + 2;
    assert!(
        u128::from(tries) <= most,
        "{tries} tries in {:?}: it spins",
        started.elapsed()
    );
    assert_eq!(
        client.call("probe/b/add", "[1]").integer(),
        1,
        "who is connected is served"
    );
    drop(open);
    wait::until_equal("others are served again", true, || {
        host.client().try_send(&Request::new("GET", "/healthz")).is_ok()
    });
    host.has_logged("connections can't be accepted");
    let said = host.log().matches("connections can't be accepted").count();
    assert!((1..=4).contains(&said), "{said} lines in the log");
}
