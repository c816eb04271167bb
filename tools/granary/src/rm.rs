//! `granary rm`: deletes a grain. Repeatable.

use clap::Args;
use ureq::http::Method;

use crate::address::Address;
use crate::client::Client;
use crate::{Failure, Target};

/// Deletes a grain
#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// The grain, as TYPE/KEY
    grain: Address,
    #[command(flatten)]
    target: Target,
}

impl Rm {
    pub(crate) fn run(self) -> Result<(), Failure> {
        Client::new(&self.target)
            .send(Method::DELETE, &self.grain.path(), Vec::new())
            .map(drop)
    }
}
