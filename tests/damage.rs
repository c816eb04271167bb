//! A damaged data folder from outside: the host refuses, says why, and starts again after `granary repair`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use granary_tests::flip::Flip;
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
    let segment = host.fullest_segment();
    Flip::make(segment.clone());
    let bytes = std::fs::read(&segment).unwrap();
    let said = host.try_start().expect_err("it must not serve");
    assert!(
        said.contains("granary repair") && said.contains(segment.file_name().unwrap().to_str().unwrap()),
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
    host.has_logged("nothing is missing");
}

/// The only file in a folder whose name ends so.
fn only(folder: &Path, end: &str) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|file| file.to_str().unwrap().ends_with(end));
    let file = files.next().unwrap();
    assert_eq!(files.next(), None);
    file
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_module_takes_its_type_and_no_other_until_it_is_deployed_again() {
    for missing in [false, true] {
        let mut host = Host::start();
        host.deploy("counter");
        let module = only(&host.data().join("modules"), "");
        host.deploy("bank");
        assert_eq!(host.client().call("counter/a/add", "[5]").integer(), 5);
        let account = host.client().call("bank/b/deposit", "[7]");
        account.expect(200);
        host.kill();
        if missing {
            std::fs::remove_file(&module).unwrap();
        } else {
            flip(&module);
        }

        host.start_again();
        let mut client = host.client();
        let problem = client.fetch("/v1/grains/counter/a/get").problem(500, "internal");
        let said = problem["detail"].as_str().unwrap();
        let name = module.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name) && said.contains("granary repair"), "{said}");
        assert_eq!(
            client.call("bank/b/deposit", "[7]").status,
            200,
            "the others are served"
        );

        host.deploy("counter");
        assert_eq!(client.fetch("/v1/grains/counter/a/get").integer(), 5);
        assert!(host.stop().success());
        host.start_again();
        assert_eq!(host.client().call("counter/a/add", "[1]").integer(), 6);
    }
}

#[test]
fn damaged_compiled_code_is_compiled_anew() {
    let mut host = Host::prepared(&[]).compiling();
    host.start_again();
    host.deploy("counter");
    assert_eq!(host.client().call("counter/a/add", "[5]").integer(), 5);
    host.kill();
    flip(&only(&host.data().join("compiled"), ".code"));
    host.start_again();
    assert_eq!(host.client().call("counter/a/add", "[1]").integer(), 6);
    host.has_logged("is damaged and compiled anew");
}
