//! Everything but calls: grains, modules, the host itself.

use serde_json::json;

use super::script::Served;
use crate::http::HttpConfig;

#[tokio::test]
async fn a_grains_status_is_read_and_a_grain_deleted() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let status = wire.ask("GET", "/v1/grains/counter/a%2Fb", "", "").await.json();
    let expect = json!({
        "type": "counter", "key": "a/b", "exists": true, "resident": true, "host": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
        "revision": 3, "current_revision": 3, "ballot": 1, "seq": 7, "memory_bytes": 131_072, "idle_ms": 5, "queued": 0,
        "durability": "relaxed", "last_error": null,
        "upgrade_failure": {"key": "a/1", "revision": 2, "code": "trap", "reason": "it trapped"},
    });
    assert_eq!(status, expect);
    let got = wire.ask("DELETE", "/v1/grains/counter/a%2Fb", "", "").await;
    assert_eq!((got.status, got.header("granary-seq")), (204, Some("7")));
    let got = wire.ask("POST", "/v1/grains/counter/a", "", "").await;
    got.problem(405, "read_only_verb");
    assert_eq!(got.header("allow"), Some("GET, HEAD, DELETE"));
    wire.ask("GET", "/v1/grains/counter/a?x=1", "", "")
        .await
        .problem(400, "bad_arguments");
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let all = wire.ask("GET", "/v1/grains/counter", "", "").await.json();
    assert_eq!(all, json!({"keys": ["a/1", "a/2", "a/3", "b"], "next": null}));
    let page = wire
        .ask("GET", "/v1/grains/counter?prefix=a%2F&limit=2", "", "")
        .await
        .json();
    assert_eq!(page["keys"], json!(["a/1", "a/2"]));
    let next = page["next"].as_str().unwrap();
    let page = wire
        .ask(
            "GET",
            &format!("/v1/grains/counter?prefix=a%2F&limit=2&cursor={next}"),
            "",
            "",
        )
        .await
        .json();
    assert_eq!(page, json!({"keys": ["a/3"], "next": null}));
    wire.ask("GET", "/v1/grains/counter?limit=1001", "", "")
        .await
        .problem(400, "bad_arguments");
    wire.ask("DELETE", "/v1/grains/counter", "", "")
        .await
        .problem(405, "read_only_verb");
}

