//! Each way to fail that one host has: its status, its code, whether it left something, and that the next call works.

use granary_tests::occupied::{occupy, queued};
use granary_tests::{Client, Host, Request, built, wait};
use serde_json::json;

fn probe_with(flags: &[&str]) -> (Host, Client) {
    let host = Host::start_with(flags);
    host.deploy("probe");
    let mut client = host.client();
    assert_eq!(client.call("probe/a/add", "[1]").integer(), 1);
    (host, client)
}

#[track_caller]
fn unharmed(client: &mut Client) {
    assert_eq!(client.fetch("/v1/grains/probe/a/get").integer(), 1);
}

#[test]
fn unknown_types_methods_and_paths_are_not_found() {
    let (_host, mut client) = probe_with(&[]);
    client.call("nothing/a/get", "").problem(404, "unknown_type");
    client.call("probe/a/nothing", "").problem(404, "unknown_method");
    client.fetch("/v1/nothing").problem(404, "not_found");
    client.fetch("/v1/modules/nothing").problem(404, "unknown_type");
}

#[test]
fn a_write_by_get_is_refused_and_told_what_is_allowed() {
    let (_host, mut client) = probe_with(&[]);
    let reply = client.fetch("/v1/grains/probe/a/add?n=1");
    reply.problem(405, "read_only_verb");
    assert_eq!(reply.header("allow"), Some("POST"));
    let reply = client.send(&Request::new("PATCH", "/v1/grains/probe/a/add"));
    assert_eq!(reply.status, 405);
    unharmed(&mut client);
}

#[test]
fn a_trap_leaves_no_trace() {
    let (_host, mut client) = probe_with(&[]);
    for call in ["trap_now", "trap_after_write", "panic", "exit", "poke"] {
        let body = match call {
            "trap_after_write" => "[5]",
            "panic" => r#"["on purpose"]"#,
            "exit" => "[0]",
            "poke" => "[5, 1]",
            _ => "",
        };
        let problem = client.call(&format!("probe/a/{call}"), body).problem(500, "trap");
        assert_eq!(problem["committed"], "no", "{call}");
        unharmed(&mut client);
    }
}

#[test]
fn a_panic_is_told_to_its_caller_and_kept_in_the_grains_status() {
    let (_host, mut client) = probe_with(&[]);
    let problem = client.call("probe/a/panic", r#"["no shelf"]"#).problem(500, "trap");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("the guest trapped: panicked at "), "{detail}");
    assert!(detail.contains(": no shelf, in <probe::Probe as "), "{detail}");
    let status = client.fetch("/v1/grains/probe/a").value();
    let kept = status["last_error"].as_str().unwrap();
    assert!(kept.contains(": no shelf, in <probe::Probe as "), "{kept}");
}

#[test]
fn endless_recursion_hurts_its_own_turn_only() {
    let (_host, mut client) = probe_with(&[]);
    let problem = client.call("probe/a/recurse", "[100000000]").problem(500, "trap");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("stack of 65536 bytes is used up, in probe::recurse"),
        "{detail}"
    );
    unharmed(&mut client);
    assert_eq!(client.call("probe/a/recurse", "[50]").integer(), 50);
}

#[test]
fn a_turn_that_never_ends_is_ended() {
    let (_host, mut client) = probe_with(&["--turn-limit", "200ms"]);
    let problem = client
        .call("probe/a/spin_after_write", "[5]")
        .problem(500, "turn_timeout");
    assert_eq!(problem["committed"], "no");
    unharmed(&mut client);
}

#[test]
fn a_turn_that_never_ends_does_not_stop_the_others() {
    // None of them can end before the test does.
    let (host, mut client) = probe_with(&["--turn-limit", "10m"]);
    let mut others = Vec::new();
    for key in ["s1", "s2", "s3", "s4"] {
        let mut other = host.client();
        other
            .write(&Request::new("POST", format!("/v1/grains/probe/{key}/spin")))
            .unwrap();
        others.push(other);
    }
    for n in 2..12 {
        assert_eq!(client.call("probe/a/add", "[1]").integer(), n);
    }
}

#[test]
fn memory_has_a_limit() {
    let (_host, mut client) = probe_with(&[]);
    let problem = client
        .call("probe/a/allocate", "[134217728]")
        .problem(500, "memory_limit");
    assert_eq!(problem["committed"], "no");
    unharmed(&mut client);
    assert_eq!(
        client.call("probe/a/grow", "[2000]").integer(),
        -1,
        "a guest that asks first is told no"
    );
    unharmed(&mut client);
    assert_eq!(client.call("probe/a/allocate", "[16777216]").integer(), 16_777_216);
    unharmed(&mut client);
}

#[test]
fn a_body_has_a_limit() {
    let (_host, mut client) = probe_with(&[]);
    let big = Request::new("POST", "/v1/grains/probe/a/echo").body(vec![b' '; (8 << 20) + 1]);
    // The host may close the connection while the client still sends.
    if let Ok(reply) = client.try_send(&big) {
        reply.problem(413, "too_large");
    }
    unharmed(&mut client);
}

#[test]
fn a_deadline_ends_the_waiting_and_not_the_turn() {
    let (_host, mut client) = probe_with(&[]);
    let slow = Request::new("POST", "/v1/grains/probe/b/spin_ms")
        .header("granary-timeout", "100ms")
        .body("[3000]");
    let problem = client.send(&slow).problem(504, "deadline");
    assert_eq!(problem["committed"], "unknown");
    // Behind it: its turn can't begin before its own deadline, so it surely did nothing. This also tells that the first turn goes on.
    let queued = Request::new("POST", "/v1/grains/probe/b/add")
        .header("granary-timeout", "100ms")
        .body("[1]");
    assert_eq!(client.send(&queued).problem(504, "deadline")["committed"], "no");
    assert_eq!(
        client.call("probe/b/get", "").integer(),
        1,
        "the turn went on and added 1"
    );
}

