//! Verbs whose reader has gone, or whose output can't be written.

use std::fs::OpenOptions;
use std::io;
use std::process::{Command, Output, Stdio};

use granary_tests::{Host, built};

const VERBS: [&[&str]; 7] = [
    &["ls"],
    &["ls", "counter"],
    &["ls", "counter", "--json"],
    &["status"],
    &["inspect", "counter/a"],
    &["call", "counter/a", "get"],
    &["rollback", "counter", "--json"],
];

fn host_with_a_counter() -> Host {
    let host = Host::start();
    host.deploy("counter");
    let counter = built::module_bytes("counter");
    // A second revision, so that there is one to go back to: a section that says nothing more.
    let second = [&counter[..], &[0, 2, 1, b'x']].concat();
    assert_eq!(host.client().deploy("counter", &second).status, 201);
    assert_eq!(host.client().call("counter/a/add", "[1]").status, 200);
    host
}

fn output(host: &Host, words: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(built::granary());
    command.args(words).env("GRANARY_HOST", host.url()).stdin(Stdio::null());
    command.stdout(stdout).stderr(Stdio::piped()).output().unwrap()
}

#[test]
fn a_closed_pipe_ends_a_verb_quietly() {
    let host = host_with_a_counter();
    for words in VERBS {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let ended = output(&host, words, writer.into());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), said.as_ref()), (Some(141), ""), "{words:?}");
    }
}

#[test]
fn a_full_disk_is_told() {
    let host = host_with_a_counter();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = output(&host, &["ls", "counter"], full.into());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.starts_with("granary: stdout can't be written: "), "{said}");
}

#[test]
fn nobody_who_reads_stderr_keeps_a_verb_from_its_exit_code() {
    let host = host_with_a_counter();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(built::granary());
    command
        .args(["call", "counter/a", "nothing"])
        .env("GRANARY_HOST", host.url());
    let status = command.stdin(Stdio::null()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
