//! What a host does at a signal.

use granary_tests::host::signal;
use granary_tests::{Host, Request, wait};
use serde_json::Value;

/// What a request with this token gets.
fn status(host: &Host, token: &str) -> u16 {
    let request = Request::new("GET", "/v1/cluster").header("authorization", &format!("Bearer {token}"));
    host.client().send(&request).status
}

/// The audit log's lines about reading again.
fn reloads(host: &Host) -> Vec<Value> {
    let text = std::fs::read_to_string(host.data().join("audit.log")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["act"] == "reload").collect()
}

fn outcomes(host: &Host) -> Vec<Value> {
    reloads(host).iter().map(|line| line["outcome"].clone()).collect()
}

#[test]
fn sighup_reads_the_token_file_again_and_a_bad_one_changes_nothing() {
    let (old, new) = ("0123456789abcdef", "fedcba9876543210");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("a {old} read\n")).unwrap();
    let mut host = Host::start_with(&["--token-file", file.to_str().unwrap()]);
    assert_eq!((status(&host, old), status(&host, new)), (200, 401));
    std::fs::write(&file, format!("b {new} read\n")).unwrap();
    signal(host.pid(), "HUP");
    wait::until_equal("the new token is known", 200, || status(&host, new));
    assert_eq!(status(&host, old), 401);
    std::fs::write(&file, "nonsense\n").unwrap();
    signal(host.pid(), "HUP");
    host.has_logged("the tokens of before stay in force");
    wait::until_equal("it's written down", 4, || outcomes(&host).len());
    assert_eq!(outcomes(&host), ["begun", "done", "begun", "bad_arguments"]);
    assert_eq!(reloads(&host)[1]["about"]["added"], serde_json::json!(["b"]));
    assert_eq!((status(&host, old), status(&host, new)), (401, 200));
    assert!(!host.log().contains(new), "a token is nobody's to see");
    assert!(host.stop().success());
}

#[test]
fn sighup_ends_no_host() {
    let mut host = Host::start();
    for count in 1..=3 {
        signal(host.pid(), "HUP");
        wait::until_equal("it has heard", 2 * count, || outcomes(&host).len());
    }
    host.client().fetch("/healthz").expect(200);
    assert!(host.stop().success());
}
