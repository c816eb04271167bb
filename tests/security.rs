//! The security of day one: no web page may call a host on this machine, and no network may without a token.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use granary_tests::{Client, Host, Reply, Request};

fn get(host: &Host, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::new("POST", "/v1/grains/counter/a/add").body("[1]");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    host.client().send(&request)
}

fn counter(flags: &[&str]) -> Host {
    let host = Host::start_with(flags);
    host.deploy("counter");
    host
}

#[test]
fn foreign_origins_and_hosts_are_forbidden() {
    let host = counter(&[]);
    let port = host.address().port();
    get(&host, &[("origin", "https://evil.example")]).problem(403, "forbidden");
    get(&host, &[("origin", "null")]).problem(403, "forbidden");
    get(&host, &[("host", "evil.example")]).problem(403, "forbidden");
    get(&host, &[("host", &format!("evil.example:{port}"))]).problem(403, "forbidden");
    assert_eq!(
        host.client().fetch("/v1/grains/counter/a/get").integer(),
        0,
        "none of these was called"
    );
    get(&host, &[("host", &format!("localhost:{port}"))]).expect(200);
    get(&host, &[("origin", &host.url())]).expect(200);
}

#[test]
fn every_path_is_guarded() {
    let host = counter(&[]);
    for path in [
        "/",
        "/v1/grains/counter",
        "/v1/modules",
        "/v1/cluster",
        "/metrics",
        "/v1/nothing",
    ] {
        let request = Request::new("GET", path).header("host", "evil.example");
        host.client().send(&request).problem(403, "forbidden");
    }
}

#[test]
fn named_origins_and_hosts_are_allowed() {
    let host = counter(&["--allow-origin", "https://good.example", "--allow-host", "good.example"]);
    get(&host, &[("origin", "https://good.example")]).expect(200);
    get(&host, &[("host", "good.example")]).expect(200);
    get(&host, &[("origin", "https://evil.example")]).problem(403, "forbidden");
}

#[test]
fn an_open_listener_wants_a_token() {
    let mut host = Host::prepared(&["--listen", "0.0.0.0:0"]);
    let said = host.try_start().expect_err("it must not serve");
    assert!(
        said.contains("--token-file") && said.contains("--insecure"),
        "it says what would be right: {said}"
    );
}

#[test]
fn insecure_serves_and_warns() {
    let host = Host::start_with(&["--listen", "0.0.0.0:0", "--insecure"]);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], host.address().port()));
    Client::new(address).fetch("/healthz").expect(200);
    host.has_logged("insecure");
}

#[test]
fn a_token_opens_and_nothing_else_does() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "tester correct-horse-battery-staple\n").unwrap();
    let path = file.path().to_str().unwrap();
    let host = Host::start_with(&["--listen", "0.0.0.0:0", "--token-file", path]);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], host.address().port()));
    let mut client = Client::new(address);
    let list = |authorization: Option<&str>| {
        let request = Request::new("GET", "/v1/modules");
        match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    };
    let reply = client.send(&list(None));
    reply.problem(401, "unauthenticated");
    assert!(
        reply
            .header("www-authenticate")
            .is_some_and(|value| value.starts_with("Bearer"))
    );
    client.send(&list(Some("Bearer wrong"))).problem(401, "unauthenticated");
    client
        .send(&list(Some("Basic correct-horse-battery-staple")))
        .problem(401, "unauthenticated");
    client
        .send(&list(Some("Bearer correct-horse-battery-staple")))
        .expect(200);
}
