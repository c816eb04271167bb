//! New code for grains that have a state: by their next call, all at once, back again, and what becomes of those that can't.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use granary_tests::cli::granary;
use granary_tests::host::signal;
use granary_tests::{Client, Host, Reply, Request, built, wait};
use serde_json::{Value, json};

/// Ways for a grain of the type `shape` not to get to its second revision, by the end of its key, and what is said of each.
const FAILURES: [(&str, &str); 5] = [
    ("trap", "trap"),
    ("error", "this grain's key asks for an error"),
    ("loop", "computed for more than 300 ms"),
    ("check", "this grain's key asks for a failing check"),
    ("memory", "memory"),
];

/// An endless loop is found out soon.
const FLAGS: [&str; 4] = ["--turn-limit", "300ms", "--memory-limit", "4MiB"];

fn deploy(client: &mut Client, guest: &str) -> Reply {
    client.deploy("shape", &built::module_bytes(guest))
}

fn start(keys: &[&str]) -> Host {
    let host = Host::start_with(&FLAGS);
    let mut client = host.client();
    deploy(&mut client, "shape-1").expect(201);
    for key in keys {
        assert_eq!(client.call(&format!("shape/{key}/add"), "[5]").integer(), 5);
    }
    host
}

fn get(client: &mut Client, key: &str, method: &str) -> i64 {
    client.fetch(&format!("/v1/grains/shape/{key}/{method}")).integer()
}

fn status(client: &mut Client, key: &str) -> Value {
    client.fetch(&format!("/v1/grains/shape/{key}")).value()
}

fn post(client: &mut Client, path: &str) -> Reply {
    client.send(&Request::new("POST", format!("/v1/modules/shape/{path}")))
}

/// Moves all grains and waits for the end of that.
fn sweep(client: &mut Client) -> Value {
    post(client, "upgrade").expect(202);
    wait::until("all grains were tried", || {
        let status = client.fetch("/v1/modules/shape/upgrade").value();
        (status["running"] == false).then_some(status)
    })
}

#[test]
fn a_grain_moves_before_its_next_call_and_keeps_its_state() {
    let mut host = start(&["alice", "bob"]);
    let mut client = host.client();
    assert_eq!(deploy(&mut client, "shape-2").expect(201).json()["revision"], 2);
    let before = status(&mut client, "alice");
    assert_eq!(
        (&before["revision"], &before["current_revision"]),
        (&json!(1), &json!(2))
    );

    let reply = client.call("shape/alice/add", "[1]");
    assert_eq!(reply.integer(), 6);
    assert_eq!(reply.header("granary-revision"), Some("2"));
    assert_eq!(get(&mut client, "alice", "adds"), 1, "counted since the move only");
    assert_eq!(status(&mut client, "alice")["revision"], 2);
    assert_eq!(status(&mut client, "bob")["revision"], 1, "nobody called it");
    assert_eq!(get(&mut client, "bob", "shape"), 2, "a read moves a grain, too");

    host.kill();
    host.start_again();
    let mut client = host.client();
    assert_eq!(get(&mut client, "alice", "get"), 6);
    assert_eq!(get(&mut client, "alice", "shape"), 2);
    assert_eq!(get(&mut client, "bob", "get"), 5);
    assert_eq!(get(&mut client, "new", "get"), 0);
}

