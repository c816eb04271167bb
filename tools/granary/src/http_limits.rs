//! What callers may take of a host: flags of `granary up`, and the section `[http]` of `granary.toml`.
//!
//! One list for both, so that neither has a limit that the other lacks. What each stops is in `granary_host::http::HttpConfig`.

use std::time::Duration;

use clap::Args;
use granary_host::http::HttpConfig;
use serde::Deserialize;

use crate::units;

/// Limits of the HTTP side; those that aren't set stay as they are.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct HttpLimits {
    /// The longest request body [default: 8MiB]
    #[arg(
        id = "http-body-limit",
        long = "http-body-limit",
        env = "GRANARY_HTTP_BODY_LIMIT",
        value_name = "BYTES"
    )]
    body_limit: Option<String>,
    /// The longest module [default: 16MiB]
    #[arg(
        id = "http-module-limit",
        long = "http-module-limit",
        env = "GRANARY_HTTP_MODULE_LIMIT",
        value_name = "BYTES"
    )]
    module_limit: Option<String>,
    /// Memory for all large request bodies and replies together [default: 256MiB]
    #[arg(
        id = "http-memory",
        long = "http-memory",
        env = "GRANARY_HTTP_MEMORY",
        value_name = "BYTES"
    )]
    memory: Option<String>,
    /// The most levels of arrays and objects in arguments [default: 100]
    #[arg(
        id = "http-depth-limit",
        long = "http-depth-limit",
        env = "GRANARY_HTTP_DEPTH_LIMIT",
        value_name = "N"
    )]
    depth_limit: Option<usize>,
    /// The longest request line with headers, at least 8KiB [default: 32KiB]
    #[arg(
        id = "http-header-limit",
        long = "http-header-limit",
        env = "GRANARY_HTTP_HEADER_LIMIT",
        value_name = "BYTES"
    )]
    header_limit: Option<String>,
    /// The most open connections [default: 10000]
    #[arg(
        id = "http-connections",
        long = "http-connections",
        env = "GRANARY_HTTP_CONNECTIONS",
        value_name = "N"
    )]
    connections: Option<usize>,
    /// The most open connections of one address [default: 8000]
    #[arg(
        id = "http-peer-connections",
        long = "http-peer-connections",
        env = "GRANARY_HTTP_PEER_CONNECTIONS",
        value_name = "N"
    )]
    peer_connections: Option<usize>,
    /// The most calls that wait for their replies [default: 8192]
    #[arg(id = "http-calls", long = "http-calls", env = "GRANARY_HTTP_CALLS", value_name = "N")]
    calls: Option<usize>,
    /// How long calls may be in flight on a busy host before a surplus is refused [default: 10ms]
    #[arg(
        id = "http-latency",
        long = "http-latency",
        env = "GRANARY_HTTP_LATENCY",
        value_name = "DURATION"
    )]
    latency: Option<String>,
    /// How long a request's headers may take [default: 10s]
    #[arg(
        id = "http-header-timeout",
        long = "http-header-timeout",
        env = "GRANARY_HTTP_HEADER_TIMEOUT",
        value_name = "DURATION"
    )]
    header_timeout: Option<String>,
    /// How long a body may take, besides a second for each 32KiB [default: 10s]
    #[arg(
        id = "http-body-timeout",
        long = "http-body-timeout",
        env = "GRANARY_HTTP_BODY_TIMEOUT",
        value_name = "DURATION"
    )]
    body_timeout: Option<String>,
    /// How long a client may take a reply's bytes, besides a second for each 32KiB [default: 10s]
    #[arg(
        id = "http-reply-timeout",
        long = "http-reply-timeout",
        env = "GRANARY_HTTP_REPLY_TIMEOUT",
        value_name = "DURATION"
    )]
    reply_timeout: Option<String>,
    /// How long a connection may rest [default: 75s]
    #[arg(
        id = "http-idle-timeout",
        long = "http-idle-timeout",
        env = "GRANARY_HTTP_IDLE_TIMEOUT",
        value_name = "DURATION"
    )]
    idle_timeout: Option<String>,
    /// A call's deadline when the caller names none [default: 10s]
    #[arg(
        id = "http-deadline",
        long = "http-deadline",
        env = "GRANARY_HTTP_DEADLINE",
        value_name = "DURATION"
    )]
    deadline: Option<String>,
    /// The longest deadline that a caller may name [default: 60s]
    #[arg(
        id = "http-deadline-limit",
        long = "http-deadline-limit",
        env = "GRANARY_HTTP_DEADLINE_LIMIT",
        value_name = "DURATION"
    )]
    deadline_limit: Option<String>,
}

