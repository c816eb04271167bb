//! Who may call, over the wire.

use super::script::Served;
use crate::http::HttpConfig;

const PATHS: &[&str] = &[
    "/",
    "/v1/grains/counter",
    "/v1/grains/counter/a/get",
    "/v1/modules",
    "/metrics",
    "/healthz",
    "/v2",
];

#[tokio::test]
async fn every_path_is_guarded_against_foreign_names_and_pages() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    for path in PATHS {
        wire.ask("GET", path, "origin: https://evil.example\r\n", "")
            .await
            .problem(403, "forbidden");
        wire.ask("GET", path, "sec-fetch-site: cross-site\r\n", "")
            .await
            .problem(403, "forbidden");
        wire.write(format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\n\r\n"))
            .await;
        wire.reply(true).await.problem(403, "forbidden");
    }
    wire.write("GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    wire.reply(true).await.problem(403, "forbidden");
    wire.write("GET /healthz HTTP/1.1\r\n\r\n").await;
    wire.reply(true).await.problem(400, "bad_arguments");
    let own = format!("origin: http://{}\r\n", served.address);
    let got = wire.ask("POST", "/v1/grains/counter/a/add", &own, "[1]").await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn an_allowed_page_hears_what_its_browser_wants_to_hear() {
    let served = Served::with(HttpConfig {
        allow_origins: vec!["https://app.example".into()],
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    let origin = "origin: https://app.example\r\n";
    let got = wire.ask("POST", "/v1/grains/counter/a/add", origin, "[1]").await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(
        got.header("access-control-expose-headers")
            .unwrap()
            .contains("granary-seq")
    );
    let got = wire.ask("POST", "/v1/grains/counter/a/add", origin, "{}").await;
    got.problem(400, "bad_arguments");
    assert!(got.header("access-control-allow-origin").is_some(), "also of an error");
    let question = format!("{origin}access-control-request-method: POST\r\n");
    let got = wire.ask("OPTIONS", "/v1/grains/counter/a/add", &question, "").await;
    assert_eq!(got.status, 204);
    assert!(got.header("access-control-allow-methods").unwrap().contains("POST"));
    assert!(
        got.header("access-control-allow-headers")
            .unwrap()
            .contains("idempotency-key")
    );
    let foreign = "origin: https://evil.example\r\naccess-control-request-method: POST\r\n";
    wire.ask("OPTIONS", "/v1/grains/counter/a/add", foreign, "")
        .await
        .problem(403, "forbidden");
    wire.ask("OPTIONS", "/v1/grains/counter/a/add", "", "")
        .await
        .problem(405, "read_only_verb");
}

#[tokio::test]
async fn tokens_guard_all_but_the_probes_and_name_the_client() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ci 0123456789abcdef\n").unwrap();
    let served = Served::with(HttpConfig {
        token_file: Some(file.path().into()),
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    for path in PATHS.iter().filter(|path| **path != "/healthz") {
        let got = wire.ask("GET", path, "", "").await;
        got.problem(401, "unauthenticated");
        assert_eq!(got.header("www-authenticate"), Some("Bearer realm=\"granary\""));
        wire.ask("GET", path, "authorization: Bearer 0123456789abcdeX\r\n", "")
            .await
            .problem(401, "unauthenticated");
    }
    assert_eq!(wire.ask("GET", "/healthz", "", "").await.status, 200);
    assert_eq!(wire.ask("GET", "/readyz", "", "").await.status, 200);
    let headers = "authorization: Bearer 0123456789abcdef\r\nidempotency-key: k\r\n";
    assert_eq!(
        wire.ask("POST", "/v1/grains/counter/a/add", headers, "[1]")
            .await
            .status,
        200
    );
    assert_eq!(served.calls()[0].idempotency.as_ref().unwrap().client, "token:ci");
}