#[test]
fn a_grain_that_can_t_move_stays_on_its_revision_and_serves() {
    let keys = FAILURES.map(|(way, _)| format!("alice-{way}"));
    let keys = keys.each_ref().map(String::as_str);
    let mut host = start(&keys);
    let mut client = host.client();
    deploy(&mut client, "shape-2").expect(201);
    for (key, (_, reason)) in keys.iter().zip(FAILURES) {
        let reply = client.call(&format!("shape/{key}/add"), "[1]");
        assert_eq!(reply.integer(), 6, "{key}");
        assert_eq!(reply.header("granary-revision"), Some("1"), "{key}");
        assert_eq!(get(&mut client, key, "shape"), 1);
        let status = status(&mut client, key);
        assert_eq!(
            (&status["revision"], &status["current_revision"]),
            (&json!(1), &json!(2))
        );
        let said = status["upgrade_failure"]["reason"].as_str().unwrap_or_default();
        assert!(said.contains(reason), "{key}: {status}");
        let problem = client
            .fetch(&format!("/v1/grains/shape/{key}/adds"))
            .problem(404, "unknown_method");
        assert!(problem["detail"].as_str().unwrap().contains("revision 1"), "{problem}");
    }
    let upgrade = client.fetch("/v1/modules/shape/upgrade").value();
    assert_eq!(
        upgrade["failures"].as_array().map(Vec::len),
        Some(keys.len()),
        "{upgrade}"
    );

    host.kill();
    host.start_again();
    let mut client = host.client();
    for key in keys {
        assert_eq!(get(&mut client, key, "get"), 6, "{key}: what was acknowledged is there");
        assert_eq!(get(&mut client, key, "shape"), 1, "{key}");
    }
}

