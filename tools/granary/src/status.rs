//! `granary status`: a host and what is deployed on it.

use clap::Args;

use crate::client::Client;
use crate::{Failure, Target, inspect};

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
        let view = Client::new(&self.target).value("/v1/cluster")?;
        inspect::print(&view, self.json);
        Ok(())
    }
}
