//! How arguments get from a body or a query to a method, and what is said when they don't.

use granary_tests::{Client, Host, Reply, Request};
use serde_json::json;

fn probe() -> (Host, Client) {
    let host = Host::start();
    host.deploy("probe");
    let client = host.client();
    (host, client)
}

#[track_caller]
fn refused(reply: &Reply, named: &str) {
    let problem = reply.problem(400, "bad_arguments");
    assert_eq!(problem["committed"], "no");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(named), "`{named}` is not named: {detail}");
}

#[test]
fn arguments_come_by_name_by_position_and_in_the_query() {
    let (_host, mut client) = probe();
    assert_eq!(
        client.call("probe/a/option", r#"{"b": "x", "a": 1}"#).value(),
        json!([1, "x"])
    );
    assert_eq!(client.call("probe/a/option", r#"[1, "x"]"#).value(), json!([1, "x"]));
    assert_eq!(client.call("probe/a/option", r#"{"a": 1}"#).value(), json!([1, null]));
    assert_eq!(client.call("probe/a/option", "[1]").value(), json!([1, null]));
    assert_eq!(
        client.fetch("/v1/grains/probe/a/option?a=1&b=2").value(),
        json!([1, "2"]),
        "a string is text"
    );
    assert_eq!(
        client.fetch("/v1/grains/probe/a/option?a=1&b=a%20b%26").value(),
        json!([1, "a b&"])
    );
    assert_eq!(
        client.fetch("/v1/grains/probe/a/option?a=-7").value(),
        json!([-7, null])
    );
    assert_eq!(client.call("probe/a/get", "").integer(), 0);
    assert_eq!(client.call("probe/a/get", "{}").integer(), 0);
    assert_eq!(client.call("probe/a/get", "[]").integer(), 0);
}

#[test]
fn a_number_is_its_text_however_long_it_is() {
    let (_host, mut client) = probe();
    for n in [u128::from(u64::MAX), 1 << 64, (1 << 64) + 1, u128::MAX] {
        let bodies = [format!("{{\"n\": {n}}}"), format!("[{n}]")];
        for body in bodies {
            assert_eq!(
                client.call("probe/a/echo_wide", &body).expect(200).text(),
                n.to_string()
            );
        }
        let asked = client.fetch(&format!("/v1/grains/probe/a/echo_wide?n={n}"));
        assert_eq!(asked.expect(200).text(), n.to_string());
    }
    refused(&client.call("probe/a/echo_wide", &format!("[{}0]", u128::MAX)), "n");
}

#[test]
fn a_body_is_json_whatever_its_content_type_says() {
    let (_host, mut client) = probe();
    let form = Request::new("POST", "/v1/grains/probe/a/add")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(r#"{"n": 2}"#);
    assert_eq!(client.send(&form).integer(), 2);
}

#[test]
fn what_is_wrong_with_arguments_is_named() {
    let (_host, mut client) = probe();
    refused(&client.call("probe/a/add", ""), "n");
    refused(&client.call("probe/a/add", "{}"), "n");
    refused(&client.call("probe/a/add", r#"{"n": 1, "extra": 2}"#), "extra");
    refused(&client.call("probe/a/add", "[1, 2]"), "");
    refused(&client.call("probe/a/add", r#"{"n": "one"}"#), "n");
    refused(&client.call("probe/a/add", r#"{"n": 1"#), "JSON");
    refused(&client.call("probe/a/add", "5"), "");
    refused(&client.fetch("/v1/grains/probe/a/option?a=1&c=2"), "c");
    refused(&client.fetch("/v1/grains/probe/a/option?b=2"), "a");
    assert_eq!(
        client.fetch("/v1/grains/probe/a/get").integer(),
        0,
        "none of these was added"
    );
}

#[test]
fn a_key_is_any_text_of_1_to_1024_bytes() {
    let (_host, mut client) = probe();
    let longest = "k".repeat(1024);
    for (sent, key) in [
        ("a%2Fb", "a/b"),
        ("%00", "\0"),
        ("%C3%BC", "ü"),
        ("a%20b+c", "a b+c"),
        (&longest, &longest),
    ] {
        let value = client.fetch(&format!("/v1/grains/probe/{sent}/whoami")).value();
        assert_eq!(value[0], *key);
    }
    refused(&client.call("probe/%FF/get", ""), "UTF-8");
    refused(&client.call(&format!("probe/{longest}k/get"), ""), "1024");
}

#[test]
fn every_json_value_passes_through_unharmed() {
    let (_host, mut client) = probe();
    for value in [
        json!(null),
        json!("a \u{0} \u{1f980} \"quoted\""),
        json!(1.5e300),
        json!(i64::MIN),
        json!(u64::MAX),
        json!({"a": [1, {"b": [[]]}], "": false}),
    ] {
        assert_eq!(
            client
                .call("probe/a/echo", &json!({"value": value}).to_string())
                .value(),
            value
        );
    }
}
