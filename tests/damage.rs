//! A damaged data folder from outside: the host refuses, says why, and starts again after `granary repair`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::process::Command;

use granary_tests::{Host, built, cli};
use serde_json::Value;

/// `granary repair` on a host's folder.
fn repair(host: &Host, words: &[&str]) -> cli::Ended {
    let data = host.data();
    cli::run(
        Command::new(built::granary())
            .arg("repair")
            .arg("--data")
            .arg(data)
            .args(words),
    )
}

#[test]
fn a_damaged_log_is_refused_and_repaired_to_what_the_repair_said() {
    let mut host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    for n in 1..=50 {
        assert_eq!(client.call("counter/a/add", "[1]").integer(), n);
    }
    let running = repair(&host, &["--yes"]);
    assert!(
        running.expect(1).stderr.contains("another host uses"),
        "{}",
        running.stderr
    );

    host.kill();
    repair(&host, &[]).expect(0);
    let segment = host.data().join("log/00000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 0x10;
    std::fs::write(&segment, &bytes).unwrap();
    let said = host.try_start().expect_err("it must not serve");
    assert!(
        said.contains("granary repair") && said.contains("00000000.seg"),
        "{said}"
    );

    // Nobody can be asked here, so it only reports.
    let asked = repair(&host, &[]);
    assert!(
        asked.expect(1).stdout.contains("counter/a goes back"),
        "{}",
        asked.stdout
    );
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "a report changes nothing");
    let done = repair(&host, &["--yes", "--json"]);
    let done: Value = serde_json::from_str(done.ok()).unwrap();
    let grains = done["report"]["grains"].as_array().unwrap();
    assert_eq!((grains.len(), &grains[0]["key"]), (1, &Value::from("a")));
    assert_eq!(grains[0]["known_seq"], 50);
    let kept = grains[0]["kept_seq"].as_i64().unwrap();
    assert!((1..50).contains(&kept), "{done}");

    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/counter/a/get").integer(), kept);
    assert_eq!(host.client().call("counter/a/add", "[1]").integer(), kept + 1);
}

#[test]
fn a_lost_snapshot_store_is_made_anew_without_a_loss() {
    let mut host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    for n in 1..=20 {
        assert_eq!(client.call("counter/a/add", "[1]").integer(), n);
    }
    assert!(host.stop().success());
    std::fs::remove_dir_all(host.data().join("snapshots")).unwrap();
    host.start_again();
    assert_eq!(host.client().fetch("/v1/grains/counter/a/get").integer(), 20);
    assert!(host.log().contains("nothing is missing"), "{}", host.log());
}
