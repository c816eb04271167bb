//! `granary up`: a host.
//!
//! Settings come from flags, then the environment, then `granary.toml`, then defaults.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use granary_host::config::HostConfig;
use granary_host::host::Host;
use granary_host::snapshot::Choice;
use granary_host::wasm::{CompilerPlace, ModuleLimits};
use tokio::signal::unix::{SignalKind, signal};

use crate::file::{self, File};
use crate::http_limits::HttpLimits;
use crate::logging::{self, Form, Output};
use crate::membership::Membership;
use crate::{COMPILE_CHILD, Failure, units};

/// Starts a host and serves until it's stopped
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// The folder for everything that lasts [default: granary-data]
    #[arg(long, env = "GRANARY_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where HTTP listens [default: 127.0.0.1:7777]
    #[arg(long, env = "GRANARY_LISTEN", value_name = "ADDR")]
    listen: Option<String>,
    /// A file of `NAME TOKEN [SCOPE[:PREFIX]...]` lines, scopes are call, read, deploy, admin: every request needs one of the tokens
    #[arg(long, env = "GRANARY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Lets a listener that isn't loopback start without tokens
    #[arg(long, env = "GRANARY_INSECURE")]
    insecure: bool,
    /// A name by which callers may reach this host, besides localhost and its addresses
    #[arg(long, env = "GRANARY_ALLOW_HOST", value_name = "NAME", value_delimiter = ',')]
    allow_host: Vec<String>,
    /// An origin whose web pages may call this host
    #[arg(long, env = "GRANARY_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allow_origin: Vec<String>,
    /// How changed pages are found: auto, userfaultfd or compare
    #[arg(long, env = "GRANARY_DIRTY_TRACKING", value_name = "HOW")]
    dirty_tracking: Option<String>,
    /// The most memory of a grain [default: 64MiB]
    #[arg(long, env = "GRANARY_MEMORY_LIMIT", value_name = "BYTES")]
    memory_limit: Option<String>,
    /// The most memory of the host [default: 60 % of the machine's, or of the cgroup's limit]
    #[arg(long, env = "GRANARY_MEMORY_BUDGET", value_name = "BYTES")]
    memory_budget: Option<String>,
    /// The most grains in memory at a time [default: 100000]
    #[arg(long, env = "GRANARY_MAX_RESIDENT", value_name = "N")]
    max_resident: Option<usize>,
    /// The most processor time of a turn [default: 5s]
    #[arg(long, env = "GRANARY_TURN_LIMIT", value_name = "DURATION")]
    turn_limit: Option<String>,
    /// A grain that nobody has called for this long leaves memory [default: 5m]
    #[arg(long, env = "GRANARY_IDLE_TIMEOUT", value_name = "DURATION")]
    idle_timeout: Option<String>,
    /// The most requests that wait for one grain [default: 1024]
    #[arg(long, env = "GRANARY_MAILBOX_MESSAGES", value_name = "N")]
    mailbox_messages: Option<usize>,
    /// The most bytes of requests that wait for one grain [default: 4MiB]
    #[arg(long, env = "GRANARY_MAILBOX_BYTES", value_name = "BYTES")]
    mailbox_bytes: Option<String>,
    /// The longest that compiling a module may take [default: 60s]
    #[arg(long, env = "GRANARY_COMPILE_DEADLINE", value_name = "DURATION")]
    compile_deadline: Option<String>,
    /// The most memory that compiling a module may take [default: 2GiB]
    #[arg(long, env = "GRANARY_COMPILE_MEMORY", value_name = "BYTES")]
    compile_memory: Option<String>,
    /// The longest function of a module [default: 128KiB, at most 7654321]
    #[arg(long, env = "GRANARY_FUNCTION_LIMIT", value_name = "BYTES")]
    function_limit: Option<String>,
    /// The form of the log on stderr: text, or json with an object a line [default: text]
    #[arg(long, env = "GRANARY_LOG_FORMAT", value_name = "FORM")]
    log_format: Option<String>,
    /// Prints a join token for one more host, good for an hour
    #[arg(long)]
    print_token: bool,
    #[command(flatten)]
    cluster: Membership,
    #[command(flatten)]
    http: Box<HttpLimits>,
    /// The settings file [default: granary.toml, if it's there]
    #[arg(long, env = "GRANARY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Up {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let file = file::read(self.config.as_deref())?;
        let print_token = self.print_token;
        let form = self.log_format.as_deref().or(file.log_format.as_deref());
        let form = Form::of(form).map_err(Failure::Usage)?;
        let config = self.settings(file).map_err(Failure::Usage)?;
        let output = logging::start(form)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Refused(format!("threads can't be started: {error}")))?;
        runtime.block_on(serve(config, print_token, &output))
    }

    fn settings(self, file: File) -> Result<HostConfig, String> {
        let data = self.data.or(file.data).unwrap_or("granary-data".into());
        let mut config = HostConfig::new(data);
        config.wasm.compiler.place = CompilerPlace::Child {
            // This very program, also when another has taken its place on the disk meanwhile.
            program: "/proc/self/exe".into(),
            args: vec![COMPILE_CHILD.to_owned()],
        };
        if let Some(limit) = self.compile_deadline.or(file.compile_deadline) {
            config.wasm.compiler.deadline = positive(&limit)?;
        }
        if let Some(limit) = self.compile_memory.or(file.compile_memory) {
            config.wasm.compiler.memory = size(&limit)? as u64;
        }
        if let Some(limit) = self.function_limit.or(file.function_limit) {
            config.wasm.module.body_bytes = function_length(&limit)?;
        }
        if let Some(listen) = self.listen.or(file.listen) {
            config.listen = resolve(&listen)?;
        }
        config.http.token_file = self.token_file.or(file.token_file);
        config.http.insecure = self.insecure || file.insecure.unwrap_or(false);
        self.http.apply(file.http, &mut config.http)?;
        // Not less than before: what was deployed once has to be read at every start.
        config.wasm.module.bytes = config.wasm.module.bytes.max(config.http.module_limit);
        config.http.allow_hosts = one_of(self.allow_host, file.allow_host);
        config.http.allow_origins = one_of(self.allow_origin, file.allow_origin);
        if let Some(how) = self.dirty_tracking.or(file.dirty_tracking) {
            config.snapshot.choice = dirty_choice(&how)?;
        }
        if let Some(limit) = self.memory_limit.or(file.memory_limit) {
            config.wasm.memory_limit = size(&limit)?;
        }
        if let Some(budget) = self.memory_budget.or(file.memory_budget) {
            config.memory.budget = Some(units::bytes(&budget)?);
        }
        if let Some(count) = self.max_resident.or(file.max_resident) {
            config.wasm.max_instances = count;
        }
        if let Some(limit) = self.turn_limit.or(file.turn_limit) {
            config.wasm.turn_cpu = positive(&limit)?;
        }
        if let Some(timeout) = self.idle_timeout.or(file.idle_timeout) {
            config.idle_timeout = positive(&timeout)?;
        }
        if let Some(count) = self.mailbox_messages.or(file.mailbox_messages) {
            config.limits.mailbox_messages = count;
        }
        if let Some(limit) = self.mailbox_bytes.or(file.mailbox_bytes) {
            config.limits.mailbox_bytes = size(&limit)?;
        }
        config.cluster = self.cluster.settings(file.cluster, config.listen)?;
        Ok(config)
    }
}

