//! Callers that send what they must not, too much of it, too slowly, or all at once. Each gets an answer that says what would
//! have been right, nothing is half done, and everybody else is served.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails, and a flood says what it came to"
)]

mod arguments;
mod flood;
mod headers;
mod keys;
mod pressure;
mod slow;
mod wire;

use granary_tests::{Client, Host, Reply};
use serde_json::Value;

/// A host with the probe deployed.
fn probe_with(flags: &[&str]) -> (Host, Client) {
    let host = Host::start_with(flags);
    host.deploy("probe");
    let client = host.client();
    (host, client)
}

/// A refusal that changed nothing and says something for people.
#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str, what: &str) -> Value {
    assert_eq!(reply.status, status, "{what}: {}", reply.text());
    let problem = reply.problem(status, code);
    assert_eq!(problem["committed"], "no", "{what}: {problem}");
    problem
}

/// The value of the probe that all of these calls were sent to.
#[track_caller]
fn unchanged(client: &mut Client) {
    assert_eq!(
        client.fetch("/v1/grains/probe/a/get").integer(),
        0,
        "something was done"
    );
}
