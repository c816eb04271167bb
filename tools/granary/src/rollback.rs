//! `granary rollback`: a type goes back to the revision before.

use clap::Args;
use ureq::http::Method;

use crate::address::segment;
use crate::client::Client;
use crate::{Failure, Target, deploy};

/// Makes the revision before the current one current again
#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// The grain type
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Moves every grain back now, not only at its next call, and shows how far that is
    #[arg(long)]
    now: bool,
    /// Prints one JSON document at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Rollback {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.target);
        let path = format!("/v1/modules/{}/rollback", segment(&self.kind));
        let current = client.send(Method::POST, &path, Vec::new())?.value()?;
        deploy::finish(&client, &self.kind, current, "is current again", self.now, self.json)
    }
}