async fn serve(config: HostConfig, print_token: bool, output: &Output) -> Result<(), Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string());
    // Taken before the host says that it's ready: who reads that line may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| refused(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| refused(&error))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| refused(&error))?;
    let host = Host::start(config).await.map_err(|error| refused(&error))?;
    if print_token {
        let token = host.invitation().await.map_err(Failure::Refused)?;
        output.print(format!("join with: granary up --join {token}"));
    }
    output.print(format!("granary ready {}", host.url()));
    let reloader = host.reloader();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reloader.reload();
        }
    });
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    host.run_until(Box::pin(shutdown))
        .await
        .map_err(|error| refused(&error))
}

pub(crate) fn resolve(listen: &str) -> Result<SocketAddr, String> {
    let found = listen.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| format!("`{listen}` is no address to listen on: write HOST:PORT, for example 127.0.0.1:7777"))
}

fn dirty_choice(how: &str) -> Result<Choice, String> {
    match how {
        "auto" => Ok(Choice::Auto),
        "userfaultfd" => Ok(Choice::Userfaultfd),
        "compare" => Ok(Choice::Compare),
        other => Err(format!(
            "dirty tracking `{other}` doesn't exist: it is auto, userfaultfd or compare"
        )),
    }
}

fn one_of(flags: Vec<String>, file: Option<Vec<String>>) -> Vec<String> {
    if flags.is_empty() {
        file.unwrap_or_default()
    } else {
        flags
    }
}

