//! A probe in the middle of a long turn, so that what comes next has to wait.

use crate::client::{Client, Request};
use crate::host::Host;
use crate::wait;

/// Occupies a probe that nobody has called before; returns when its turn has begun. Dropping the client doesn't end it.
pub fn occupy(host: &Host, key: &str, time_ms: u64) -> Client {
    let mut busy = host.client();
    let path = format!("/v1/grains/probe/{key}/sleep_ms");
    busy.write(&Request::new("POST", path).body(format!("[{time_ms}]")))
        .unwrap();
    let mut asking = host.client();
    wait::until_equal("the turn has begun", true, || is_in_its_first_turn(&mut asking, key));
    busy
}

/// Whether the only request that a probe has got so far is being worked on.
pub fn is_in_its_first_turn(client: &mut Client, key: &str) -> bool {
    let status = client.fetch(&format!("/v1/grains/probe/{key}")).value();
    status["resident"] == true && status["queued"] == 0
}
