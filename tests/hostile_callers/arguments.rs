//! Bodies and queries that aren't what a method takes.

use granary_tests::Request;

use crate::{probe_with, refused, unchanged};

/// For `add(n: i64)`: a body and a word that the refusal has to have.
const ADD: &[(&str, &str)] = &[
    ("", "missing: `n`"),
    (" \r\n\t", "missing: `n`"),
    ("{}", "missing: `n`"),
    ("[]", "missing: `n`"),
    ("[1,2]", "too many"),
    (r#"{"n":1,"m":2}"#, "unknown: `m`"),
    (r#"{"N":1}"#, "missing: `n`"),
    (r#"{"n":1,"n":1}"#, "twice"),
    (r#"{"n":1,"\u006e":1}"#, "twice"),
    (r#"{"n":"1"}"#, "n"),
    (r#"{"n":true}"#, "n"),
    (r#"{"n":null}"#, "n"),
    (r#"{"n":[1]}"#, "n"),
    (r#"{"n":{"n":1}}"#, "n"),
    (r#"{"n":1.5}"#, "n"),
    (r#"{"n":1e400}"#, "n"),
    (r#"{"n":-1e400}"#, "n"),
    (r#"{"n":9223372036854775808}"#, "n"),
    (r#"{"n":-9223372036854775809}"#, "n"),
    (r#"{"n":18446744073709551616}"#, "n"),
    (r#"{"n":NaN}"#, "JSON"),
    (r#"{"n":Infinity}"#, "JSON"),
    (r#"{"n":-Infinity}"#, "JSON"),
    (r#"{"n":-}"#, "JSON"),
    (r#"{"n":+1}"#, "JSON"),
    (r#"{"n":01}"#, "JSON"),
    (r#"{"n":0x1}"#, "JSON"),
    (r#"{"n":.5}"#, "JSON"),
    (r#"{"n":1.}"#, "JSON"),
    (r#"{"n":1e}"#, "JSON"),
    (r#"{"n":1_000}"#, "JSON"),
    (r#"{"n":1}x"#, "JSON"),
    (r#"{"n":1}{"n":1}"#, "JSON"),
    (r#"{"n":1},"#, "JSON"),
    (r#"{"n":1"#, "JSON"),
    (r#"{"n":1,}"#, "JSON"),
    ("[1,]", "JSON"),
    ("[1", "JSON"),
    ("[1]]", "JSON"),
    ("[1]\0", "JSON"),
    ("{n:1}", "JSON"),
    ("{'n':1}", "JSON"),
    ("{\"n\":1/**/}", "JSON"),
    ("{\"n\n\":1}", "JSON"),
    ("{\"\\ud800\":1}", "JSON"),
    ("null", "neither"),
    ("5", "neither"),
    ("\"x\"", "neither"),
    ("true", "neither"),
    ("n=5", "neither"),
    ("<n>5</n>", "neither"),
    ("\u{feff}[1]", "byte order mark"),
];

#[test]
fn bodies_that_a_method_does_not_take_are_refused_with_a_reason() {
    let (_host, mut client) = probe_with(&[]);
    for (body, word) in ADD {
        let problem = refused(&client.call("probe/a/add", body), 400, "bad_arguments", body);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{body}: {detail}");
    }
    for body in [
        &b"[\xff]"[..],
        b"\xff\xfe[\x001\x00]\x00",
        b"{\"n\":1}\x80",
        b"[\"\xed\xa0\x80\"]",
        b"[\"\xc0\xaf\"]",
    ] {
        let request = Request::new("POST", "/v1/grains/probe/a/add").body(body);
        let problem = refused(&client.send(&request), 400, "bad_arguments", "not UTF-8");
        assert!(problem["detail"].as_str().unwrap().contains("UTF-8"), "{problem}");
    }
    unchanged(&mut client);
}

#[test]
fn numbers_of_other_widths_are_the_guests_to_refuse() {
    let (_host, mut client) = probe_with(&[]);
    for body in [
        "[-1, 0]",
        "[4294967296, 0]",
        "[1, 256]",
        "[1, -1]",
        "[1.0, 0]",
        "[1e400, 0]",
    ] {
        refused(&client.call("probe/a/fill", body), 400, "bad_arguments", body);
    }
    for body in [r#"["\ud800"]"#, r#"["\udc00\ud800"]"#, "[1e400]"] {
        refused(&client.call("probe/a/echo", body), 400, "bad_arguments", body);
    }
    unchanged(&mut client);
    assert_eq!(client.call("probe/a/add", "[9223372036854775807]").integer(), i64::MAX);
}

#[test]
fn deep_and_wide_bodies_are_bounded() {
    let (_host, mut client) = probe_with(&[]);
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for body in [
        deep(101),
        deep(1 << 20),
        "[".repeat(8 << 20),
        "{\"value\":".repeat(1 << 19),
        format!("{{\"value\":{}}}", deep(100)),
    ] {
        let problem = refused(&client.call("probe/a/echo", &body), 400, "bad_arguments", "deep");
        assert!(problem["detail"].as_str().unwrap().contains("100 levels"), "{problem}");
    }
    assert_eq!(client.call("probe/a/echo", &deep(100)).text(), deep(99));
    let wide = format!("[{}1]", "1,".repeat(1_000_000));
    let problem = refused(&client.call("probe/a/add", &wide), 400, "bad_arguments", "wide");
    assert!(
        problem["detail"].as_str().unwrap().contains("1000001 arguments"),
        "{problem}"
    );
    let names: Vec<String> = (0..100_000).map(|n| format!("\"x{n}\":0")).collect();
    let problem = refused(
        &client.call("probe/a/add", &format!("{{{}}}", names.join(","))),
        400,
        "bad_arguments",
        "names",
    );
    assert!(problem["detail"].as_str().unwrap().len() < 1000, "{problem}");
    unchanged(&mut client);
}

#[test]
fn queries_that_a_method_does_not_take_are_refused_with_a_reason() {
    let (_host, mut client) = probe_with(&[]);
    for (query, word) in [
        ("", "missing: `a`"),
        ("a=x", "JSON"),
        ("a=", "JSON"),
        ("a", "JSON"),
        ("a=1&a=2", "twice"),
        ("a=1&b=x&b=y", "twice"),
        ("a=1&c=2", "unknown: `c`"),
        ("a=1,2", "JSON"),
        ("a=NaN", "JSON"),
        ("a=1e400", "a"),
        ("a=9223372036854775808", "a"),
        ("a=%22x%22", "a"),
        ("a=1&b=%ff", "UTF-8"),
        ("a=1&b=%c3", "UTF-8"),
        ("a=1&b=%zz", "%25"),
        ("a=1&b=50%", "%25"),
        ("a=1&%ff=1", "UTF-8"),
    ] {
        let reply = client.fetch(&format!("/v1/grains/probe/a/option?{query}"));
        let problem = refused(&reply, 400, "bad_arguments", query);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{query}: {detail}");
    }
    let deep = "%5B".repeat(200);
    refused(
        &client.fetch(&format!("/v1/grains/probe/a/option?a={deep}")),
        400,
        "bad_arguments",
        "deep",
    );
    let body = Request::new("GET", "/v1/grains/probe/a/option?a=1").body("[1]");
    refused(&client.send(&body), 400, "bad_arguments", "a GET with a body");
    let query = Request::new("POST", "/v1/grains/probe/a/add?n=1").body("[1]");
    refused(&client.send(&query), 400, "bad_arguments", "a POST with a query");
    unchanged(&mut client);
}

#[test]
fn a_body_of_nine_mebibytes_is_too_large_announced_or_not() {
    let (host, mut client) = probe_with(&[]);
    let body = format!("[\"{}\"]", "x".repeat(9 << 20));
    let reply = client.call("probe/a/echo", &body);
    let problem = refused(&reply, 413, "too_large", "announced");
    assert!(problem["detail"].as_str().unwrap().contains("8388608"), "{problem}");
    let mut chunked = host.client();
    let head = b"POST /v1/grains/probe/a/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    chunked.write_bytes(head).unwrap();
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    for _ in 0..9 {
        chunked.write_bytes(chunk.as_bytes()).unwrap();
    }
    chunked.write_bytes(b"0\r\n\r\n").unwrap();
    refused(&chunked.read().unwrap(), 413, "too_large", "in chunks");
    let mut asking = host.client();
    let head = b"POST /v1/grains/probe/a/echo HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 9437184\r\n\r\n";
    asking.write_bytes(head).unwrap();
    refused(&asking.read().unwrap(), 413, "too_large", "asked before it is sent");
    unchanged(&mut client);
}
