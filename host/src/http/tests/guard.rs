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
        if *path == "/healthz" {
            continue;
        }
        wire.write(format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\n\r\n"))
            .await;
        wire.reply(true).await.problem(403, "forbidden");
    }
    wire.write("GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    wire.reply(true).await.problem(403, "forbidden");
    wire.write("GET /healthz HTTP/1.1\r\n\r\n").await;
    wire.reply(true).await.problem(400, "bad_arguments");
    let own = format!("origin: http://{}\r\n", served.address);
    let got = wire.ask("POST", "/v1/grains/counter/a/add", &own, "[1]").await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn balancers_hear_that_the_host_is_there_whatever_they_call_it() {
    let served = Served::with(HttpConfig {
        token_file: Some(tokens("ci 0123456789abcdef\n").path().into()),
        ..HttpConfig::default()
    })
    .await;
    for probe in [
        "GET /healthz HTTP/1.0\r\n",
        "GET /readyz HTTP/1.0\r\n",
        "HEAD /readyz HTTP/1.0\r\n",
        "OPTIONS / HTTP/1.0\r\n",
        "GET /healthz HTTP/1.0\r\nhost: backend-3\r\n",
        "GET /readyz HTTP/1.1\r\nhost: backend-3:7777\r\n",
        "OPTIONS / HTTP/1.1\r\nhost: granary.example\r\n",
        "GET http://backend-3/healthz HTTP/1.1\r\nhost: backend-3\r\n",
    ] {
        let mut wire = served.connect().await;
        wire.write(format!("{probe}\r\n")).await;
        assert_eq!(wire.reply(false).await.status, 200, "{probe}");
    }
    // Only for a probe.
    let mut wire = served.connect().await;
    wire.write("GET /metrics HTTP/1.0\r\n\r\n").await;
    wire.reply(true).await.problem(400, "bad_arguments");
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

/// A token file.
fn tokens(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn tokens_guard_all_but_the_probes_and_name_the_client() {
    let file = tokens("ci 0123456789abcdef\n");
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
    assert_eq!(served.calls()[0].idempotency.as_ref().unwrap().scope, "token:ci");
}

#[tokio::test]
async fn the_token_file_is_read_again_when_the_host_is_told_to() {
    let file = tokens("ci 0123456789abcdef\nold fedcba9876543210\n");
    let served = Served::with(HttpConfig {
        token_file: Some(file.path().into()),
        ..HttpConfig::default()
    })
    .await;
    // One connection for all: it's a request that shows a token.
    let mut wire = served.connect().await;
    let mut statuses = async || {
        let mut found = Vec::new();
        for token in ["0123456789abcdef", "fedcba9876543210", "aaaabbbbccccdddd"] {
            let shown = format!("authorization: Bearer {token}\r\n");
            found.push(wire.ask("GET", "/v1/cluster", &shown, "").await.status);
        }
        found
    };
    assert_eq!(statuses().await, [200, 200, 401]);
    std::fs::write(file.path(), "ci 0123456789abcdef admin\nnew aaaabbbbccccdddd call\n").unwrap();
    assert_eq!(statuses().await, [200, 200, 401], "nobody has told it");
    served.reload().await;
    assert_eq!(statuses().await, [200, 401, 403]);
    for broken in ["", "new short", "new aaaabbbbccccdddd fly", "\u{0}"] {
        std::fs::write(file.path(), broken).unwrap();
        served.reload().await;
        assert_eq!(statuses().await, [200, 401, 403], "{broken:?}");
    }
    std::fs::remove_file(file.path()).unwrap();
    served.reload().await;
    assert_eq!(statuses().await, [200, 401, 403]);
    let lines = served.audited();
    let of = |line: &serde_json::Value| (line["act"].clone(), line["by"].clone(), line["outcome"].clone());
    assert_eq!(of(&lines[0]), ("reload".into(), "owner".into(), "begun".into()));
    assert_eq!(of(&lines[1]), ("reload".into(), "owner".into(), "done".into()));
    let changes = serde_json::json!({ "added": ["new"], "changed": ["ci"], "removed": ["old"] });
    assert_eq!(lines[1]["about"], changes);
    assert_eq!(of(&lines[3]), ("reload".into(), "owner".into(), "bad_arguments".into()));
    assert!(
        lines[3]["about"].as_str().unwrap().contains("holds no token"),
        "{}",
        lines[3]
    );
    assert_eq!(lines.len(), 12);
}

#[tokio::test]
async fn a_token_does_what_its_line_says_and_nothing_else() {
    let lines = "plain 0123456789abcdef-plain\nreader 0123456789abcdef-reader read\nshop 0123456789abcdef-shop call:shop- read:count\n\
                 ci 0123456789abcdef-ci deploy:counter\nops 0123456789abcdef-ops admin\n";
    let file = tokens(lines);
    let served = Served::with(HttpConfig {
        token_file: Some(file.path().into()),
        ..HttpConfig::default()
    })
    .await;
    let mut wire = served.connect().await;
    let requests = [
        ("POST", "/v1/grains/counter/a/add", "[1]"),
        ("DELETE", "/v1/grains/counter/a", ""),
        ("GET", "/v1/grains/counter/a/get", ""),
        ("POST", "/v1/grains/counter/a/get", ""),
        ("GET", "/v1/grains/counter/a", ""),
        ("GET", "/v1/grains/counter", ""),
        ("GET", "/v1/logs?type=counter", ""),
        ("GET", "/v1/logs", ""),
        ("GET", "/v1/cluster", ""),
        ("GET", "/metrics", ""),
        ("GET", "/v1/modules/counter", ""),
        ("GET", "/v1/modules", ""),
        ("PUT", "/v1/modules/counter", "x"),
        ("PUT", "/v1/modules/counter-2", "x"),
        ("PUT", "/v1/modules/shop-2", "x"),
        ("POST", "/v1/modules/counter/upgrade", ""),
        ("POST", "/v1/modules/counter/rollback", ""),
        ("POST", "/v1/cluster/token", ""),
        ("POST", "/v1/cluster/drain", ""),
        ("POST", "/v1/cluster/move", ""),
    ];
    for (who, expect) in [
        ("plain", "yyyyyyyyyyyyyyyyynnn"),
        ("reader", "nnyyyyyyyyyynnnnnnnn"),
        ("shop", "nnyyyyynnnyynnnnnnnn"),
        ("ci", "nnnnnnnnnnyyyynyynnn"),
        ("ops", "yyyyyyyyyyyyyyyyyyyy"),
    ] {
        let mut found = String::new();
        for (verb, path, body) in requests {
            let headers = format!("authorization: Bearer 0123456789abcdef-{who}\r\n");
            let got = wire.ask(verb, path, &headers, body).await;
            found.push(if got.status == 403 { 'n' } else { 'y' });
            if got.status == 403 {
                let problem = got.problem(403, "forbidden");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.starts_with(&format!("the token `{who}` may not ")), "{detail}");
                assert!(got.header("granary-owner-socket").is_none());
            }
        }
        assert_eq!(found, expect, "{who}");
    }
    let seen = |types: &serde_json::Value| types["modules"].as_array().unwrap().len();
    for (who, count) in [("reader", 1), ("shop", 1), ("ci", 1)] {
        let headers = format!("authorization: Bearer 0123456789abcdef-{who}\r\n");
        assert_eq!(
            seen(&wire.ask("GET", "/v1/modules", &headers, "").await.json()),
            count,
            "{who}"
        );
    }
}

#[tokio::test]
async fn administration_wants_the_owner_or_an_admin_also_where_no_tokens_are_asked_for() {
    let acts = ["/v1/cluster/token", "/v1/cluster/drain", "/v1/cluster/move"];
    let served = Served::start().await;
    let mut wire = served.connect().await;
    for path in acts {
        let got = wire.ask("POST", path, "", "").await;
        let problem = got.problem(401, "unauthenticated");
        assert!(
            problem["detail"].as_str().unwrap().contains("`admin` token"),
            "{problem}"
        );
        assert_eq!(got.header("granary-owner-socket"), Some("%2Fdata%2Fadmin%2Esock"));
        // A token that nobody has asked for opens nothing.
        wire.ask("POST", path, "authorization: Bearer 0123456789abcdef\r\n", "")
            .await
            .problem(401, "unauthenticated");
    }
    assert_eq!(wire.ask("PUT", "/v1/modules/counter", "", "x").await.status, 201);

    let served = Served::for_owner(HttpConfig::default()).await;
    let mut wire = served.connect().await;
    assert_eq!(wire.ask("POST", acts[0], "", "").await.status, 200);
}

#[tokio::test]
async fn the_audit_log_has_each_administrative_act_before_and_after_it() {
    let served = Served::for_owner(HttpConfig::default()).await;
    let mut wire = served.connect().await;
    wire.ask("GET", "/v1/cluster", "", "").await;
    wire.ask("POST", "/v1/grains/counter/a/add", "", "[1]").await;
    let id = wire.ask("PUT", "/v1/modules/counter", "", "x").await;
    let id = id.header("granary-request-id").unwrap().to_owned();
    wire.ask("POST", "/v1/cluster/token", "", "{\"valid_s\": 60}").await;
    wire.ask("POST", "/v1/cluster/drain", "", "").await;
    let lines = served.audited();
    let short: Vec<String> = lines
        .iter()
        .map(|line| {
            format!(
                "{} {}",
                line["act"].as_str().unwrap(),
                line["outcome"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            "PUT /v1/modules/counter begun",
            "PUT /v1/modules/counter done",
            "POST /v1/cluster/token begun",
            "POST /v1/cluster/token done",
            "POST /v1/cluster/drain begun",
            "POST /v1/cluster/drain bad_arguments",
        ]
    );
    assert!(lines.iter().all(|line| line["by"] == "owner"));
    assert_eq!(lines[1]["request_id"], id.as_str());
    assert_eq!(lines[1]["about"]["revision"], 3);
    assert_eq!(lines[3]["about"], serde_json::json!({ "valid_s": 60 }));
    assert!(
        !lines.iter().any(|line| line.to_string().contains("granary-join")),
        "a token isn't written down"
    );
}
