//! `granary authority`: who can let hosts into a cluster.

use clap::{Args, Subcommand};
use ureq::http::Method;

use crate::client::Client;
use crate::output::out;
use crate::{Failure, Target};

/// Renews what hosts of a cluster believe each other by
#[derive(Args, Debug)]
pub(crate) struct Authority {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Goes over to a new certificate authority: whoever has the old one's key, or a removed host's, is shut out
    Rotate(Rotate),
}

#[derive(Args, Debug)]
struct Rotate {
    #[command(flatten)]
    target: Target,
}

impl Authority {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Verb::Rotate(Rotate { target }) = self.verb;
        let answer = Client::new(&target).send(Method::POST, "/v1/cluster/rotate", Vec::new())?;
        let hosts = answer.value()?["hosts"].as_u64().unwrap_or_default();
        out!("the cluster has a new authority; hosts that believe it: {hosts}");
        Ok(())
    }
}
