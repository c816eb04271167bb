//! Calls, from the bytes of a request to what the router is asked, and back.

use std::time::Duration;

use serde_json::json;

use super::script::Served;
use crate::http::HttpConfig;
use crate::router::Invocation;

fn key(call: &Invocation) -> &str {
    call.grain.key.as_str()
}

#[tokio::test]
async fn a_call_reaches_its_grain_and_its_reply_the_caller() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let got = wire
        .ask("POST", "/v1/grains/counter/alice/add", "", r#"{"n": 5}"#)
        .await;
    assert_eq!((got.status, got.body.as_str()), (200, "[5]"));
    for (name, value) in [
        ("content-type", "application/json"),
        ("granary-seq", "7"),
        ("granary-revision", "3"),
        ("granary-durability", "relaxed"),
        ("granary-host", "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"),
    ] {
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    let [call] = &served.calls()[..] else {
        panic!("one call")
    };
    assert_eq!(got.header("granary-request-id"), Some(call.id.to_string().as_str()));
    assert_eq!(
        (call.grain.to_string().as_str(), call.method.as_str()),
        ("counter/alice", "add")
    );
    assert_eq!(
        (call.args.as_slice(), call.timeout),
        (&b"[5]"[..], Duration::from_secs(10))
    );
    assert_eq!(call.idempotency, None);
}

#[tokio::test]
async fn a_key_is_what_the_path_says_to_the_byte() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    for (sent, expect) in [
        ("a%2Fb", "a/b"),
        ("%00", "\0"),
        ("..", ".."),
        (".", "."),
        ("%2e%2e%2f%2e%2e", "../.."),
        ("%C3%BC+%25", "ü+%"),
        (&"%41".repeat(1024), &"A".repeat(1024)),
    ] {
        let got = wire
            .ask("POST", &format!("/v1/grains/counter/{sent}/get"), "", "")
            .await;
        assert_eq!(got.status, 200, "{sent}: {got:?}");
        assert_eq!(key(&served.calls()[0]), expect, "{sent}");
    }
    for sent in ["%ff", "", &"k".repeat(1025)] {
        let got = wire
            .ask("POST", &format!("/v1/grains/counter/{sent}/get"), "", "")
            .await;
        got.problem(400, "bad_arguments");
    }
}

#[tokio::test]
async fn a_read_may_come_by_get_with_its_arguments_in_the_query() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let got = wire
        .ask("GET", "/v1/grains/counter/a/find?ids=1&name=5&ids=2", "", "")
        .await;
    assert_eq!((got.status, got.body.as_str()), (200, r#"["5",[1,2]]"#));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    let got = wire.ask("HEAD", "/v1/grains/counter/a/get", "", "").await;
    assert_eq!((got.status, got.header("content-length")), (200, Some("2")));
    wire.ask("GET", "/v1/grains/counter/a/get?x=1", "", "")
        .await
        .problem(400, "bad_arguments");
    wire.ask("GET", "/v1/grains/counter/a/get", "", "[1]")
        .await
        .problem(400, "bad_arguments");
    let mut wire = served.connect().await;
    let got = wire.ask("GET", "/v1/grains/counter/a/add?n=1", "", "").await;
    got.problem(405, "read_only_verb");
    assert_eq!(got.header("allow"), Some("POST"));
    let got = wire.ask("PATCH", "/v1/grains/counter/a/get", "", "").await;
    got.problem(405, "read_only_verb");
    assert_eq!(got.header("allow"), Some("GET, HEAD, POST"));
    wire.ask("POST", "/v1/grains/counter/a/add?n=1", "", "[1]")
        .await
        .problem(400, "bad_arguments");
}

#[tokio::test]
async fn what_is_unknown_is_not_found() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    for (path, code) in [
        ("/v1/grains/nothing/a/get", "unknown_type"),
        ("/v1/grains/counter/a/nothing", "unknown_method"),
        ("/v1/grains/counter/a/get/more", "not_found"),
        ("/v1/grains/counter/a/get/", "not_found"),
        ("/v1/grains/", "not_found"),
        ("/v1/grains", "not_found"),
        ("/v2", "not_found"),
        ("/v1/grains/nothing", "unknown_type"),
        ("/v1/grains/nothing/a", "unknown_type"),
    ] {
        wire.ask("GET", path, "", "").await.problem(404, code);
    }
    let problem = wire.ask("POST", "/v1/grains/counter/a/nothing", "", "").await.json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("it has add, get, find"), "{detail}");
    assert!(served.calls().is_empty());
}

