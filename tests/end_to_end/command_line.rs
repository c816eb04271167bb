//! The main job by the command line: what it prints, what it returns.

use granary_tests::cli::{granary, run};
use granary_tests::{Host, built};
use serde_json::Value;

fn module(name: &str) -> String {
    built::module(name).to_str().unwrap().to_owned()
}

#[test]
fn deploy_call_list_inspect_remove() {
    let host = Host::start();
    let deployed = granary(&host, &["deploy", &module("counter")]);
    assert!(deployed.ok().contains("counter"), "{}", deployed.stdout);
    assert_eq!(granary(&host, &["call", "counter/alice", "add", "n=5"]).ok(), "5");
    assert_eq!(
        granary(&host, &["call", "counter/alice", "add", r#"{"n": 37}"#]).ok(),
        "42"
    );
    assert_eq!(granary(&host, &["call", "counter/bob", "add", "[1]"]).ok(), "1");
    assert_eq!(granary(&host, &["call", "counter/alice", "get"]).ok(), "42");
    assert!(granary(&host, &["ls"]).ok().contains("counter"));
    let keys = granary(&host, &["ls", "counter"]);
    assert_eq!(keys.ok().lines().collect::<Vec<_>>(), ["alice", "bob"]);
    assert_eq!(granary(&host, &["ls", "counter", "--prefix", "b"]).ok(), "bob");
    let status: Value = serde_json::from_str(granary(&host, &["inspect", "counter/alice", "--json"]).ok()).unwrap();
    assert_eq!(status["seq"], 2, "{status}");
    granary(&host, &["rm", "counter/alice"]).expect(0);
    assert_eq!(granary(&host, &["ls", "counter"]).ok(), "bob");
    assert!(
        granary(&host, &["status"]).ok().contains(&host.address().to_string())
            || !granary(&host, &["status"]).ok().is_empty()
    );
}

#[test]
fn a_panic_is_told_with_its_message_and_its_place() {
    let host = Host::start();
    host.deploy("probe");
    let trapped = granary(&host, &["call", "probe/a", "panic", "message=the shelf broke"]);
    trapped.expect(1);
    let said = &trapped.stderr;
    assert!(
        said.contains("probe/src/lib.rs:") && said.contains(": the shelf broke"),
        "{said}"
    );
    assert!(
        said.contains(", in <probe::Probe as ") && !said.contains("_ZN") && !said.contains("core::"),
        "{said}"
    );
    let inspected = granary(&host, &["inspect", "probe/a"]);
    let kept = inspected.ok();
    assert!(kept.contains(": the shelf broke, in <probe::Probe as "), "{kept}");
}

#[test]
fn exit_codes_say_who_refused() {
    let host = Host::start();
    granary(&host, &["deploy", &module("bank")]).expect(0);
    let refused = granary(&host, &["call", "bank/alice", "withdraw", "amount=1"]);
    refused.expect(1);
    assert!(refused.stderr.contains("InsufficientFunds"), "{}", refused.stderr);
    granary(&host, &["call", "bank/alice", "nothing"]).expect(1);
    granary(&host, &["call", "bank/alice"]).expect(2);
    granary(&host, &["frobnicate"]).expect(2);
    let nobody = "http://127.0.0.1:1";
    run(std::process::Command::new(built::granary()).args(["call", "bank/alice", "balance", "--host", nobody]))
        .expect(3);
}
