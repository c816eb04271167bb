//! Every knob of the HTTP side: its default, its unit, and what it stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use granary_core::admission::Settings;

use super::access::{Security, SecurityError};

/// How this host speaks HTTP.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Host names, apart from `localhost` and the address that a connection came in at, by which callers may reach this
    /// host. Stops a web page from reaching it under a name of its own (DNS rebinding). None by default.
    pub allow_hosts: Vec<String>,
    /// Origins (`https://app.example`) whose pages may call this host. Stops any page that a user happens to visit from
    /// calling. None by default.
    pub allow_origins: Vec<String>,
    /// A file of `NAME TOKEN [SCOPE...]` lines; when given, every request but the probes and the owner's needs one of the tokens.
    pub token_file: Option<PathBuf>,
    /// Lets a listener that isn't loopback start without tokens. False by default.
    pub insecure: bool,
    /// The longest request body in bytes, except a module's. 8 MiB: stops one request from filling the host's memory.
    pub body_limit: usize,
    /// The longest module in bytes. 16 MiB.
    pub module_limit: usize,
    /// Bytes of all large request bodies that are being read or worked on, and of all large replies that are being sent.
    /// 256 MiB: stops many allowed bodies from doing what one may not.
    pub body_memory_limit: usize,
    /// How long a body or a reply waits for room in that memory. 1 s: evens out a burst.
    pub body_memory_wait: Duration,
    /// Levels of arrays and objects in arguments. 100, within the 127 that guests' own JSON readers take: stops a short body
    /// from using up the stack of whoever reads it.
    pub depth_limit: usize,
    /// The longest request line with headers, in bytes. 32 KiB, enough for a key of 1 KiB and long queries; that much of
    /// each connection is held while it comes. 8 KiB at least.
    pub header_limit: usize,
    /// Open connections. 10,000: stops a client from using up the host's file descriptors.
    pub connection_limit: usize,
    /// Open connections of one address, or one /64 of IPv6. 8,000: stops one client from taking all of them.
    pub peer_connection_limit: usize,
    /// Calls and deletions whose replies are waited for. 8,192: what one grain's mailbox bounds for a grain, this bounds for
    /// the host.
    pub call_limit: usize,
    /// How long calls may be in flight while the host's processors are busy, in the median: beyond, the surplus is refused.
    /// 10 ms: keeps latencies short when more comes in than the host can do.
    pub latency_target: Duration,
    /// How long a request's headers may take from their first byte. 10 s: stops clients that hold connections by sending
    /// a byte now and then.
    pub header_timeout: Duration,
    /// How long a connection may rest between requests. 75 s: longer than common clients keep theirs, so that the client
    /// is the one who closes.
    pub idle_timeout: Duration,
    /// How long a body may take; a further second is given for each 32 KiB that has come. 10 s.
    pub body_timeout: Duration,
    /// How long a client may take a reply's bytes; a further second is given for each 32 KiB that it took. 10 s: stops
    /// clients that ask for much and read nothing from holding the host's memory.
    pub reply_timeout: Duration,
    /// A call's deadline when the caller names none. 10 s.
    pub default_deadline: Duration,
    /// The longest deadline that a caller may name. 60 s: stops callers from holding a place in a mailbox for ever.
    pub deadline_limit: Duration,
    /// How long open requests may go on when the host stops. 10 s.
    pub drain_timeout: Duration,
}

impl HttpConfig {
    /// When calls are refused as surplus, on so many worker threads.
    pub(super) fn admission(&self, threads: usize) -> Settings {
        Settings {
            target_nanos: u64::try_from(self.latency_target.as_nanos()).unwrap_or(u64::MAX),
            ..Settings::of_threads(threads)
        }
    }

    /// Whether a listener at `address` may start with these settings: asked before anything else is started.
    pub fn check(&self, address: SocketAddr) -> Result<(), SecurityError> {
        Security::open(self, address).map(|_| ())
    }
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            token_file: None,
            insecure: false,
            body_limit: 8 << 20,
            module_limit: 16 << 20,
            body_memory_limit: 256 << 20,
            body_memory_wait: Duration::from_secs(1),
            depth_limit: 100,
            header_limit: 32 << 10,
            connection_limit: 10_000,
            peer_connection_limit: 8_000,
            call_limit: 8_192,
            latency_target: Duration::from_millis(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(10),
            reply_timeout: Duration::from_secs(10),
            default_deadline: Duration::from_secs(10),
            deadline_limit: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
