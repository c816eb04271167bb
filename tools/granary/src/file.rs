//! `granary.toml`: what a host is told when neither flag nor environment says it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Failure;
use crate::http_limits::HttpLimits;
use crate::membership::Membership;

/// The settings that may stand in the file. Unknown ones are an error: a misspelt limit must not be silently ignored.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct File {
    pub(crate) data: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) insecure: Option<bool>,
    pub(crate) allow_host: Option<Vec<String>>,
    pub(crate) allow_origin: Option<Vec<String>>,
    pub(crate) dirty_tracking: Option<String>,
    pub(crate) memory_limit: Option<String>,
    pub(crate) memory_budget: Option<String>,
    pub(crate) max_resident: Option<usize>,
    pub(crate) turn_limit: Option<String>,
    pub(crate) idle_timeout: Option<String>,
    pub(crate) mailbox_messages: Option<usize>,
    pub(crate) mailbox_bytes: Option<String>,
    pub(crate) log_format: Option<String>,
    pub(crate) compile_deadline: Option<String>,
    pub(crate) compile_memory: Option<String>,
    pub(crate) function_limit: Option<String>,
    pub(crate) cluster: Membership,
    pub(crate) http: HttpLimits,
}

/// Reads the file that was named, or `granary.toml` in this folder if there is one.
pub(crate) fn read(named: Option<&Path>) -> Result<File, Failure> {
    let path = named.unwrap_or(Path::new("granary.toml"));
    if named.is_none() && !path.exists() {
        return Ok(File::default());
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("{} can't be read: {error}", path.display())))?;
    parse(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

fn parse(text: &str) -> Result<File, toml::de::Error> {
    toml::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_misspelt_ones_refused() {
        let file = parse("listen = \"127.0.0.1:0\"\nidle-timeout = \"10s\"").unwrap();
        assert_eq!(file.listen.as_deref(), Some("127.0.0.1:0"));
        assert_eq!(parse("").unwrap(), File::default());
        let error = parse("idle_timeout = \"10s\"").unwrap_err().to_string();
        assert_ne!(parse("[http]\ncalls = 5").unwrap().http, HttpLimits::default());
        assert!(parse("[http]\ncall = 5").is_err());
        assert!(
            error.contains("idle_timeout") && error.contains("idle-timeout"),
            "{error}"
        );
    }
}
