//! `granary token`: a word with which one more host joins the cluster.

use clap::Args;
use serde_json::json;
use ureq::http::Method;

use crate::client::Client;
use crate::output::out;
use crate::{Failure, Target, units};

/// Prints a join token, good for one host
#[derive(Args, Debug)]
pub(crate) struct Token {
    /// How long it holds
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    valid: String,
    #[command(flatten)]
    target: Target,
}

impl Token {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let valid = units::duration(&self.valid).map_err(Failure::Usage)?;
        let body = json!({ "valid_s": valid.as_secs() }).to_string().into_bytes();
        let answer = Client::new(&self.target).send(Method::POST, "/v1/cluster/token", body)?;
        out!("{}", answer.value()?["token"].as_str().unwrap_or_default());
        Ok(())
    }
}
