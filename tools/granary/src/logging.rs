//! What a command that serves says of itself while it runs: to stderr, by levels.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::Failure;

const VARIABLE: &str = "GRANARY_LOG";
/// What is logged unless the variable says otherwise. The WASI library has a span at `info` for each call of a guest's, which
/// would stand before every line of ours that comes of one, with its arguments.
const DEFAULT: &str = "info,wasmtime_wasi=warn,wiggle=warn";

/// Logs to stderr what `GRANARY_LOG` lets through: a level, or levels by modules.
pub(crate) fn start() -> Result<(), Failure> {
    let chosen = std::env::var(VARIABLE).unwrap_or_default();
    let filter = filter(&chosen).map_err(Failure::Usage)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(())
}

fn filter(chosen: &str) -> Result<Targets, String> {
    let chosen = if chosen.trim().is_empty() { DEFAULT } else { chosen };
    chosen.parse().map_err(|_| {
        format!(
            "{VARIABLE}: `{chosen}` says no levels: write one of error, warn, info, debug, trace, off, or one for each module, for example \
             info,granary_host::cluster=debug"
        )
    })
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn levels_go_by_module() {
        let of = |chosen: &str| filter(chosen).unwrap();
        assert_eq!(of("").to_string(), of(DEFAULT).to_string());
        assert_eq!(of("warn").default_level(), Some(LevelFilter::WARN));
        let (mixed, debug) = (of("info,granary_host::cluster=debug"), LevelFilter::DEBUG.into_level());
        let shows = |module| mixed.would_enable(module, &debug.unwrap());
        assert!(shows("granary_host::cluster::office") && !shows("granary_host::http"));
    }

    #[test]
    fn what_says_no_levels_is_refused_with_an_example() {
        let error = filter("granary_host=loud").unwrap_err();
        assert!(
            error.contains("`granary_host=loud`") && error.contains("=debug"),
            "{error}"
        );
    }
}
