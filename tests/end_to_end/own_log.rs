//! The host's own log: it harms nobody, whatever becomes of it, and a record is a line, whoever wrote it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use granary_tests::{Client, Host, built, wait};
use serde_json::{Value, json};

const DROPPED: &str = "granary_log_records_dropped_total";

/// A host whose log goes there instead.
fn logging_to(path: &Path) -> Host {
    let script = format!("exec \"$0\" \"$@\" 2>{}", path.display());
    let mut host = Host::prepared(&[]).wrapped(&["sh", "-c", &script]);
    host.start_again();
    host
}

/// A pipe with a name, and its reader's end.
fn pipe(folder: &Path) -> (PathBuf, File) {
    let path = folder.join("log");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Opened for both: who opens it for reading only waits for a writer.
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    (path, reader)
}

/// Has a guest write a record.
fn write(client: &mut Client, key: &str, text: &str) {
    let path = format!("probe/{key}/log");
    client.call(&path, &json!(["info", text]).to_string()).expect(200);
}

/// It serves, counts what is dropped, and stops as any other host.
fn goes_on(mut host: Host) {
    host.deploy("probe");
    let mut client = host.client();
    for number in 0..100 {
        write(&mut client, "a", &format!("record {number}"));
    }
    wait::until("records are counted that were dropped", || {
        (host.metric(DROPPED)? >= 100.0).then_some(())
    });
    assert!(host.stop().success());
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    goes_on(logging_to(Path::new("/dev/full")));
}

#[test]
fn a_log_whose_reader_went_away_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = pipe(folder.path());
    let host = logging_to(&path);
    drop(reader);
    goes_on(host);
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing_and_says_later_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = pipe(folder.path());
    let mut host = logging_to(&path);
    host.deploy("probe");
    let mut client = host.client();
    let long = "x".repeat(8000);
    let mut written = 0;
    while host.metric(DROPPED).unwrap() == 0.0 {
        for _ in 0..100 {
            write(&mut client, "a", &long);
            written += 1;
        }
        assert!(written < 5_000, "40 MB wait for a reader");
    }
    let dropped = host.metric(DROPPED).unwrap();
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let mut guests = 0;
    let notice = loop {
        let line = lines.next().unwrap();
        if line.contains("records were dropped") {
            break line;
        }
        assert!(line.starts_with("20"), "a record's line begins with its time: {line}");
        guests += usize::from(line.contains("granary::guest"));
    };
    let missing: usize = notice.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!((1..=dropped as usize).contains(&missing), "{notice} of {dropped}");
    // A record of the host's own may be among those that are missing.
    assert!(
        guests < written && guests + dropped as usize >= written,
        "{guests} of {written}"
    );
    write(&mut client, "b", "it works again");
    lines.find(|line| line.contains("it works again")).unwrap();
    assert!(host.stop().success());
}

#[test]
fn a_stdout_that_cannot_be_written_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut child = Command::new(built::granary())
        .args(["up", "--alone", "--listen", "127.0.0.1:0", "--print-token", "--data"])
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // One that is alone has no token to print, and says so.
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut child = Command::new(built::granary())
        .args(["up", "--alone", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = "127.0.0.1:1".parse().unwrap();
    let healthy = wait::until("it serves", || {
        let mut client = Client::of_owner(address, data.join("admin.sock"));
        client.try_send(&granary_tests::Request::new("GET", "/healthz")).ok()
    });
    healthy.expect(200);
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

const FORGED: &str =
    "5 added\n2026-03-01T12:00:00.000007Z ERROR granary_host::storage: the disk \"failed\" key=b\r\u{1b}[2J";

#[test]
fn a_guest_s_text_is_part_of_one_record_and_forges_none() {
    let host = Host::start();
    host.deploy("probe");
    write(&mut host.client(), "a", FORGED);
    write(&mut host.client(), "line%0Afeed", "another");
    host.has_logged("another");
    let log = host.log();
    let of_guests: Vec<&str> = log.lines().filter(|line| line.contains("granary::guest")).collect();
    assert_eq!(of_guests.len(), 2, "{log}");
    let shown = r#" granary::guest: "5 added\n2026-03-01T12:00:00.000007Z ERROR granary_host::storage: the disk \"failed\" key=b\r\u{1b}[2J" kind=probe key=a "#;
    assert!(of_guests[0].contains(shown), "{}", of_guests[0]);
    assert!(of_guests[1].contains(r#" key="line\nfeed" "#), "{}", of_guests[1]);
    assert!(
        !log.lines().any(|line| line.starts_with("2026-03-01T12:00:00.000007Z")),
        "{log}"
    );
}

#[test]
fn a_log_for_programs_is_an_object_a_line() {
    let host = Host::start_with(&["--log-format", "json"]);
    host.deploy("probe");
    write(&mut host.client(), "line%0Afeed", FORGED);
    host.has_logged("5 added");
    let log = host.log();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let started = records.iter().find(|record| record["message"] == "started").unwrap();
    assert_eq!(
        (&started["level"], &started["target"]),
        (&json!("info"), &json!("granary_host::host"))
    );
    assert_eq!(started["fields"]["address"], host.address().to_string());
    let guests = records
        .iter()
        .find(|record| record["target"] == "granary::guest")
        .unwrap();
    assert_eq!(
        (&guests["message"], &guests["fields"]["key"]),
        (&json!(FORGED), &json!("line\nfeed"))
    );
    let wrong = Host::prepared(&["--log-format", "xml"]).try_start().unwrap_err();
    assert!(
        wrong.contains("text or json") && wrong.contains("exit status: 2"),
        "{wrong}"
    );
}