#[tokio::test]
async fn modules_are_deployed_and_shown() {
    let served = Served::with(HttpConfig {
        module_limit: 100,
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    let got = wire.ask("PUT", "/v1/modules/clicks", "", "\0asm").await;
    assert_eq!(got.status, 201);
    let deployed = got.json();
    assert_eq!(
        (&deployed["type"], &deployed["revision"]),
        (&json!("clicks"), &json!(3))
    );
    assert_eq!(deployed["blake3"], "ee".repeat(32));
    assert_eq!(
        deployed["methods"][0],
        json!({"name": "add", "kind": "write", "params": ["n"]})
    );
    assert_eq!(wire.ask("PUT", "/v1/modules/clicks", "", "\0asm").await.status, 200);
    wire.ask("PUT", "/v1/modules/clicks", "", "bad")
        .await
        .problem(422, "bad_module");
    wire.ask("PUT", "/v1/modules/clicks", "", "")
        .await
        .problem(422, "bad_module");
    wire.ask("PUT", "/v1/modules/Clicks", "", "\0asm")
        .await
        .problem(400, "bad_arguments");
    let problem = wire
        .ask("PUT", "/v1/modules/clicks", "", &"x".repeat(101))
        .await
        .problem(413, "too_large");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("the module is larger than the limit of 100 bytes"),
        "{detail}"
    );
    assert!(detail.contains("debug information"), "{detail}");

    let list = wire.ask("GET", "/v1/modules", "", "").await.json();
    assert_eq!(list["modules"][0]["type"], "counter");
    let one = wire.ask("GET", "/v1/modules/counter", "", "").await.json();
    assert_eq!(
        (&one["doc"], &one["methods"][0]["doc"]),
        (&json!("Counts."), &json!("Adds."))
    );
    assert_eq!(one["methods"][0]["params"][0]["schema"]["type"], "integer");
    wire.ask("GET", "/v1/modules/nothing", "", "")
        .await
        .problem(404, "unknown_type");
    let got = wire.ask("DELETE", "/v1/modules/counter", "", "").await;
    got.problem(405, "read_only_verb");
    let allow = got.header("allow").unwrap();
    assert!(allow.contains("GET") && allow.contains("PUT"), "{allow}");
}

#[tokio::test]
async fn the_host_tells_of_itself() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let view = wire.ask("GET", "/v1/cluster", "", "").await.json();
    assert_eq!(view["dirty_tracking"], "compare");
    assert_eq!(view["dirty_tracking_reason"], "the kernel is too old");
    assert_eq!(view["host"], "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd");
    assert_eq!(view["address"], served.address.to_string());
    assert_eq!(view["members"][0]["host"], view["host"]);
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(wire.ask("GET", probe, "", "").await.status, 200);
        assert_eq!(wire.ask("HEAD", probe, "", "").await.status, 200);
    }
    wire.ask("POST", "/v1/grains/counter/a/full", "", "")
        .await
        .problem(429, "mailbox_full");
    wire.ask("GET", "/v2", "", "").await.problem(404, "not_found");
    let metrics = wire.ask("GET", "/metrics", "", "").await.body;
    for line in [
        "granary_http_requests_total{code=\"ok\"} 5",
        "granary_http_requests_total{code=\"mailbox_full\"} 1",
        "granary_http_requests_total{code=\"not_found\"} 1",
        "granary_http_requests_in_flight 1",
        "granary_http_connections 1",
        "granary_http_request_seconds_count 7",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    for path in ["/", "/v1/openapi.json"] {
        wire.ask("GET", path, "", "").await.problem(501, "not_implemented");
    }
    let got = wire.ask("POST", "/v1/cluster", "", "").await;
    got.problem(405, "read_only_verb");
    assert!(got.header("allow").unwrap().contains("GET"));
}

#[tokio::test]
async fn what_an_operator_does_with_a_cluster_is_checked_before_it_is_done() {
    let served = Served::for_owner(HttpConfig::default()).await;
    let mut wire = served.connect().await;
    let token = wire.ask("POST", "/v1/cluster/token", "", "").await.json();
    assert_eq!(token, json!({"token": "granary-join-for-3600", "valid_s": 3600}));
    let token = wire
        .ask("POST", "/v1/cluster/token", "", "{\"valid_s\": 60}")
        .await
        .json();
    assert_eq!(token["token"], "granary-join-for-60");
    for body in ["{\"valid_s\": 0}", "{\"valid_s\": 99999999}", "{\"valid\": 5}", "5"] {
        let got = wire.ask("POST", "/v1/cluster/token", "", body).await;
        got.problem(400, "bad_arguments");
    }
    let host = "cd".repeat(16);
    let body = json!({"type": "counter", "key": "a/b", "host": host}).to_string();
    let moved = wire.ask("POST", "/v1/cluster/move", "", &body).await.json();
    assert_eq!(moved, json!({"moved": true, "pause_us": 1234}));
    for body in ["", "{}", "{\"type\": \"counter\", \"key\": \"a\", \"host\": \"cd\"}"] {
        let got = wire.ask("POST", "/v1/cluster/move", "", body).await;
        got.problem(400, "bad_arguments");
    }
    let rotated = wire.ask("POST", "/v1/cluster/rotate", "", "").await.json();
    assert_eq!(rotated, json!({"rotated": true, "hosts": 3}));
    wire.ask("POST", "/v1/cluster/drain", "", "")
        .await
        .problem(400, "bad_arguments");
    wire.ask("GET", "/v1/cluster/drain", "", "")
        .await
        .problem(405, "read_only_verb");
}