fn size(text: &str) -> Result<usize, String> {
    units::bytes(text)
        .and_then(|bytes| usize::try_from(bytes).map_err(|_| format!("`{text}` is too large for this machine")))
}

fn function_length(text: &str) -> Result<usize, String> {
    let longest = ModuleLimits::LONGEST_BODY;
    match size(text)? {
        0 => Err("functions of 0 bytes at most are none: write a larger limit".to_owned()),
        bytes if bytes <= longest => Ok(bytes),
        _ => Err(format!(
            "`{text}` is longer than any function of WebAssembly: {longest} bytes are the most"
        )),
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Err("a time limit of 0 would stop everything: write a longer one".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        up: Up,
    }

    fn settings(line: &str, file: File) -> Result<HostConfig, String> {
        Line::try_parse_from(line.split(' ')).unwrap().up.settings(file)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = || File {
            idle_timeout: Some("1s".into()),
            max_resident: Some(7),
            ..File::default()
        };
        let config = settings("up --idle-timeout 2s", file()).unwrap();
        assert_eq!(config.idle_timeout, Duration::from_secs(2));
        assert_eq!(config.wasm.max_instances, 7);
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 7777)));
    }

    #[test]
    fn two_flags_of_nearly_one_name_are_two() {
        let config = settings("up --idle-timeout 2s --http-idle-timeout 3s", File::default()).unwrap();
        assert_eq!(
            (config.idle_timeout, config.http.idle_timeout),
            (Duration::from_secs(2), Duration::from_secs(3))
        );
        Line::command().debug_assert();
    }

    #[test]
    fn limits_of_modules_are_an_operators_choice() {
        let config = settings("up", File::default()).unwrap();
        assert_eq!(config.wasm.module.body_bytes, 128 << 10);
        assert_eq!(config.wasm.module.bytes, 16 << 20);
        let config = settings("up --function-limit 1MiB --http-module-limit 32MiB", File::default()).unwrap();
        assert_eq!(config.wasm.module.body_bytes, 1 << 20);
        assert_eq!(config.wasm.module.bytes, 32 << 20);
        let config = settings("up --http-module-limit 1MiB", File::default()).unwrap();
        assert_eq!(config.wasm.module.bytes, 16 << 20, "what is stored has passed it once");
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        for (line, word) in [
            ("up --dirty-tracking magic", "userfaultfd"),
            ("up --listen nowhere", "HOST:PORT"),
            ("up --memory-limit 5MB", "MiB"),
            ("up --idle-timeout 0s", "longer"),
            ("up --function-limit 0", "larger"),
            ("up --function-limit 8MiB", "7654321 bytes are the most"),
        ] {
            let error = settings(line, File::default()).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
