//! `granary move`: moves a grain to another host.

use clap::Args;
use serde_json::json;
use ureq::http::Method;

use crate::address::Address;
use crate::client::Client;
use crate::output::out;
use crate::{Failure, Target};

/// Moves a grain to another host of the cluster
#[derive(Args, Debug)]
pub(crate) struct Relocate {
    /// The grain, as TYPE/KEY
    grain: Address,
    /// The host's id, as `granary status` shows it
    #[arg(value_name = "HOST")]
    to: String,
    #[command(flatten)]
    target: Target,
}

impl Relocate {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (kind, key) = self.grain.parts();
        let body = json!({ "type": kind, "key": key, "host": self.to })
            .to_string()
            .into_bytes();
        let answer = Client::new(&self.target).send(Method::POST, "/v1/cluster/move", body)?;
        let pause = answer.value()?["pause_us"].as_u64().unwrap_or(0);
        out!("moved; for {:.1} ms no host had it", pause as f64 / 1000.0);
        Ok(())
    }
}
