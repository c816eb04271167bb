//! `granary status`: a host and what is deployed on it.

use clap::Args;
use serde_json::Value;

use crate::client::Client;
use crate::{Failure, Target, inspect, ls};

/// Shows a host and what is deployed on it
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Status {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.target);
        let mut view = client.value("/v1/cluster")?;
        let modules = client.value("/v1/modules")?["modules"].take();
        if self.json {
            view["modules"] = modules;
            inspect::print(&view, true);
        } else {
            inspect::print(&view, false);
            modules.as_array().into_iter().flatten().for_each(print);
        }
        Ok(())
    }
}

fn print(module: &Value) {
    let kind = format!("type {}", module["type"].as_str().unwrap_or_default());
    let line = format!("{kind:<24} revision {} {}", module["revision"], ls::upgrading(module));
    println!("{}", line.trim_end());
}
