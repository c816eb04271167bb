//! A probe in the middle of a turn that lasts until the test ends it, so that what comes next surely has to wait.

use crate::client::{Client, Reply, Request};
use crate::host::Host;
use crate::wait;

/// The longest deadline that a host grants: a test opens its gates long before.
const LONGEST: &str = "60s";

/// A probe that works on a request until its gate, another probe, is opened. Dropping it leaves it at work.
#[derive(Debug)]
pub struct Occupied {
    busy: Client,
    opener: Client,
    gate: String,
}

/// Occupies a probe that nobody has called before; returns when its turn has begun.
pub fn occupy(host: &Host, key: &str) -> Occupied {
    let gate = format!("{key}-gate");
    let mut opener = host.client();
    assert_eq!(opener.call(&format!("probe/{gate}/add"), "[1]").integer(), 1);
    let mut busy = host.client();
    let request = Request::new("POST", format!("/v1/grains/probe/{key}/wait_at"))
        .header("granary-timeout", LONGEST)
        .body(format!("[\"{gate}\"]"));
    busy.write(&request).unwrap();
    wait::until_equal("the turn has begun", true, || is_in_its_first_turn(&mut opener, key));
    Occupied { busy, opener, gate }
}

impl Occupied {
    /// The key of its gate, which has the value 1; at 0 it's open.
    pub fn gate(&self) -> &str {
        &self.gate
    }

    /// Lets the turn end, and waits for its reply.
    pub fn release(mut self) {
        self.open();
        self.reply().expect(200);
    }

    /// Lets the turn end. Deletes the gate: limits on calls, at which some tests have their host, don't count that.
    pub fn open(&mut self) {
        let path = format!("/v1/grains/probe/{}", self.gate);
        self.opener.send(&Request::new("DELETE", path)).expect(204);
    }

    /// What the turn's caller gets.
    pub fn reply(&mut self) -> Reply {
        self.busy.read().unwrap()
    }
}

/// Whether the only request that a probe has got so far is being worked on.
pub fn is_in_its_first_turn(client: &mut Client, key: &str) -> bool {
    let status = client.fetch(&format!("/v1/grains/probe/{key}")).value();
    status["resident"] == true && status["queued"] == 0
}

/// How many requests wait for a probe's turn.
pub fn queued(client: &mut Client, key: &str) -> u64 {
    let status = client.fetch(&format!("/v1/grains/probe/{key}")).value();
    status["queued"].as_u64().unwrap()
}
