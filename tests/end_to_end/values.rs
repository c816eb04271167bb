//! Values of a state that pass to another revision: each bit of them, or none and the grain stays.

use granary_tests::{Client, Host, Request, built};
use serde_json::Value;

/// The guest as it was built.
fn first() -> Vec<u8> {
    built::module_bytes("values")
}

/// The same code as another module.
fn second() -> Vec<u8> {
    let custom_section = [0, 3, 1, b'x', 0];
    [&first()[..], &custom_section].concat()
}

/// The same as an older SDK would have built it: it knows no form but JSON.
fn older() -> Vec<u8> {
    let mut module = first();
    let (name, other) = (b"granary:grain/exact@0.1.0#save", b"granary:grain/older@0.1.0#save");
    let places: Vec<usize> = (0..module.len() - name.len())
        .filter(|&at| module[at..].starts_with(name))
        .collect();
    assert!(!places.is_empty(), "the SDK exports `exact`");
    for at in places {
        module[at..at + name.len()].copy_from_slice(other);
    }
    module
}

/// A host with one revision of the type and a grain for each of these methods, called with these arguments.
fn start(module: &[u8], methods: &[(&str, &str)]) -> Host {
    let host = Host::start();
    let mut client = host.client();
    client.deploy("values", module).expect(201);
    for (method, args) in methods {
        client.call(&format!("values/{method}/{method}"), args).expect(200);
    }
    host
}

fn fetch(client: &mut Client, key: &str, method: &str) -> (Value, u32) {
    let reply = client.fetch(&format!("/v1/grains/values/{key}/{method}"));
    let revision = reply.header("granary-revision").unwrap().parse().unwrap();
    (reply.value(), revision)
}

fn back(client: &mut Client) {
    client
        .send(&Request::new("POST", "/v1/modules/values/rollback".to_owned()))
        .expect(200);
}

/// Writes, so that a rollback isn't to the state from before.
fn touch(client: &mut Client, key: &str) {
    client.call(&format!("values/{key}/touch"), "[]").expect(200);
}

fn reason(client: &mut Client, key: &str) -> String {
    let status = client.fetch(&format!("/v1/grains/values/{key}")).value();
    status["upgrade_failure"]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn every_bit_of_a_state_is_there_after_a_deploy_and_a_rollback() {
    let host = start(&first(), &[("put_odd", "[]"), ("put_plain", "[]")]);
    let mut client = host.client();
    let keys = ["put_odd", "put_plain"];
    let before = keys.map(|key| fetch(&mut client, key, "look").0);
    client.deploy("values", &second()).expect(201);
    for (key, before) in keys.iter().zip(&before) {
        assert_eq!(fetch(&mut client, key, "look"), (before.clone(), 2));
        touch(&mut client, key);
    }
    back(&mut client);
    for (key, before) in keys.iter().zip(&before) {
        assert_eq!(fetch(&mut client, key, "look"), (before.clone(), 1));
    }
}

#[test]
fn a_state_longer_than_a_reply_moves() {
    const COUNT: u32 = 8 << 20;
    let host = start(&first(), &[("put_bytes", &format!("[{COUNT}]"))]);
    let mut client = host.client();
    client.deploy("values", &second()).expect(201);
    let (found, revision) = fetch(&mut client, "put_bytes", "bytes");
    assert_eq!(
        (found, revision),
        (COUNT.into(), 2),
        "{}",
        reason(&mut client, "put_bytes")
    );
    touch(&mut client, "put_bytes");
    back(&mut client);
    let (found, revision) = fetch(&mut client, "put_bytes", "bytes");
    assert_eq!(
        (found, revision),
        (COUNT.into(), 1),
        "{}",
        reason(&mut client, "put_bytes")
    );
}

#[test]
fn a_revision_of_an_older_sdk_gets_json_or_nothing() {
    let host = start(&older(), &[("put_plain", "[]")]);
    let mut client = host.client();
    let (before, _) = fetch(&mut client, "put_plain", "look");
    client.deploy("values", &second()).expect(201);
    assert_eq!(
        fetch(&mut client, "put_plain", "look"),
        (before.clone(), 2),
        "it wrote JSON"
    );

    touch(&mut client, "put_plain");
    client.call("values/put_odd/put_odd", "[]").expect(200);
    let (odd, _) = fetch(&mut client, "put_odd", "look");
    back(&mut client);
    assert_eq!(fetch(&mut client, "put_plain", "look"), (before, 1), "JSON can say it");
    assert_eq!(fetch(&mut client, "put_odd", "look"), (odd, 2), "JSON can't");
    let reason = reason(&mut client, "put_odd");
    assert!(
        reason.contains("`save` of revision 2 refused") && reason.contains("JSON"),
        "{reason}"
    );
}

#[test]
fn a_type_that_reads_other_values_than_it_writes_keeps_its_grain_where_it_is() {
    let host = start(&first(), &[("put_amount", "[2.5]")]);
    let mut client = host.client();
    let (before, _) = fetch(&mut client, "put_amount", "look");
    client.deploy("values", &second()).expect(201);
    assert_eq!(fetch(&mut client, "put_amount", "look"), (before, 1));
    let reason = reason(&mut client, "put_amount");
    assert!(
        reason.contains("`amount` in the state of `values` would be another"),
        "{reason}"
    );

    client.call("values/put_amount/put_amount", "[3.0]").expect(200);
    client
        .deploy("values", &[&second()[..], &[0, 3, 1, b'y', 0]].concat())
        .expect(201);
    assert_eq!(fetch(&mut client, "put_amount", "look").1, 3, "{reason}");
}
