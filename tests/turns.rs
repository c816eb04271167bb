//! One turn at a time: traps among pipelined turns, circles of waits, callers that go away.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; what it prints is shown then"
)]

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use granary_tests::occupied::{Occupied, is_in_its_first_turn, occupy, queued};
use granary_tests::{Client, Host, Reply, Request, soak, wait};
use serde_json::{Value, json};

/// What a deadlock takes to be told, measured in soak. In an ordinary run the code tells: a circle that isn't found ends with the
/// deadline and its code.
const AT_ONCE: Duration = Duration::from_millis(100);

fn told_at_once(took: Duration) {
    soak::measured(&format!("told after {took:?}"), took < AT_ONCE);
}

fn call_in_background(address: SocketAddr, path: &str, body: &str) -> JoinHandle<(Reply, Duration)> {
    let (path, body) = (path.to_owned(), body.to_owned());
    thread::spawn(move || {
        let started = Instant::now();
        let reply = Client::new(address).call(&path, &body);
        (reply, started.elapsed())
    })
}

#[test]
fn a_trap_among_turns_in_flight_undoes_its_own_turn_only() {
    let host = Host::start();
    host.deploy("probe");
    let busy = occupy(&host, "a");
    // One after the other into the mailbox, so that their order is known.
    let mut asking = host.client();
    let mut clients = Vec::new();
    for n in 0..10_u64 {
        let mut client = host.client();
        let method = if n == 5 { "trap_after_write" } else { "add" };
        let path = format!("/v1/grains/probe/a/{method}");
        client
            .write(&Request::new("POST", path).body(format!("[{}]", 10_u64.pow(n as u32))))
            .unwrap();
        wait::until_equal("the call is queued", n + 1, || queued(&mut asking, "a"));
        clients.push(client);
    }
    busy.release();
    let replies: Vec<Reply> = clients.iter_mut().map(|client| client.read().unwrap()).collect();
    let mut sum = 0;
    for (n, reply) in replies.iter().enumerate() {
        if n == 5 {
            assert_eq!(reply.problem(500, "trap")["committed"], "no");
        } else {
            sum += 10_i64.pow(n as u32);
            assert_eq!(reply.integer(), sum, "turn {n}");
        }
    }
    assert_eq!(host.client().fetch("/v1/grains/probe/a/get").integer(), 1_111_011_111);
}

#[test]
fn many_traps_between_many_adds_leave_exactly_the_adds() {
    let mut host = Host::start();
    host.deploy("probe");
    let address = host.address();
    let adders: Vec<_> = (0..16)
        .map(|number| {
            thread::spawn(move || {
                let mut client = Client::new(address);
                for _ in 0..20 {
                    client.call("probe/a/add", "[1]").expect(200);
                    if number % 4 == 0 {
                        client.call("probe/a/trap_after_write", "[1000]").problem(500, "trap");
                    }
                }
            })
        })
        .collect();
    adders.into_iter().for_each(|adder| adder.join().unwrap());
    assert_eq!(host.client().fetch("/v1/grains/probe/a/get").integer(), 320);
    host.kill();
    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/probe/a/get").integer(), 320);
}

fn forward(key: &str, method: &str, args: Value) -> Value {
    json!({"grain_type": "probe", "key": key, "method": method, "args": args})
}

#[test]
fn a_call_that_comes_back_is_a_deadlock_at_once() {
    let host = Host::start();
    host.deploy("probe");
    let mut client = host.client();
    let back = forward("a", "add", json!([1]));
    let body = forward(
        "b",
        "call",
        json!([back["grain_type"], back["key"], back["method"], back["args"]]),
    );
    let started = Instant::now();
    let outcome = client.call("probe/a/call", &body.to_string()).value();
    told_at_once(started.elapsed());
    // b's turn ended well: the deadlock was a value to it.
    assert_eq!(outcome["value"]["code"], "deadlock", "{outcome}");
    assert_eq!(client.call("probe/a/add", "[1]").integer(), 1);
    assert_eq!(client.call("probe/b/add", "[1]").integer(), 1);
}

