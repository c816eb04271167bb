//! `granary drain`: moves everything off a host, so that it can be stopped for good.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use ureq::http::Method;

use crate::client::Client;
use crate::output::out;
use crate::{Failure, Target, units};

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(500);

/// Moves everything off a host; it can be stopped when this returns
#[derive(Args, Debug)]
pub(crate) struct Drain {
    /// How long to wait for it; the host goes on by itself
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    wait: String,
    #[command(flatten)]
    target: Target,
}

impl Drain {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let wait = units::duration(&self.wait).map_err(Failure::Usage)?;
        let client = Client::new(&self.target);
        client.send(Method::POST, "/v1/cluster/drain", Vec::new())?;
        let limit = Instant::now() + wait;
        let mut said = None;
        while Instant::now() < limit {
            let view = client.value("/v1/cluster")?;
            let left = (view["cluster"]["activations"].clone(), own_slots(&view));
            if left.1 == Some(0) && left.0 == 0 {
                out!("drained: the host can be stopped");
                return Ok(());
            }
            if said.as_ref() != Some(&left) {
                out!("{} grains and {} slots left", left.0, left.1.unwrap_or(0));
                said = Some(left);
            }
            std::thread::sleep(PAUSE);
        }
        Err(Failure::Refused("not drained yet; the host goes on with it".to_owned()))
    }
}

/// Slots of which the host still has copies.
fn own_slots(view: &Value) -> Option<u64> {
    let members = view["members"].as_array()?;
    let own = members.iter().find(|member| member["host"] == view["host"])?;
    own["slots"].as_u64()
}
