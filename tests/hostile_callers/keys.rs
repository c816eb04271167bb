//! Keys, types and paths of every legal and illegal kind.

use granary_tests::Request;

use crate::{probe_with, refused, unchanged};

#[test]
fn each_legal_key_is_a_grain_of_its_own() {
    let (_host, mut client) = probe_with(&[]);
    let longest = "k".repeat(1024);
    let encoded = "%41".repeat(1024);
    let keys = [
        ("k", "k"),
        (".", "."),
        ("..", ".."),
        ("%2e%2e%2f%2e%2e", "../.."),
        ("a%2Fb", "a/b"),
        ("a%5Cb", "a\\b"),
        ("%00", "\0"),
        ("a%00", "a\0"),
        ("%01%7f", "\u{1}\u{7f}"),
        ("%20", " "),
        ("a%20", "a "),
        ("+", "+"),
        ("%3F", "?"),
        ("%23", "#"),
        ("%26%3D", "&="),
        ("%25", "%"),
        ("%2541", "%41"),
        ("A", "A"),
        ("a", "a"),
        ("%C3%BC", "\u{fc}"),
        ("u%CC%88", "u\u{308}"),
        ("%F0%9F%A6%80", "\u{1f980}"),
        ("%EF%BB%BF", "\u{feff}"),
        ("%E2%80%AE", "\u{202e}"),
        ("get", "get"),
        ("%7B%22n%22%3A1%7D", "{\"n\":1}"),
        (longest.as_str(), longest.as_str()),
        (encoded.as_str(), &"A".repeat(1024)),
    ];
    for (n, (sent, key)) in (1..).zip(keys) {
        let value = client.fetch(&format!("/v1/grains/probe/{sent}/whoami")).value();
        assert_eq!(value[0], key, "{sent}");
        let added = client.call(&format!("probe/{sent}/add"), &format!("[{n}]")).integer();
        assert_eq!(added, n, "{sent} is another's key");
    }
    for (n, (sent, _)) in (1_i64..).zip(keys) {
        let value = client.fetch(&format!("/v1/grains/probe/{sent}/get")).integer();
        assert_eq!(value, n, "{sent}");
    }
    let listed = client.fetch("/v1/grains/probe?limit=1000").value();
    assert_eq!(listed["keys"].as_array().unwrap().len(), keys.len());
    for (sent, _) in keys {
        let gone = client.send(&Request::new("DELETE", format!("/v1/grains/probe/{sent}")));
        assert_eq!(gone.status, 204, "{sent}");
    }
    assert_eq!(
        client.fetch("/v1/grains/probe?limit=1000").value()["keys"],
        serde_json::json!([])
    );
}

#[test]
fn illegal_keys_and_types_are_refused_with_a_reason() {
    let (_host, mut client) = probe_with(&[]);
    let (long, long_type) = ("k".repeat(1025), "t".repeat(64));
    let endless = "k".repeat(20_000);
    for (path, status, code, word) in [
        (format!("probe/{long}/get"), 400, "bad_arguments", "1024"),
        (format!("probe/{endless}/get"), 400, "bad_arguments", "1024"),
        (
            format!("probe/{}%C3%BC/get", "k".repeat(1023)),
            400,
            "bad_arguments",
            "1024",
        ),
        ("probe//get".into(), 400, "bad_arguments", "1"),
        ("probe/%ff/get".into(), 400, "bad_arguments", "UTF-8"),
        ("probe/%c3/get".into(), 400, "bad_arguments", "UTF-8"),
        ("probe/%c0%80/get".into(), 400, "bad_arguments", "UTF-8"),
        ("probe/%ed%a0%80/get".into(), 400, "bad_arguments", "UTF-8"),
        ("probe/%/get".into(), 400, "bad_arguments", "%25"),
        ("probe/%4/get".into(), 400, "bad_arguments", "%25"),
        ("probe/%zz/get".into(), 400, "bad_arguments", "%25"),
        ("probe/100%/get".into(), 400, "bad_arguments", "%25"),
        ("probe/a/%zz".into(), 400, "bad_arguments", "%25"),
        ("probe/a/get%00".into(), 404, "unknown_method", "it has"),
        ("probe/a/GET".into(), 404, "unknown_method", "it has"),
        (format!("probe/a/{endless}"), 404, "unknown_method", "it has"),
        ("probe/a/get/".into(), 404, "not_found", "/v1/grains/"),
        ("probe/a/b/get".into(), 404, "not_found", "%2F"),
        ("probe/a/".into(), 404, "not_found", "method"),
        ("Probe/a/get".into(), 400, "bad_arguments", "a-z"),
        ("pro_be/a/get".into(), 400, "bad_arguments", "a-z"),
        ("1probe/a/get".into(), 400, "bad_arguments", "a-z"),
        ("-probe/a/get".into(), 400, "bad_arguments", "a-z"),
        ("pr%C3%B6be/a/get".into(), 400, "bad_arguments", "a-z"),
        ("%70robe%00/a/get".into(), 400, "bad_arguments", "a-z"),
        ("probe%2Fa/a/get".into(), 400, "bad_arguments", "a-z"),
        ("../a/get".into(), 400, "bad_arguments", "a-z"),
        (format!("{long_type}/a/get"), 400, "bad_arguments", "62"),
        (format!("{}/a/get", "t".repeat(63)), 404, "unknown_type", "deploy"),
    ] {
        let shown: String = path.chars().take(60).collect();
        let reply = client.fetch(&format!("/v1/grains/{path}"));
        let problem = refused(&reply, status, code, &shown);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{shown}: {detail}");
        assert!(detail.len() < 2000, "{shown}: {} bytes", detail.len());
    }
    assert_eq!(client.fetch("/v1/grains/probe").value()["keys"], serde_json::json!([]));
    assert_eq!(
        client.call("%70robe/a/get", "").integer(),
        0,
        "an encoded type is the type"
    );
    unchanged(&mut client);
}