/// What hyper needs of room to read any request.
const SMALLEST_HEADER_LIMIT: usize = 8 << 10;

impl HttpLimits {
    /// Sets what is set here, else in the file.
    pub(crate) fn apply(self, file: HttpLimits, config: &mut HttpConfig) -> Result<(), String> {
        size(&mut config.body_limit, self.body_limit.or(file.body_limit))?;
        size(&mut config.module_limit, self.module_limit.or(file.module_limit))?;
        size(&mut config.body_memory_limit, self.memory.or(file.memory))?;
        size(&mut config.header_limit, self.header_limit.or(file.header_limit))?;
        count(&mut config.depth_limit, self.depth_limit.or(file.depth_limit))?;
        count(&mut config.connection_limit, self.connections.or(file.connections))?;
        count(
            &mut config.peer_connection_limit,
            self.peer_connections.or(file.peer_connections),
        )?;
        count(&mut config.call_limit, self.calls.or(file.calls))?;
        time(&mut config.latency_target, self.latency.or(file.latency))?;
        time(&mut config.header_timeout, self.header_timeout.or(file.header_timeout))?;
        time(&mut config.body_timeout, self.body_timeout.or(file.body_timeout))?;
        time(&mut config.reply_timeout, self.reply_timeout.or(file.reply_timeout))?;
        time(&mut config.idle_timeout, self.idle_timeout.or(file.idle_timeout))?;
        time(&mut config.default_deadline, self.deadline.or(file.deadline))?;
        time(&mut config.deadline_limit, self.deadline_limit.or(file.deadline_limit))?;
        if config.header_limit < SMALLEST_HEADER_LIMIT {
            return Err("a header limit is at least 8KiB".to_owned());
        }
        if config.default_deadline > config.deadline_limit {
            return Err("the deadline of calls that name none is above the longest that they may name".to_owned());
        }
        Ok(())
    }
}

fn size(setting: &mut usize, text: Option<String>) -> Result<(), String> {
    if let Some(text) = text {
        let bytes = units::bytes(&text)?;
        *setting = usize::try_from(bytes).map_err(|_| format!("`{text}` is too large for this machine"))?;
    }
    Ok(())
}

fn count(setting: &mut usize, number: Option<usize>) -> Result<(), String> {
    match number {
        Some(0) => return Err("a limit of 0 would stop everything: write a higher one".to_owned()),
        Some(number) => *setting = number,
        None => {}
    }
    Ok(())
}

fn time(setting: &mut Duration, text: Option<String>) -> Result<(), String> {
    if let Some(text) = text {
        *setting = match units::duration(&text)? {
            Duration::ZERO => return Err("a time limit of 0 would stop everything: write a longer one".to_owned()),
            time => time,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_applied_and_the_rest_stays() {
        let mut config = HttpConfig::default();
        let flags = HttpLimits {
            calls: Some(7),
            body_timeout: Some("2s".into()),
            ..HttpLimits::default()
        };
        let file = HttpLimits {
            calls: Some(8),
            memory: Some("1MiB".into()),
            ..HttpLimits::default()
        };
        flags.apply(file, &mut config).unwrap();
        let set = (config.call_limit, config.body_timeout, config.body_memory_limit);
        assert_eq!(set, (7, Duration::from_secs(2), 1 << 20));
        assert_eq!(config.connection_limit, HttpConfig::default().connection_limit);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |limits: HttpLimits| limits.apply(HttpLimits::default(), &mut HttpConfig::default()).is_err();
        assert!(refused(HttpLimits {
            calls: Some(0),
            ..HttpLimits::default()
        }));
        assert!(refused(HttpLimits {
            header_limit: Some("1KiB".into()),
            ..HttpLimits::default()
        }));
        assert!(refused(HttpLimits {
            deadline: Some("2m".into()),
            ..HttpLimits::default()
        }));
    }
}
