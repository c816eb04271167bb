//! Two grains of one type and a call between them: transfers, refusals, and what refusals look like from outside.

use granary_tests::{Client, Host};
use serde_json::json;

fn bank() -> (Host, Client) {
    let host = Host::start();
    host.deploy("bank");
    let mut client = host.client();
    assert_eq!(client.call("bank/alice/deposit", r#"{"amount": 100}"#).integer(), 100);
    (host, client)
}

fn balance(client: &mut Client, key: &str) -> i64 {
    client.fetch(&format!("/v1/grains/bank/{key}/balance")).integer()
}

#[test]
fn a_transfer_moves_money_and_survives_a_kill() {
    let (mut host, mut client) = bank();
    assert_eq!(
        client
            .call("bank/alice/transfer", r#"{"to": "bob", "amount": 30}"#)
            .integer(),
        70
    );
    host.kill();
    host.start_again();
    let mut client = host.client();
    assert_eq!([balance(&mut client, "alice"), balance(&mut client, "bob")], [70, 30]);
}

#[test]
fn insufficient_funds_have_their_own_status_and_value() {
    let (_host, mut client) = bank();
    let reply = client.call("bank/alice/transfer", r#"{"to": "bob", "amount": 101}"#);
    let problem = reply.problem(409, "guest_error");
    assert_eq!(problem["error"], json!({"InsufficientFunds": {"balance": 100}}));
    assert_eq!([balance(&mut client, "alice"), balance(&mut client, "bob")], [100, 0]);
}

#[test]
fn an_error_without_a_status_is_unprocessable() {
    let (_host, mut client) = bank();
    let problem = client.call("bank/alice/deposit", "[0]").problem(422, "guest_error");
    assert_eq!(problem["error"], "InvalidAmount");
    let problem = client
        .call("bank/alice/transfer", r#"["alice", 1]"#)
        .problem(422, "guest_error");
    assert_eq!(problem["error"], "SameAccount");
    assert_eq!(balance(&mut client, "alice"), 100);
}