#[test]
fn a_turn_that_sleeps_ends_with_its_deadline() {
    let (_host, mut client) = probe_with(&[]);
    let slow = Request::new("POST", "/v1/grains/probe/b/sleep_ms")
        .header("granary-timeout", "100ms")
        .body("[9000]");
    client.send(&slow).problem(504, "deadline");
    assert_eq!(client.call("probe/b/add", "[1]").integer(), 1, "the grain is free");
}

#[test]
fn timeouts_are_read_strictly() {
    let (_host, mut client) = probe_with(&[]);
    for wrong in ["soon", "-1s", "5", "0s"] {
        let request = Request::new("POST", "/v1/grains/probe/a/get").header("granary-timeout", wrong);
        client.send(&request).problem(400, "bad_arguments");
    }
}

#[test]
fn a_full_mailbox_says_when_to_come_back() {
    let (host, mut client) = probe_with(&["--mailbox-messages", "4"]);
    let busy = occupy(&host, "b");
    let mut waiting: Vec<Client> = (0..4).map(|_| host.client()).collect();
    for other in &mut waiting {
        other
            .write(&Request::new("POST", "/v1/grains/probe/b/add").body("[1]"))
            .unwrap();
    }
    wait::until_equal("the mailbox is full", 4, || queued(&mut client, "b"));
    let reply = client.call("probe/b/add", "[1]");
    assert_eq!(reply.problem(429, "mailbox_full")["committed"], "no");
    assert!(reply.header("retry-after").is_some());
    busy.release();
    let values: Vec<i64> = waiting
        .iter_mut()
        .map(|other| other.read().unwrap().integer())
        .collect();
    assert_eq!(
        values.iter().max(),
        Some(&4),
        "those that were let in had their turns: {values:?}"
    );
}

#[test]
fn a_guests_own_error_keeps_what_it_changed() {
    let (_host, mut client) = probe_with(&[]);
    let problem = client
        .call("probe/a/fail_after_write", "[4]")
        .problem(422, "guest_error");
    assert_eq!(problem["error"], "the value is 5 now");
    assert_eq!(problem["committed"], "yes");
    assert_eq!(client.fetch("/v1/grains/probe/a/get").integer(), 5);
    let problem = client.call("probe/a/fail_status", "").problem(409, "guest_error");
    assert_eq!(problem["error"], json!({"Conflict": {"value": 5}}));
}

#[test]
fn failures_of_calls_reach_the_guest_as_values() {
    let (_host, mut client) = probe_with(&[]);
    let mut outcome = |kind: &str, method: &str, args: serde_json::Value| {
        let body = json!({"grain_type": kind, "key": "other", "method": method, "args": args});
        client.call("probe/a/call", &body.to_string()).value()
    };
    assert_eq!(outcome("probe", "add", json!([3]))["value"], 3);
    assert_eq!(outcome("probe", "trap_now", json!([]))["code"], "trap");
    assert_eq!(outcome("probe", "nothing", json!([]))["code"], "unknown_method");
    assert_eq!(outcome("probe", "add", json!(["x"]))["code"], "bad_arguments");
    assert_eq!(outcome("nothing", "add", json!([1]))["code"], "unknown_type");
    let failed = outcome("probe", "fail_status", json!([]));
    assert_eq!(
        (&failed["code"], &failed["error"]),
        (&json!("guest_error"), &json!({"Conflict": {"value": 3}}))
    );
    assert_eq!(
        outcome("probe", "get", json!([]))["value"],
        3,
        "only the good call left something"
    );
}

#[test]
fn calls_at_the_same_time_keep_their_order_of_replies() {
    let (_host, mut client) = probe_with(&[]);
    let calls: Vec<_> = (0..20)
        .map(|n| json!({"grain_type": "probe", "key": format!("many-{n}"), "method": "add", "args": [n]}))
        .collect();
    let outcomes = client
        .call("probe/a/call_all", &json!({"calls": calls}).to_string())
        .value();
    let values: Vec<i64> = outcomes
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| outcome["value"].as_i64().unwrap())
        .collect();
    assert_eq!(values, (0..20).collect::<Vec<_>>());
}

#[test]
fn call_chains_have_a_depth_limit() {
    let (_host, mut client) = probe_with(&[]);
    assert_eq!(client.call("probe/a/chain", "[10]").integer(), 10);
    let problem = client.call("probe/a/chain", "[30]").json();
    assert_eq!(problem["code"], "chain_too_deep", "{problem}");
    assert_eq!(problem["retryable"], false, "it is as deep the next time: {problem}");
}

#[test]
fn below_the_disks_reserve_reads_go_on_and_writes_are_refused() {
    let mut host = Host::start();
    host.deploy("probe");
    host.stop();
    let mut host = host.sabotaged(Some("disk-full"));
    host.start_again();
    let mut client = host.client();
    let module = built::module_bytes("counter");
    client.deploy("counter", &module).problem(507, "disk_reserve");
    let problem = client.call("probe/a/add", "[1]").problem(507, "disk_reserve");
    assert_eq!(
        (&problem["committed"], &problem["retryable"]),
        (&json!("no"), &json!(true))
    );
    assert_eq!(client.fetch("/v1/grains/probe/a/get").integer(), 0);
}