#[test]
fn a_deadlock_that_is_passed_on_keeps_its_code() {
    let host = Host::start();
    host.deploy("counter");
    let started = Instant::now();
    host.client()
        .call("counter/a/mirror", r#"["a"]"#)
        .problem(508, "deadlock");
    told_at_once(started.elapsed());
    assert_eq!(host.client().call("counter/a/add", "[1]").integer(), 1);
}

#[test]
fn crossing_transfers_do_not_wait_for_each_other() {
    let host = Host::start();
    host.deploy("bank");
    let mut client = host.client();
    client.call("bank/alice/deposit", "[1000]").expect(200);
    client.call("bank/bob/deposit", "[1000]").expect(200);
    let mut deadlocks = 0;
    for _ in 0..200 {
        let there = call_in_background(host.address(), "bank/alice/transfer", r#"["bob", 1]"#);
        let back = call_in_background(host.address(), "bank/bob/transfer", r#"["alice", 1]"#);
        for (reply, took) in [there.join().unwrap(), back.join().unwrap()] {
            if reply.status != 200 {
                told_at_once(took);
                let code = reply.json()["code"].as_str().unwrap().to_owned();
                assert!(code == "deadlock" || code == "guest_error", "{}", reply.text());
                assert!(reply.text().contains("deadlock"), "{}", reply.text());
                deadlocks += 1;
            }
        }
    }
    println!("{deadlocks} deadlocks among 400 transfers");
    let balances = ["alice", "bob"].map(|key| client.fetch(&format!("/v1/grains/bank/{key}/balance")).integer());
    assert_eq!(
        balances.iter().sum::<i64>(),
        2000,
        "no money is made or lost: {balances:?}"
    );
}

/// a waits for m1, b for m2; then m1 calls b, and m2 calls a. All four turns surely run before a middle one calls, since
/// both are busy until then: the circle closes every time, and the call that closes it is the one that fails.
#[test]
fn a_circle_of_suspended_turns_is_found_once() {
    let host = Host::start();
    host.deploy("probe");
    for round in 0..5 {
        let key = |name: &str| format!("{name}-{round}");
        let busy = ["m1", "m2"].map(|middle| occupy(&host, &key(middle)));
        let through = |from: &str, middle: &str, to: &str| {
            let call = json!(["probe", key(to), "add", [1]]);
            let body = forward(&key(middle), "call", call);
            call_in_background(host.address(), &format!("probe/{}/call", key(from)), &body.to_string())
        };
        let calls = [through("a", "m1", "b"), through("b", "m2", "a")];
        let mut asking = host.client();
        for middle in ["m1", "m2"] {
            wait::until_equal("it is waited for", 1, || queued(&mut asking, &key(middle)));
        }
        let released = Instant::now();
        busy.into_iter().for_each(Occupied::release);
        let outcomes = calls.map(|call| {
            let (reply, _) = call.join().unwrap();
            reply.value()["value"]["code"].as_str().unwrap().to_owned()
        });
        told_at_once(released.elapsed());
        let mut codes = outcomes.clone();
        codes.sort();
        assert_eq!(codes, ["deadlock", "ok"], "round {round}: {outcomes:?}");
        let sum: i64 = ["a", "b"]
            .map(|name| host.client().call(&format!("probe/{}/get", key(name)), "").integer())
            .iter()
            .sum();
        assert_eq!(sum, 1, "the other call took place");
    }
}

#[test]
fn a_caller_that_goes_away_does_not_stop_its_turn() {
    let mut host = Host::start();
    host.deploy("probe");
    let mut client = host.client();
    let mut leaving = host.client();
    // The turn waits for a busy callee: it surely runs when the connection closes.
    let busy = occupy(&host, "busy");
    let body = json!({"n": 7, "grain_type": "probe", "key": "busy", "method": "get", "args": []});
    let request = Request::new("POST", "/v1/grains/probe/a/pass_on").body(body.to_string());
    leaving.write(&request).unwrap();
    wait::until_equal("the turn has begun", true, || is_in_its_first_turn(&mut client, "a"));
    leaving.close();
    busy.release();
    wait::until_equal("the turn has ended and committed", 7, || {
        client.fetch("/v1/grains/probe/a/get").integer()
    });
    host.kill();
    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/probe/a/get").integer(), 7);
}

#[test]
fn a_call_stands_when_its_caller_traps_later() {
    let host = Host::start();
    host.deploy("probe");
    let mut client = host.client();
    let body = json!({"n": 5, "grain_type": "probe", "key": "b", "method": "add", "args": [3]});
    client
        .call("probe/a/call_then_trap", &body.to_string())
        .problem(500, "trap");
    assert_eq!(client.fetch("/v1/grains/probe/a/get").integer(), 0);
    assert_eq!(client.fetch("/v1/grains/probe/b/get").integer(), 3);
}
