//! Connections: slow ones, resting ones, too many, and the end of all.

use std::time::Duration;

use super::script::Served;
use crate::http::HttpConfig;

fn hasty() -> HttpConfig {
    HttpConfig {
        header_timeout: Duration::from_millis(80),
        idle_timeout: Duration::from_millis(400),
        body_timeout: Duration::from_millis(80),
        ..HttpConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_stop_coming_are_a_slow_client() {
    let served = Served::with(hasty()).await;
    let mut wire = served.connect().await;
    wire.write("POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: loc").await;
    let reply = tokio::time::timeout(Duration::from_secs(5), wire.reply(true));
    let got = reply.await.expect("it is told so in time");
    got.problem(408, "slow_client");
    assert_eq!(got.header("connection"), Some("close"));
    assert!(wire.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn headers_that_trickle_are_a_slow_client() {
    let served = Served::with(hasty()).await;
    let mut wire = served.connect().await;
    wire.ask("GET", "/healthz", "", "").await;
    wire.write("GET /healthz HTTP/1.1\r\n").await;
    let trickle = async {
        for n in 0.. {
            wire.write(format!("x-{n}: y\r\n")).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            if served.api.metrics.connections.get() == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), trickle)
        .await
        .expect("it is closed");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_a_slow_client() {
    let served = Served::with(hasty()).await;
    let mut wire = served.connect().await;
    wire.write("POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n[1")
        .await;
    let got = wire.reply(true).await;
    got.problem(408, "slow_client");
    assert_eq!(got.header("connection"), Some("close"));
    assert!(wire.is_closed().await);
    assert!(served.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_rest_longer_than_headers_may_take() {
    let served = Served::with(hasty()).await;
    let mut wire = served.connect().await;
    wire.ask("GET", "/healthz", "", "").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(wire.ask("GET", "/healthz", "", "").await.status, 200);
    assert!(wire.is_closed().await, "without a word");
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_comes_is_closed() {
    let served = Served::with(hasty()).await;
    let mut wire = served.connect().await;
    let closed = tokio::time::timeout(Duration::from_secs(5), wire.is_closed());
    assert!(closed.await.expect("in time"), "without a word");
}

#[tokio::test(start_paused = true)]
async fn a_call_may_take_longer_than_a_connection_may_rest() {
    let served = Served::with(hasty()).await;
    let mut wire = served.connect().await;
    assert_eq!(
        wire.ask("POST", "/v1/grains/counter/a/wait", "", "[600]").await.body,
        "\"waited\""
    );
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_the_limit_are_told_so() {
    let served = Served::with(HttpConfig {
        connection_limit: 1,
        ..HttpConfig::default()
    })
    .await;
    let mut first = served.connect().await;
    assert_eq!(first.ask("GET", "/healthz", "", "").await.status, 200);
    let mut second = served.connect().await;
    let got = second.reply(true).await;
    got.problem(503, "overloaded");
    assert_eq!(got.header("retry-after"), Some("1"));
    assert!(second.is_closed().await);
    let metrics = first.ask("GET", "/metrics", "", "").await.body;
    assert!(
        metrics.contains("granary_http_connections_refused_total 1\n"),
        "{metrics}"
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
async fn a_stop_lets_open_requests_end_and_closes_the_rest() {
    let mut served = Served::start().await;
    let (mut busy, mut idle) = (served.connect().await, served.connect().await);
    idle.ask("GET", "/healthz", "", "").await;
    busy.send("POST", "/v1/grains/counter/a/wait", "", "[500]").await;
    while served.api.metrics.in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
    served.stop();
    assert!(idle.is_closed().await);
    assert_eq!(
        served.api.metrics.in_flight.get(),
        1,
        "it didn't wait for the open request"
    );
    let got = busy.reply(true).await;
    assert_eq!((got.status, got.body.as_str()), (200, "\"waited\""));
    assert!(busy.is_closed().await);
    served.ended.await.unwrap();
    assert!(served.dialer.connect().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_only_so_long() {
    let mut served = Served::with(HttpConfig {
        drain_timeout: Duration::from_millis(50),
        ..HttpConfig::default()
    })
    .await;
    let mut busy = served.connect().await;
    busy.send("POST", "/v1/grains/counter/a/wait", "", "[60000]").await;
    while served.api.metrics.in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
    served.stop();
    tokio::time::timeout(Duration::from_secs(5), served.ended)
        .await
        .expect("it ends")
        .unwrap();
    assert!(busy.is_closed().await);
    assert_eq!(served.api.metrics.in_flight.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_connection_breaks_is_counted_out() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    wire.send("POST", "/v1/grains/counter/a/wait", "", "[60000]").await;
    while served.api.metrics.in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
    wire.break_off();
    let gone = async {
        while served.api.metrics.in_flight.get() + served.api.metrics.connections.get() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone)
        .await
        .expect("it is counted out");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_half_behind_its_requests_is_answered_all_of_them() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    wire.send("POST", "/v1/grains/counter/a/wait", "", "[5000]").await;
    wire.send("POST", "/v1/grains/counter/a/add", "", "[2]").await;
    wire.end().await;
    assert_eq!(wire.reply(true).await.body, "\"waited\"");
    assert_eq!(wire.reply(true).await.body, "[2]");
    assert!(wire.is_closed().await, "there can't be another request");
    // A half that ends too early is told so.
    let mut wire = served.connect().await;
    wire.write("POST /v1/grains/counter/a/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n[1")
        .await;
    wire.end().await;
    wire.reply(true).await.problem(400, "bad_arguments");
    assert!(wire.is_closed().await);
    // One that ends between requests has nothing to wait for.
    let mut wire = served.connect().await;
    wire.ask("GET", "/healthz", "", "").await;
    wire.end().await;
    assert!(wire.is_closed().await);
    assert_eq!(served.api.metrics.in_flight.get(), 0);
}
