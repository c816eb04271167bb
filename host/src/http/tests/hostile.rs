//! What isn't HTTP, what is two requests in one, and who asks for much and reads nothing.

use std::time::Duration;

use super::script::Served;
use super::wire::Wire;
use crate::http::HttpConfig;

/// What can't be read as a request.
const NONSENSE: &[&str] = &[
    "nonsense\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nhost localhost\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nho st: localhost\r\n\r\n",
    "GET /healthz HTTP/3.0\r\n\r\n",
    "GET /\u{7f} HTTP/1.1\r\n\r\n",
    "\0\0\0\0",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0",
    "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    "POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
    "POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
    "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
    "POST / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
    "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
];

#[tokio::test(start_paused = true)]
async fn what_is_not_http_is_told_so_in_a_document() {
    let served = Served::start().await;
    let long = "y".repeat(40_000);
    let headers = "x: y\r\n".repeat(101);
    let others = [
        (format!("GET /healthz HTTP/1.1\r\n{headers}\r\n"), 431, "too_large"),
        (format!("GET /healthz HTTP/1.1\r\nx: {long}\r\n\r\n"), 431, "too_large"),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431, "too_large"),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0".into(),
            505,
            "bad_arguments",
        ),
    ];
    let nonsense = NONSENSE.iter().map(|bytes| ((*bytes).to_owned(), 400, "bad_arguments"));
    for (bytes, status, code) in nonsense.chain(others) {
        let mut wire = served.connect().await;
        wire.write(&bytes).await;
        let got = wire.reply(true).await;
        let shown: String = bytes.chars().take(60).collect();
        assert_eq!(got.status, status, "{shown:?}: {got:?}");
        got.problem(status, code);
        assert_eq!(got.header("connection"), Some("close"));
        assert!(wire.is_closed().await, "{shown:?}");
    }
    assert!(served.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_on_its_way_comes_before_the_word_that_the_rest_is_nonsense() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    wire.write(
        "POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n[1]nonsense\r\n\r\n",
    )
    .await;
    assert_eq!(wire.reply(true).await.body, "[1]");
    assert_eq!(wire.reply(true).await.status, 400);
    assert!(wire.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_request_hidden_behind_another_is_not_answered() {
    let served = Served::start().await;
    let head = "POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\n";
    let hidden = "POST /v1/grains/counter/hidden/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n[9]";
    for lengths in [
        "content-length: 200\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 200\r\n",
        "transfer-encoding: chunked\r\n",
    ] {
        let mut wire = served.connect().await;
        wire.write(format!("{head}{lengths}\r\n3\r\n[1]\r\n0\r\n\r\n{hidden}"))
            .await;
        let got = wire.reply(true).await;
        assert_eq!(
            (got.body.as_str(), got.header("connection")),
            ("[1]", Some("close")),
            "{lengths}"
        );
        assert!(wire.is_closed().await);
        assert_eq!(served.calls().len(), 1, "{lengths}");
    }
}

#[tokio::test(start_paused = true)]
async fn broken_chunks_call_nothing() {
    let served = Served::start().await;
    let head = "POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    for chunks in [
        "x\r\n[1]\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n[1]",
        "3\r\n[1]4\r\n",
        "-3\r\n[1]\r\n",
        "\r\n\r\n",
    ] {
        let mut wire = served.connect().await;
        wire.write(format!("{head}{chunks}")).await;
        wire.reply(true).await.problem(400, "bad_arguments");
        assert!(wire.is_closed().await, "{chunks:?}");
    }
    assert!(served.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn compressed_bodies_are_refused() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let got = wire
        .ask("POST", "/v1/grains/counter/a/add", "content-encoding: gzip\r\n", "[1]")
        .await;
    let problem = got.problem(400, "bad_arguments");
    assert!(
        problem["detail"].as_str().unwrap().contains("content-encoding"),
        "{problem}"
    );
    assert!(served.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_its_reply_is_left() {
    let served = Served::with(HttpConfig {
        header_timeout: Duration::from_millis(80),
        reply_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(40),
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    // More than the buffers of both ends hold.
    wire.send("POST", "/v1/grains/counter/a/big", "", "[64000000]").await;
    let left = async {
        while served.api.metrics.slow_readers.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), left)
        .await
        .expect("it is left");
    let given_back = async {
        while served.api.body_memory.used_bytes() > 0 || served.api.metrics.connections.get() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), given_back)
        .await
        .expect("its reply's memory is given back");
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_but_reads_gets_its_reply() {
    let served = Served::with(HttpConfig {
        header_timeout: Duration::from_millis(40),
        idle_timeout: Duration::from_millis(40),
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    wire.send("POST", "/v1/grains/counter/a/big", "", "[64000000]").await;
    while served.api.body_memory.used_bytes() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(wire.reply(true).await.body.len(), 64_000_002);
    assert_eq!(served.api.metrics.slow_readers.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn replies_share_the_memory_of_bodies() {
    let served = Served::with(HttpConfig {
        body_memory_limit: 20_000_000,
        body_memory_wait: Duration::from_millis(20),
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    let path = "/v1/grains/counter/a/big";
    assert_eq!(wire.ask("POST", path, "", "[9000000]").await.body.len(), 9_000_002);
    let problem = wire
        .ask("POST", path, "", "[21000000]")
        .await
        .problem(410, "reply_not_kept");
    assert_eq!(problem["committed"], "yes");
    assert_eq!(served.api.metrics.memory_refused.get(), 1);
    assert_eq!(wire.ask("POST", path, "", "[9000000]").await.body.len(), 9_000_002);
}

/// Sends the head of a long body and half of it.
async fn half_a_body(served: &Served) -> Wire {
    let mut wire = served.connect().await;
    wire.write("POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    wire.write("x".repeat(500_000)).await;
    wire
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_being_read_take_so_much_memory_and_no_more() {
    let served = Served::with(HttpConfig {
        body_memory_limit: 1_200_000,
        body_memory_wait: Duration::from_millis(20),
        ..HttpConfig::default()
    })
    .await;
    let announcing = "POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8000000\r\n\r\n";
    let mut idle = served.connect().await;
    idle.write(announcing).await;
    let first = half_a_body(&served).await;
    let fits = async {
        while served.api.body_memory.used_bytes() < 500_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), fits)
        .await
        .expect("an announced length takes no room from others");
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(half_a_body(&served).await);
    }
    let refused = async {
        while served.api.metrics.memory_refused.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .expect("the rest finds no room");
    let small = served
        .connect()
        .await
        .ask("POST", "/v1/grains/counter/a/add", "", "[1]")
        .await;
    assert_eq!(small.body, "[1]", "small bodies need none");
    drop((first, others, idle));
    let given_back = async {
        while served.api.body_memory.used_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), given_back)
        .await
        .expect("what broke off is given back");
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_are_refused_and_other_paths_are_not() {
    let served = Served::with(HttpConfig {
        call_limit: 1,
        ..HttpConfig::default()
    })
    .await;
    let (mut busy, mut other) = (served.connect().await, served.connect().await);
    busy.send("POST", "/v1/grains/counter/a/wait", "", "[300]").await;
    while served.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let got = other.ask("POST", "/v1/grains/counter/b/add", "", "[1]").await;
    got.problem(503, "overloaded");
    assert_eq!(got.header("retry-after"), Some("1"));
    other
        .ask("DELETE", "/v1/grains/counter/b", "", "")
        .await
        .problem(503, "overloaded");
    assert_eq!(other.ask("GET", "/v1/grains/counter/b", "", "").await.status, 200);
    assert_eq!(busy.reply(true).await.status, 200);
    assert_eq!(
        other.ask("POST", "/v1/grains/counter/b/add", "", "[1]").await.status,
        200
    );
    assert_eq!(served.api.metrics.calls_refused.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_address_may_not_take_all_connections() {
    let served = Served::with(HttpConfig {
        peer_connection_limit: 1,
        ..HttpConfig::default()
    })
    .await;
    let mut first = served.connect().await;
    assert_eq!(first.ask("GET", "/healthz", "", "").await.status, 200);
    let problem = served.connect().await.reply(true).await.problem(503, "overloaded");
    assert!(
        problem["detail"].as_str().unwrap().contains("your address"),
        "{problem}"
    );
    drop(first);
    let answered = async {
        loop {
            let mut wire = served.connect().await;
            wire.send("GET", "/healthz", "", "").await;
            if wire.reply(true).await.status == 200 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), answered)
        .await
        .expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn odd_targets_and_verbs_are_answered_like_others() {
    let served = Served::start().await;
    for (request, status, code) in [
        ("OPTIONS * HTTP/1.1\r\nhost: localhost\r\n", 404, "not_found"),
        ("CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n", 404, "not_found"),
        (
            "CONNECT evil.example:80 HTTP/1.1\r\nhost: localhost\r\n",
            403,
            "forbidden",
        ),
        (
            "GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\n",
            403,
            "forbidden",
        ),
        (
            "TRACE /v1/grains/counter/a/get HTTP/1.1\r\nhost: localhost\r\n",
            405,
            "read_only_verb",
        ),
        (
            "BREW /v1/grains/counter/a/get HTTP/1.1\r\nhost: localhost\r\n",
            405,
            "read_only_verb",
        ),
        (
            "PUT /v1/grains/counter/a/get HTTP/1.1\r\nhost: localhost\r\n",
            405,
            "read_only_verb",
        ),
        ("GET /healthz HTTP/1.1\r\n", 400, "bad_arguments"),
        ("GET /metrics HTTP/1.0\r\n", 400, "bad_arguments"),
        (
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n",
            400,
            "bad_arguments",
        ),
        (
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n",
            400,
            "bad_arguments",
        ),
    ] {
        let mut wire = served.connect().await;
        wire.write(format!("{request}\r\n")).await;
        let got = wire.reply(true).await;
        assert_eq!(got.status, status, "{request}: {got:?}");
        got.problem(status, code);
    }
    for request in [
        "GET http://localhost/healthz HTTP/1.1\r\nhost: localhost\r\n",
        "GET /healthz HTTP/1.0\r\nhost: localhost\r\n",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n",
    ] {
        let mut wire = served.connect().await;
        wire.write(format!("{request}\r\n")).await;
        assert_eq!(wire.reply(true).await.status, 200, "{request}");
    }
    assert!(served.calls().is_empty());
}
