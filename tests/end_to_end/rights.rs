//! Who may administer a host: its data folder's owner, by the socket in it, and tokens that say so.

use granary_tests::cli::{granary, granary_in, run};
use granary_tests::{Host, Request, built};
use serde_json::Value;

fn listening() -> Host {
    Host::start_with(&["--cluster-listen", "127.0.0.1:0"])
}

#[test]
fn whoever_reaches_the_port_gets_no_join_token_and_the_owner_does_from_any_folder() {
    let host = listening();
    let asked = host.client().send(&Request::new("POST", "/v1/cluster/token"));
    asked.problem(401, "unauthenticated");
    assert!(!host.log().contains("granary-join-"), "nobody has asked for a token");
    let folder = tempfile::tempdir().unwrap();
    let token = granary_in(folder.path(), &host, &["token"], &[]);
    assert!(token.ok().starts_with("granary-join-"));
    // Without a word of where the host listens.
    let mut by_folder = std::process::Command::new(built::granary());
    by_folder.args(["token", "--host", "http://127.0.0.1:1", "--data"]);
    assert!(run(by_folder.arg(host.data())).ok().starts_with("granary-join-"));
    let nowhere = run(std::process::Command::new(built::granary())
        .args(["token", "--data"])
        .arg(folder.path()));
    assert!(nowhere.expect(3).stderr.contains("admin.sock"), "{}", nowhere.stderr);
    // A token that is shown counts, not who shows it.
    let shown = granary(&host, &["token", "--token", "0123456789abcdef"]);
    assert!(shown.expect(1).stderr.contains("`admin` token"), "{}", shown.stderr);
}

#[test]
fn with_a_token_file_the_owner_needs_no_token_and_others_do_what_theirs_say() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        tokens.path(),
        "app 0123456789abcdef call:counter\nops fedcba9876543210 admin\n",
    )
    .unwrap();
    let file = tokens.path().to_str().unwrap();
    let mut host = Host::start_with(&["--cluster-listen", "127.0.0.1:0", "--token-file", file]);
    host.client().fetch("/v1/modules").problem(401, "unauthenticated");
    let module = built::module("counter");
    granary(&host, &["deploy", module.to_str().unwrap()]).ok();
    let app = |words: &[&str]| granary(&host, &[words, &["--token", "0123456789abcdef"]].concat());
    assert_eq!(app(&["call", "counter/a", "add", "n=2"]).ok(), "2");
    let refused = app(&["rollback", "counter"]);
    assert!(
        refused.expect(1).stderr.contains("scope `deploy`"),
        "{}",
        refused.stderr
    );
    app(&["drain"]).expect(1);
    granary(&host, &["token", "--token", "fedcba9876543210"]).ok();

    let log = std::fs::read_to_string(host.data().join("audit.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {} {}", line["by"], line["act"], line["outcome"]).replace('"', ""))
        .collect();
    let expected = [
        "owner PUT /v1/modules/counter begun",
        "owner PUT /v1/modules/counter done",
        "token ops POST /v1/cluster/token begun",
        "token ops POST /v1/cluster/token done",
    ];
    assert_eq!(told, expected);

    // The socket of a process that was killed is in nobody's way.
    host.kill();
    host.start_again();
    assert_eq!(granary(&host, &["call", "counter/a", "get"]).ok(), "2");
}