#[test]
fn all_grains_move_at_once_and_those_that_can_t_are_listed() {
    let host = start(&["a", "b", "c", "d-trap", "e-check"]);
    let mut client = host.client();
    deploy(&mut client, "shape-2").expect(201);
    let status = sweep(&mut client);
    let figures = ["total", "moved", "failed", "left"].map(|name| status[name].as_u64().unwrap());
    assert_eq!(figures, [5, 3, 2, 0], "{status}");
    let mut stuck: Vec<&str> = status["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["key"].as_str().unwrap())
        .collect();
    stuck.sort_unstable();
    assert_eq!(stuck, ["d-trap", "e-check"]);
    for (key, shape) in [("a", 2), ("b", 2), ("c", 2), ("d-trap", 1), ("e-check", 1)] {
        assert_eq!(get(&mut client, key, "shape"), shape, "{key}");
        assert_eq!(get(&mut client, key, "get"), 5, "{key}");
    }
    let again = sweep(&mut client);
    assert_eq!((&again["moved"], &again["failed"]), (&json!(3), &json!(2)), "{again}");
}

#[test]
fn a_type_goes_back_with_all_its_states() {
    let mut host = start(&["read", "written", "asleep", "stuck-error"]);
    let mut client = host.client();
    deploy(&mut client, "shape-2").expect(201);
    assert_eq!(get(&mut client, "read", "shape"), 2);
    assert_eq!(client.call("shape/written/add", "[2]").integer(), 7);
    assert_eq!(get(&mut client, "stuck-error", "shape"), 1);

    let back = post(&mut client, "rollback").expect(200).json();
    assert_eq!(back["revision"], 1, "{back}");
    let status = sweep(&mut client);
    assert_eq!((&status["failed"], &status["left"]), (&json!(0), &json!(0)), "{status}");
    for (key, value) in [
        ("read", 5),
        ("written", 7),
        ("asleep", 5),
        ("stuck-error", 5),
        ("new", 0),
    ] {
        assert_eq!(get(&mut client, key, "get"), value, "{key}");
        assert_eq!(get(&mut client, key, "shape"), 1, "{key}");
    }
    post(&mut client, "rollback").problem(409, "no_revision");

    host.kill();
    host.start_again();
    let mut client = host.client();
    assert_eq!(get(&mut client, "written", "get"), 7);
    assert_eq!(get(&mut client, "written", "shape"), 1, "going back is durable");
    let again = deploy(&mut client, "shape-2").expect(201).json();
    assert_eq!(again["revision"], 3, "numbers are never used again");
    assert_eq!(get(&mut client, "written", "shape"), 2);
    let shown = client.fetch("/v1/modules/shape").value();
    let column = |name: &str| -> Vec<Value> {
        let revisions = shown["revisions"].as_array().unwrap();
        revisions.iter().map(|revision| revision[name].clone()).collect()
    };
    assert_eq!(column("revision"), [1, 2, 3]);
    assert_eq!(column("current"), [false, false, true]);
    assert_eq!(column("follows"), [Value::Null, json!(1), json!(1)]);
}

#[test]
fn a_deploy_that_takes_something_from_callers_wants_a_flag() {
    let host = start(&["alice"]);
    let counter = built::module("counter");
    let words = ["deploy", counter.to_str().unwrap(), "--type", "shape"];
    let refused = granary(&host, &words);
    refused.expect(1);
    assert!(
        refused.stderr.contains("`shape` is gone") && refused.stderr.contains("--allow-breaking"),
        "{}",
        refused.stderr
    );
    let problem = deploy(&mut host.client(), "counter").problem(409, "breaking_change");
    assert_eq!(problem["error"], json!(["`shape` is gone"]));
    assert_eq!(get(&mut host.client(), "alice", "shape"), 1, "nothing was deployed");

    granary(&host, &[&words[..], &["--allow-breaking"]].concat()).expect(0);
    assert_eq!(
        get(&mut host.client(), "alice", "get"),
        5,
        "a counter's state has the same shape"
    );
    host.client()
        .fetch("/v1/grains/shape/alice/shape")
        .problem(404, "unknown_method");
}

#[test]
fn the_command_line_moves_grains_and_says_what_is_stuck() {
    let host = start(&["a", "b", "c-error"]);
    let module = built::module("shape-2");
    let words = ["deploy", module.to_str().unwrap(), "--type", "shape", "--now"];
    let deployed = granary(&host, &words);
    deployed.expect(1);
    let lines: Vec<&str> = deployed.stdout.lines().collect();
    assert!(lines[0].starts_with("shape revision 2 deployed ("), "{lines:?}");
    assert!(lines.contains(&"moved 2, failed 1, left 0"), "{lines:?}");
    let stuck = lines.last().unwrap();
    assert!(
        stuck.starts_with("  shape/c-error stays on revision 1: ") && stuck.contains("asks for an error"),
        "{stuck}"
    );
    assert!(
        deployed.stderr.contains("1 grain stays on its older revision"),
        "{}",
        deployed.stderr
    );

    let shown = granary(&host, &["inspect", "shape/c-error"]);
    let line = shown
        .ok()
        .lines()
        .find(|line| line.starts_with("upgrade_failure"))
        .unwrap();
    assert!(line.contains("asks for an error"), "{line}");
    for verb in ["ls", "status"] {
        let shown = granary(&host, &[verb]);
        assert!(
            shown.ok().contains("revision 2") && shown.ok().contains("1 grain could not be moved"),
            "{}",
            shown.stdout
        );
    }

    let back = granary(&host, &["rollback", "shape", "--now", "--json"]);
    let document: Value = serde_json::from_str(back.ok()).unwrap();
    assert_eq!(document["revision"], 1);
    assert_eq!(
        (&document["upgrade"]["moved"], &document["upgrade"]["failed"]),
        (&json!(3), &json!(0))
    );
    granary(&host, &["rollback", "shape"]).expect(1);
}

#[test]
fn ctrl_c_ends_the_command_line_and_not_the_sweep() {
    let host = start(&["a-loop", "b-loop", "c-loop", "d-loop", "e-loop", "f-loop", "g", "h"]);
    let mut child = Command::new(built::granary())
        .args([
            "deploy",
            built::module("shape-2").to_str().unwrap(),
            "--type",
            "shape",
            "--now",
        ])
        .env("GRANARY_HOST", host.url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It prints a line when it knows that the sweep goes on.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("moved ")), "it ended by itself");
    signal(child.id(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the host goes on moving grains of `shape`"), "{said}");
    let mut client = host.client();
    let ended = wait::until("all grains were tried", || {
        let status = client.fetch("/v1/modules/shape/upgrade").value();
        (status["running"] == false).then_some(status)
    });
    assert_eq!((&ended["moved"], &ended["failed"]), (&json!(2), &json!(6)), "{ended}");
}
