//! What guests wrote, told to those who ask and to those who follow.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use granary_tests::cli::granary;
use granary_tests::{Host, Request, built};
use serde_json::{Value, json};

fn write(host: &Host, key: &str, level: &str, message: &str) {
    let path = format!("probe/{key}/log");
    host.client()
        .call(&path, &json!([level, message]).to_string())
        .expect(200);
}

fn messages(page: &Value) -> Vec<&str> {
    let records = page["records"].as_array().unwrap().iter();
    records.map(|record| record["message"].as_str().unwrap()).collect()
}

#[test]
fn the_last_records_come_with_their_grain_and_request() {
    let host = Host::start();
    host.deploy("probe");
    host.deploy("counter");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let log = Request::new("POST", "/v1/grains/probe/a%2F1/log")
        .header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"))
        .body(r#"["warn", "first\n"]"#);
    host.client().send(&log).expect(200);
    host.client().call("probe/b/print", r#"["second"]"#).expect(200);
    host.client().call("probe/b/eprint", r#"["third"]"#).expect(200);

    let page = host.client().fetch("/v1/logs").value();
    assert_eq!(
        (messages(&page), &page["silent"]),
        (vec!["first\n", "second", "third"], &json!([]))
    );
    let mut first = page["records"][0].clone();
    assert!(first["at_ms"].take().as_u64().unwrap() > 1_600_000_000_000);
    let expected = json!({
        "at_ms": null, "host": host.view()["host"], "type": "probe", "key": "a/1", "level": "warn", "source": "log",
        "request_id": trace, "message": "first\n",
    });
    assert_eq!(first, expected);
    let sources: Vec<&Value> = page["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record["source"])
        .collect();
    assert_eq!(sources, ["log", "stdout", "stderr"]);

    let of = |query: &str| host.client().fetch(&format!("/v1/logs?{query}")).value();
    assert_eq!(messages(&of("type=probe&key=b")), ["second", "third"]);
    assert_eq!(messages(&of("limit=1")), ["third"]);
    assert_eq!(messages(&of("type=counter")), [""; 0]);
    host.client().fetch("/v1/logs?type=nobody").problem(404, "unknown_type");
    host.client().fetch("/v1/logs?limit=1001").problem(400, "bad_arguments");

    let lines = granary(&host, &["logs", "probe/a/1"]);
    let line = lines.ok();
    assert!(line.ends_with(r"WARN  probe/a/1  first\n"), "{line}");
    let lines = granary(&host, &["logs", "probe", "-n", "2", "--json"]);
    let last = lines.ok().lines().last().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap(), page["records"][2]);
    assert_eq!(lines.ok().lines().count(), 2);
    granary(&host, &["logs", "nobody"]).expect(1);
    granary(&host, &["logs", "-n", "1001"]).expect(2);
}

#[test]
fn who_follows_gets_what_was_written_and_then_each_record() {
    let host = Host::start();
    host.deploy("probe");
    write(&host, "a", "info", "before");
    let mut client = host.client();
    client
        .write(&Request::new("GET", "/v1/logs?follow=true&type=probe&key=a"))
        .unwrap();
    let mut told = client.into_lines().filter_map(|line| {
        let record: Value = serde_json::from_str(line.strip_prefix("data: ")?).unwrap();
        Some(record["message"].as_str().unwrap().to_owned())
    });
    assert_eq!(told.next().unwrap(), "before");
    let mut child = Command::new(built::granary())
        .args(["logs", "--follow", "probe/a"])
        .env("GRANARY_HOST", host.url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().ends_with("INFO  probe/a  before"));
    write(&host, "b", "info", "another grain's");
    for number in 0..20 {
        let message = format!("record {number}");
        write(&host, "a", "error", &message);
        assert_eq!(told.next().unwrap(), message);
        let line = lines.next().unwrap();
        assert!(line.ends_with(&format!("ERROR probe/a  {message}")), "{line}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
