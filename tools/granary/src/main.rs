//! `granary`: the host and its command line, a verb a file.
//!
//! Exit codes: 0 done, 1 refused by a guest or a host, 2 wrong usage, 3 no host could be reached, 141 nobody reads stdout any more.
#![warn(clippy::print_stderr)]

mod address;
mod authority;
mod build;
mod call;
mod client;
mod deploy;
mod drain;
mod early_answer;
mod file;
mod http_limits;
mod inspect;
mod logging;
mod logs;
mod ls;
mod membership;
mod output;
mod owner;
mod relocate;
mod repair;
mod rm;
mod rollback;
mod status;
mod sweep;
mod token;
mod type_name;
mod units;
#[allow(clippy::print_stdout, reason = "a host says once that it is ready")]
mod up;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Stateful functions whose memory is their state.
#[derive(Debug, Parser)]
#[command(name = "granary", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Starts a host and serves until it's stopped
    Up(Box<up::Up>),
    /// Builds the guest crate in this folder
    Build(build::Build),
    /// Uploads a module: the one given, or the crate in this folder after building it
    Deploy(deploy::Deploy),
    /// Goes back to a type's revision before the current one
    Rollback(rollback::Rollback),
    /// Calls a grain's method and prints its value
    Call(call::Call),
    /// Lists types, or the keys of a type
    Ls(ls::Ls),
    /// Shows what a host knows of a grain
    Inspect(inspect::Inspect),
    /// Shows what guests wrote
    Logs(logs::Logs),
    /// Examines a data folder that a host refuses to start on, and repairs it
    Repair(repair::Repair),
    /// Deletes a grain
    Rm(rm::Rm),
    /// Shows a host, its cluster and what is deployed
    Status(status::Status),
    /// Prints a join token, good for one host
    Token(token::Token),
    /// Renews what hosts of a cluster believe each other by
    Authority(authority::Authority),
    /// Moves everything off a host; it can be stopped when this returns
    Drain(drain::Drain),
    /// Moves a grain to another host of the cluster
    Move(relocate::Relocate),
    /// Compiles one module for the host that started this
    #[command(hide = true, name = COMPILE_CHILD)]
    CompileChild,
}

/// What a host starts itself as to compile a module.
const COMPILE_CHILD: &str = "compile-child";

/// How a host is reached.
#[derive(Args, Clone, Debug)]
struct Target {
    /// The host's URL
    #[arg(
        long,
        env = "GRANARY_HOST",
        value_name = "URL",
        default_value = "http://127.0.0.1:7777"
    )]
    host: String,
    /// The token to show, where the host wants one
    #[arg(long, env = "GRANARY_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The host's data folder, instead of its URL: its owner needs no token
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Why a verb failed.
#[derive(Debug)]
enum Failure {
    /// A guest or a host said no; the text says what and why.
    Refused(String),
    /// A host can't do it now, and may soon.
    NotNow(String),
    /// The command line makes no sense.
    Usage(String),
    /// Nobody answers.
    Unreachable(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Refused(_) | Failure::NotNow(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Failure::Refused(text) | Failure::NotNow(text) | Failure::Usage(text) | Failure::Unreachable(text)) = self;
        f.write_str(text)
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Up(up) => up.run(),
        Verb::Build(build) => build.run(),
        Verb::Deploy(deploy) => deploy.run(),
        Verb::Rollback(rollback) => rollback.run(),
        Verb::Call(call) => call.run(),
        Verb::Ls(ls) => ls.run(),
        Verb::Inspect(inspect) => inspect.run(),
        Verb::Logs(logs) => logs.run(),
        Verb::Repair(repair) => repair.run(),
        Verb::Rm(rm) => rm.run(),
        Verb::Status(status) => status.run(),
        Verb::Token(token) => token.run(),
        Verb::Authority(authority) => authority.run(),
        Verb::Drain(drain) => drain.run(),
        Verb::Move(relocate) => relocate.run(),
        Verb::CompileChild => return granary_host::wasm::compile_child(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note!("granary: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contract_s_verbs_and_flags_are_there() {
        for line in [
            "granary up --data d --listen 127.0.0.1:0",
            "granary up --data d --listen 0.0.0.0:7777 --insecure",
            "granary up --token-file t --allow-host a --allow-host b --allow-origin https://c",
            "granary deploy",
            "granary build guests --package counter",
            "granary deploy counter.wasm --type clicks --host http://h:1 --wait 10s",
            "granary deploy -p counter",
            "granary deploy --now --allow-breaking --json",
            "granary rollback counter",
            "granary rollback counter --now --json",
            "granary call counter/a add n=1 m=2 --host http://h:1",
            "granary ls counter --prefix a --json",
            "granary inspect counter/a --json",
            "granary repair --data d --yes --json",
            "granary rm counter/a",
            "granary token --data d --valid 10m",
            "granary authority rotate --host http://h:1",
            "granary status --json",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
