//! A repeated request under the same `idempotency-key` has one effect, in every grain that it reaches.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use granary_tests::seed::{self, Random};
use granary_tests::{Client, Host, Reply, Request, wait};
use serde_json::json;

fn keyed<'a>(path: &str, key: &str, body: &str) -> Request<'a> {
    Request::new("POST", format!("/v1/grains/{path}"))
        .header("idempotency-key", key)
        .body(body)
}

fn value(client: &mut Client, key: &str) -> i64 {
    client.fetch(&format!("/v1/grains/probe/{key}/get")).integer()
}

fn probe() -> (Host, Client) {
    let host = Host::start();
    host.deploy("probe");
    let client = host.client();
    (host, client)
}

#[test]
fn a_repeat_gets_the_stored_reply_and_has_no_second_effect() {
    let (mut host, mut client) = probe();
    assert_eq!(client.send(&keyed("probe/a/add", "k", "[5]")).integer(), 5);
    assert_eq!(client.call("probe/a/add", "[1]").integer(), 6);
    assert_eq!(
        client.send(&keyed("probe/a/add", "k", "[5]")).integer(),
        5,
        "the reply of then"
    );
    assert_eq!(
        client.send(&keyed("probe/a/add", "k", r#"{"n": 5}"#)).integer(),
        5,
        "by name is the same"
    );
    assert_eq!(value(&mut client, "a"), 6);

    host.kill();
    host.start_again();
    let mut client = host.client();
    assert_eq!(
        client.send(&keyed("probe/a/add", "k", "[5]")).integer(),
        5,
        "stored with the effect"
    );
    assert_eq!(value(&mut client, "a"), 6);
    assert_eq!(
        client.send(&keyed("probe/b/add", "k", "[5]")).integer(),
        5,
        "another grain has its own table"
    );
}

#[test]
fn a_repeat_survives_eviction() {
    let host = Host::start_with(&["--idle-timeout", "100ms"]);
    host.deploy("probe");
    let mut client = host.client();
    assert_eq!(client.send(&keyed("probe/a/add", "k", "[5]")).integer(), 5);
    wait::until_equal("the grain is evicted", json!(false), || {
        client.fetch("/v1/grains/probe/a").value()["resident"].clone()
    });
    assert_eq!(client.send(&keyed("probe/a/add", "k", "[5]")).integer(), 5);
    assert_eq!(value(&mut client, "a"), 5);
}

fn delete(client: &mut Client, key: &str, once: &str) {
    let deletion = Request::new("DELETE", format!("/v1/grains/probe/{key}")).header("idempotency-key", once);
    client.send(&deletion).expect(204);
}

/// Whether there was something to delete or not, and whatever the host has been through since.
#[test]
fn a_repeated_deletion_deletes_nothing_that_came_after_the_first() {
    let (mut host, mut client) = probe();
    client.call("probe/a/add", "[3]").expect(200);
    for key in ["a", "b"] {
        delete(&mut client, key, "k");
        assert_eq!(client.call(&format!("probe/{key}/add"), "[7]").integer(), 7);
        delete(&mut client, key, "k");
        assert_eq!(value(&mut client, key), 7);
    }
    host.kill();
    host.start_again();
    let mut client = host.client();
    for key in ["a", "b"] {
        delete(&mut client, key, "k");
        assert_eq!(value(&mut client, key), 7);
        delete(&mut client, key, "another");
        assert_eq!(value(&mut client, key), 0);
    }
}

/// Else a client that has yet to hear of its call would carry it out again on what came after.
#[test]
fn a_deletion_takes_no_reply_from_a_call_that_may_be_repeated() {
    let (mut host, mut client) = probe();
    assert_eq!(client.send(&keyed("probe/a/add", "k", "[5]")).integer(), 5);
    client.send(&Request::new("DELETE", "/v1/grains/probe/a")).expect(204);
    let status = client.fetch("/v1/grains/probe/a").value();
    assert_eq!(status["exists"], false);
    let listed = client.fetch("/v1/grains/probe").value();
    assert_eq!(listed["keys"], json!([]));
    for _ in 0..2 {
        assert_eq!(client.send(&keyed("probe/a/add", "k", "[5]")).integer(), 5);
        assert_eq!(value(&mut client, "a"), 0, "it's still deleted");
        host.kill();
        host.start_again();
        client = host.client();
    }
    client
        .send(&keyed("probe/a/add", "k", "[6]"))
        .problem(422, "idempotency_mismatch");
    assert_eq!(client.call("probe/a/add", "[1]").integer(), 1);
    assert_eq!(client.send(&keyed("probe/a/add", "k", "[5]")).integer(), 5);
    assert_eq!(value(&mut client, "a"), 1);
}

#[test]
fn another_call_under_the_same_key_is_a_mistake() {
    let (_host, mut client) = probe();
    assert_eq!(client.send(&keyed("probe/a/add", "k", "[5]")).integer(), 5);
    client
        .send(&keyed("probe/a/add", "k", "[6]"))
        .problem(422, "idempotency_mismatch");
    client
        .send(&keyed("probe/a/fail", "k", r#"["x"]"#))
        .problem(422, "idempotency_mismatch");
    assert_eq!(value(&mut client, "a"), 5);
}

#[test]
fn a_repeat_while_the_first_is_worked_on_says_so() {
    let (host, mut client) = probe();
    let mut first = host.client();
    first.write(&keyed("probe/a/sleep_ms", "k", "[1000]")).unwrap();
    wait::until_equal("the turn has begun", json!(true), || {
        client.fetch("/v1/grains/probe/a").value()["resident"].clone()
    });
    client
        .send(&keyed("probe/a/sleep_ms", "k", "[1000]"))
        .problem(409, "idempotency_in_progress");
    assert_eq!(first.read().unwrap().value(), json!(null));
    assert_eq!(
        client.send(&keyed("probe/a/sleep_ms", "k", "[1000]")).value(),
        json!(null),
        "stored by now"
    );
}

#[test]
fn a_guests_own_error_is_stored_and_a_trap_is_not() {
    let (_host, mut client) = probe();
    for _ in 0..2 {
        let reply = client.send(&keyed("probe/a/fail_after_write", "failing", "[4]"));
        assert_eq!(reply.problem(422, "guest_error")["error"], "the value is 4 now");
    }
    for _ in 0..2 {
        client
            .send(&keyed("probe/a/trap_after_write", "trapping", "[4]"))
            .problem(500, "trap");
    }
    assert_eq!(value(&mut client, "a"), 4);
}

/// a adds 1 and calls itself, which fails; it passes that failure on, and its own addition stands.
#[test]
fn a_failure_that_was_passed_on_is_kept_for_a_repeat_like_any_other_reply() {
    let (_host, mut client) = probe();
    for _ in 0..2 {
        let request = keyed("probe/a/pass_on", "k", r#"[1, "probe", "a", "get", []]"#);
        let problem = client.send(&request).problem(508, "deadlock");
        assert_eq!(problem["committed"], "yes");
        assert_eq!(
            problem["retryable"], false,
            "a repeat would get the same, and another key another addition"
        );
    }
    assert_eq!(value(&mut client, "a"), 1);
}

#[test]
fn no_reply_is_dropped_for_later_ones() {
    let (_host, mut client) = probe();
    for n in 0..200 {
        client.send(&keyed("probe/a/add", &format!("k{n}"), "[1]")).expect(200);
    }
    for n in 0..200 {
        let again = client.send(&keyed("probe/a/add", &format!("k{n}"), "[1]"));
        assert_eq!(again.integer(), n + 1);
    }
}

#[test]
fn a_long_key_is_refused() {
    let (_host, mut client) = probe();
    client
        .send(&keyed("probe/a/add", &"k".repeat(256), "[1]"))
        .problem(400, "bad_arguments");
    client.send(&keyed("probe/a/add", &"k".repeat(255), "[1]")).expect(200);
}

/// a adds 7 and calls m; m calls b, which adds 3 and commits, and at the same time a slow grain. The kill comes while a
/// and m wait for the slow one: b has committed, they have not.
#[test]
fn a_retry_after_the_caller_was_killed_has_one_effect_in_each_grain() {
    let (mut host, mut client) = probe();
    let calls = json!([
        {"grain_type": "probe", "key": "b", "method": "add", "args": [3]},
        {"grain_type": "probe", "key": "slow", "method": "sleep_ms", "args": [1500]},
    ]);
    let body = json!([7, "probe", "m", "call_all", [calls]]).to_string();
    let request = keyed("probe/a/pass_on", "k", &body);
    let mut killed = host.client();
    killed.write(&request).unwrap();
    wait::until_equal("the callee has committed", 3, || value(&mut client, "b"));
    host.kill();
    assert!(killed.read().is_err(), "the caller was still waiting");

    host.start_again();
    let mut client = host.client();
    assert_eq!(
        client.fetch("/v1/grains/probe/a").value()["seq"],
        0,
        "the caller had not committed"
    );
    assert_eq!(value(&mut client, "b"), 3);
    let reply = client.send(&request);
    assert_eq!(reply.value()[0]["value"], 3, "the callee's stored reply");
    assert_eq!([value(&mut client, "a"), value(&mut client, "b")], [7, 3]);
    assert_eq!(client.send(&request).body, reply.body);
    assert_eq!([value(&mut client, "a"), value(&mut client, "b")], [7, 3]);
}

/// More calls of one turn to one grain than a client makes on its own in a while.
#[test]
fn a_retry_of_a_wide_fan_out_to_one_grain_has_one_effect_for_each_call() {
    const CALLS: i64 = 250;
    let (mut host, mut client) = probe();
    let add = json!({"grain_type": "probe", "key": "b", "method": "add", "args": [1]});
    let slow = json!({"grain_type": "probe", "key": "slow", "method": "sleep_ms", "args": [2500]});
    let mut calls = vec![add; CALLS as usize];
    calls.push(slow);
    let request = keyed("probe/m/call_all", "k", &json!([calls]).to_string());
    let mut killed = host.client();
    killed.write(&request).unwrap();
    wait::until_equal("all have been carried out", CALLS, || value(&mut client, "b"));
    host.kill();
    assert!(killed.read().is_err(), "the caller was still waiting");
    host.start_again();
    let mut client = host.client();
    client.send(&request).expect(200);
    assert_eq!(value(&mut client, "b"), CALLS);
}

#[test]
fn a_retry_that_makes_its_calls_in_another_order_has_one_effect_for_each() {
    let (_host, mut client) = probe();
    let keys: Vec<String> = (0..12).map(|n| format!("g{n}")).collect();
    let request = keyed("probe/m/add_in_any_order_then_trap", "k", &json!([keys]).to_string());
    for _ in 0..3 {
        client.send(&request).problem(500, "trap");
    }
    for key in &keys {
        assert_eq!(value(&mut client, key), 1, "{key}");
    }
}

const PAYERS: usize = 8;
const TRANSFERS: usize = 60;
const KILLS: usize = 3;

/// Payers transfer one coin at a time, each under a key of its own, and repeat until they know; the host is killed again
/// and again. In the end every transfer took place once.
#[test]
fn retried_transfers_take_place_once_whenever_the_host_is_killed() {
    let mut random = Random::new(seed::of_this_run());
    let mut host = Host::start();
    host.deploy("bank");
    for payer in 0..PAYERS {
        host.client()
            .call(&format!("bank/from-{payer}/deposit"), "[1000]")
            .expect(200);
    }
    let address = Mutex::new(host.address());
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for payer in 0..PAYERS {
            let (address, done) = (&address, &done);
            scope.spawn(move || {
                for transfer in 0..TRANSFERS {
                    transfer_until_known(address, payer, transfer);
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for kill in 1..=KILLS {
            let enough = (kill * PAYERS * TRANSFERS / (KILLS + 1)) as u64;
            wait::until("the next kill is due", || {
                (done.load(Ordering::SeqCst) >= enough).then_some(())
            });
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
            host.kill();
            host.start_again();
            *address.lock().unwrap_or_else(PoisonError::into_inner) = host.address();
        }
    });
    let mut client = host.client();
    for payer in 0..PAYERS {
        let balances = ["from", "to"].map(|side| {
            client
                .fetch(&format!("/v1/grains/bank/{side}-{payer}/balance"))
                .integer()
        });
        assert_eq!(balances, [1000 - TRANSFERS as i64, TRANSFERS as i64], "payer {payer}");
    }
}

fn transfer_until_known(address: &Mutex<std::net::SocketAddr>, payer: usize, transfer: usize) {
    let request = keyed(
        &format!("bank/from-{payer}/transfer"),
        &format!("t{payer}-{transfer}"),
        &format!(r#"["to-{payer}", 1]"#),
    );
    wait::until("the transfer is answered", || {
        let host = *address.lock().unwrap_or_else(PoisonError::into_inner);
        let reply: Reply = Client::new(host).try_send(&request).ok()?;
        match reply.status {
            409 => None,
            _ => Some(reply.expect(200).integer()),
        }
    });
}