#[tokio::test]
async fn failures_are_problem_documents() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let got = wire.ask("POST", "/v1/grains/counter/a/fail", "", "").await;
    let problem = got.problem(409, "guest_error");
    assert_eq!(
        (&problem["error"], &problem["committed"]),
        (&json!({"Short": 5}), &json!("yes"))
    );
    assert_eq!(
        (got.header("granary-seq"), got.header("granary-revision")),
        (Some("7"), Some("3"))
    );
    let got = wire.ask("POST", "/v1/grains/counter/a/full", "", "").await;
    let problem = got.problem(429, "mailbox_full");
    assert_eq!(
        (&problem["retryable"], got.header("retry-after")),
        (&json!(true), Some("1"))
    );
    let problem = wire
        .ask("POST", "/v1/grains/counter/a/add", "", "{}")
        .await
        .problem(400, "bad_arguments");
    assert_eq!(problem["detail"], "missing: `n`. `add` takes `n`");
    let got = wire.ask("POST", "/v1/grains/counter/a/unit", "", "").await;
    assert_eq!((got.status, got.body.as_str()), (200, "null"));
}

#[tokio::test]
async fn headers_say_how_long_how_often_and_on_whose_behalf() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers =
        format!("granary-timeout: 2s\r\nidempotency-key: k-1\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    let got = wire.ask("POST", "/v1/grains/counter/a/add", &headers, "[1]").await;
    assert_eq!(got.header("granary-request-id"), Some(trace));
    let call = served.calls().remove(0);
    assert_eq!(
        (call.id.to_string().as_str(), call.timeout),
        (trace, Duration::from_secs(2))
    );
    let idempotency = call.idempotency.unwrap();
    assert_eq!((idempotency.scope.as_str(), idempotency.key.as_str()), ("", "k-1"));
    for wrong in [
        "granary-timeout: 2\r\n",
        "granary-timeout: 61s\r\n",
        "idempotency-key: a b\r\n",
        "idempotency-key:\r\n",
    ] {
        wire.ask("POST", "/v1/grains/counter/a/add", wrong, "[1]")
            .await
            .problem(400, "bad_arguments");
    }
    let ids: Vec<_> = [wire.ask("GET", "/", "", "").await, wire.ask("GET", "/", "", "").await]
        .iter()
        .map(|got| got.header("granary-request-id").unwrap().to_owned())
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn bodies_have_a_limit_and_the_connection_outlives_it() {
    let served = Served::with(HttpConfig {
        body_limit: 1000,
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    let path = "/v1/grains/counter/a/add";
    let fits = format!("[\"{}\"]", "x".repeat(996));
    assert_eq!(wire.ask("POST", path, "", &fits).await.body, fits);
    let problem = wire
        .ask("POST", path, "", &format!("{fits} "))
        .await
        .problem(413, "too_large");
    assert_eq!(problem["detail"], "the body is larger than the limit of 1000 bytes");
    let chunk = "3f2\r\n".to_owned() + &"x".repeat(0x3f2) + "\r\n0\r\n\r\n";
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    wire.write(head + &chunk).await;
    wire.reply(true).await.problem(413, "too_large");
    assert!(wire.is_closed().await, "a body in chunks is its connection's last");
    let mut wire = served.connect().await;
    assert_eq!(wire.ask("POST", path, "", "[1]").await.body, "[1]");
    let asks_first = "POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n";
    wire.write(asks_first).await;
    wire.reply(true).await.problem(413, "too_large");
}

#[tokio::test]
async fn a_client_that_is_still_sending_hears_why_it_is_refused() {
    let served = Served::start().await;
    let long = "x".repeat(3 << 20);
    for (verb, path, more, status, code) in [
        ("POST", "/v1/grains/nothing/a/add", "", 404, "unknown_type"),
        ("POST", "/v1/grains/counter/a/add?n=1", "", 400, "bad_arguments"),
        ("PUT", "/v1/modules/Wrong", "", 400, "bad_arguments"),
        ("POST", "/v1/grains/counter/a/add", "origin: null\r\n", 403, "forbidden"),
    ] {
        let mut wire = served.connect().await;
        wire.ask(verb, path, more, &long).await.problem(status, code);
        assert_eq!(wire.ask("GET", "/healthz", "", "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_body_in_chunks_is_one_body() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let head = "POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    wire.write(head).await;
    for piece in ["1\r\n[\r\n", "2\r\n12\r\n", "1\r\n]\r\n", "0\r\n\r\n"] {
        wire.write(piece).await;
    }
    let got = wire.reply(true).await;
    assert_eq!((got.body.as_str(), got.header("connection")), ("[12]", Some("close")));
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    wire.send("POST", "/v1/grains/counter/a/wait", "", "[20]").await;
    for n in 1..10 {
        wire.send("POST", "/v1/grains/counter/a/add", "", &format!("[{n}]"))
            .await;
    }
    assert_eq!(wire.reply(true).await.body, "\"waited\"");
    for n in 1..10 {
        assert_eq!(wire.reply(true).await.body, format!("[{n}]"));
    }
}
