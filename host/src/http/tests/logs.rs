//! Guests' log records, by one request or as a stream.

use std::time::Duration;

use super::super::HttpConfig;
use super::script::Served;
use crate::router::LogRecord;

fn written(served: &Served, kind: &str, message: &str) {
    let mut written = served.api.inside.written.lock().unwrap();
    let number = written.len() as u64;
    written.push(LogRecord {
        number,
        at_ms: 1000 + number,
        kind: kind.into(),
        key: "a".into(),
        request: [7; 16],
        level: "warn".into(),
        source: "log".into(),
        message: message.into(),
    });
}

#[tokio::test(start_paused = true)]
async fn the_last_records_come_with_their_host_and_who_did_not_answer() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    written(&served, "counter", "first");
    written(&served, "other", "second");
    let got = wire.ask("GET", "/v1/logs", "", "").await;
    assert_eq!((got.status, got.header("cache-control")), (200, Some("no-store")));
    let shown = got.json();
    let me = "cd".repeat(16);
    let first = serde_json::json!({
        "at_ms": 1000, "host": me, "type": "counter", "key": "a", "level": "warn", "source": "log",
        "request_id": "07".repeat(16), "message": "first",
    });
    assert_eq!(shown["records"][0], first);
    assert_eq!(shown["records"][1]["message"], "second");
    assert_eq!(shown["silent"], serde_json::json!(["ab".repeat(16)]));
    let shown = wire.ask("GET", "/v1/logs?type=counter", "", "").await.json();
    assert_eq!(shown["records"].as_array().unwrap().len(), 1);
    for (query, status, code) in [
        ("limit=0", 400, "bad_arguments"),
        ("key=a", 400, "bad_arguments"),
        ("type=nobody", 404, "unknown_type"),
    ] {
        let got = wire.ask("GET", &format!("/v1/logs?{query}"), "", "").await;
        got.problem(status, code);
    }
    let odd = "last-event-id: yesterday\r\n";
    let got = wire.ask("GET", "/v1/logs?follow=true", odd, "").await;
    got.problem(400, "bad_arguments");
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_where_the_one_before_was() {
    let served = Served::start().await;
    written(&served, "counter", "first");
    let mut wire = served.connect().await;
    wire.send("GET", "/v1/logs?follow=true", "", "").await;
    let got = wire.reply(false).await;
    assert_eq!(
        (got.status, got.header("content-type")),
        (200, Some("text/event-stream"))
    );
    let begin = wire.until("\"first\"").await;
    // Who doesn't answer is said once.
    assert!(begin.contains("event: silent"), "{begin}");
    let me = "cd".repeat(16);
    wire.until(&format!("id: {me}:1\n")).await;
    written(&served, "counter", "second");
    let next = wire.until(&format!("id: {me}:2\n")).await;
    assert!(
        next.contains("event: record") && next.contains("\"second\"") && !next.contains("silent"),
        "{next}"
    );
    drop(wire);
    written(&served, "counter", "third");
    let mut wire = served.connect().await;
    wire.send("GET", "/v1/logs?follow=true", &format!("last-event-id: {me}:1\r\n"), "")
        .await;
    let again = wire.until(&format!("id: {me}:3\n")).await;
    assert!(
        again.contains("\"second\"") && again.contains("\"third\"") && !again.contains("\"first\""),
        "{again}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_before_its_connection_has_rested_too_long() {
    let served = Served::with(HttpConfig {
        idle_timeout: Duration::from_millis(800),
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    wire.send("GET", "/v1/logs?follow=true&type=counter", "", "").await;
    wire.until("event: silent").await;
    // The last event says where to go on, though there was no record.
    wire.until(&format!("\nid: {}:0\n", "cd".repeat(16))).await;
    wire.until("0\r\n").await;
    // The connection lives on.
    wire.until("\r\n").await;
    assert_eq!(wire.ask("GET", "/healthz", "", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn so_many_follow_and_no_more_until_one_leaves() {
    let served = Served::start().await;
    let mut following = Vec::new();
    for _ in 0..32 {
        let mut wire = served.connect().await;
        wire.send("GET", "/v1/logs?follow=true", "", "").await;
        wire.until("event: silent").await;
        following.push(wire);
    }
    let mut wire = served.connect().await;
    let refused = wire.ask("GET", "/v1/logs?follow=true", "", "").await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(503, "overloaded");
    // Who only reads isn't in the way.
    assert_eq!(wire.ask("GET", "/v1/logs", "", "").await.status, 200);
    following.pop();
    for _ in 0..100 {
        wire.send("GET", "/v1/logs?follow=true", "", "").await;
        if wire.reply(true).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place of one who left stays taken");
}
