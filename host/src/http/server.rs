//! The listener: connections with limits on their number, headers and time; a stop that lets open requests end.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use granary_core::api::Code;
use percent_encoding::NON_ALPHANUMERIC;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::{OwnerSocket, Security, SecurityError};
use super::config::HttpConfig;
use super::door::Door;
use super::error::Refusal;
use super::exchange::{Api, Entrance};
use super::inside::{Host, Inside};
use super::listener::{Entrances, Listener};
use super::memory::Memory;
use super::metrics::Metrics;
use super::peers::Peers;
use super::{HttpParts, admin, connection, descriptors, logs, request_id};

/// Connections beyond the limit that are being told so, at a time; further ones may not hear it.
const TURNED_AWAY_LIMIT: usize = 128;
/// Connections of the data folder's owner beyond the limit.
const OWNERS: usize = 16;
/// How long the listener rests when the system has no room for a connection.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(50);
/// How often the log hears of it: a flood of connections mustn't become a flood of lines.
const NO_ROOM_SAID_EVERY: Duration = Duration::from_secs(10);

/// Why the HTTP side doesn't start or ends by itself.
#[derive(Debug)]
pub enum ServeError {
    /// The listener would let anybody in, or its settings are wrong.
    Security(SecurityError),
    /// The registry has metrics of the same names: two HTTP sides can't share one.
    Metrics(prometheus::Error),
    /// The listener's address can't be told.
    Listener(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Security(error) => error.fmt(f),
            ServeError::Metrics(error) => write!(f, "the metrics can't be registered: {error}"),
            ServeError::Listener(error) => write!(f, "the listener failed: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Answers requests until `shutdown` is ready, then lets the open ones end, for `drain_timeout` at most.
pub async fn serve(
    listener: TcpListener,
    parts: HttpParts,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let inside = Host {
        router: parts.router,
        modules: parts.modules,
    };
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let mut config = parts.config;
    bound_connections(&mut config);
    let metrics = Metrics::new(parts.metrics).map_err(ServeError::Metrics)?;
    let api = Api {
        inside,
        host: HeaderValue::try_from(parts.facts.host.to_string()).expect("hex digits are a header value"),
        facts: parts.facts,
        security: Security::open(&config, address).map_err(ServeError::Security)?,
        audit: parts.audit,
        owner: owner_header(&parts.owner),
        body_memory: memory(&config, &metrics),
        calls: AtomicUsize::new(0),
        door: Door::new(config.admission(Handle::current().metrics().num_workers())),
        followers: logs::followers(),
        metrics,
        config,
        stopping: AtomicBool::new(false),
    };
    api.security.warn(address);
    let entrances = Entrances {
        port: listener,
        owner: parts.owner,
    };
    let api = Arc::new(api);
    tokio::select! {
        () = serve_api(entrances, api.clone(), shutdown) => {}
        () = parts.reloads.run(api) => unreachable!("it never ends"),
    }
    Ok(())
}

/// Where the owner's socket is, as refusals say it.
fn owner_header(socket: &OwnerSocket) -> Option<HeaderValue> {
    let path = socket.path().as_os_str().as_bytes();
    let path = percent_encoding::percent_encode(path, NON_ALPHANUMERIC).to_string();
    HeaderValue::try_from(path).ok()
}

/// Never more connections than leave storage its descriptors.
fn bound_connections(config: &mut HttpConfig) {
    let descriptors = descriptors::raise_limit();
    let limit = descriptors::connections(config.connection_limit, descriptors);
    if limit < config.connection_limit {
        let wanted = config.connection_limit;
        tracing::warn!(
            limit,
            wanted,
            descriptors,
            "fewer connections than set: raise the limit on open files"
        );
        config.connection_limit = limit;
    }
}

/// The memory for large bodies and replies.
pub(super) fn memory(config: &HttpConfig, metrics: &Metrics) -> Memory {
    let (bytes, refused) = (metrics.memory_bytes.clone(), metrics.memory_refused.clone());
    Memory::new(config.body_memory_limit, config.body_memory_wait, bytes, refused)
}

/// [`serve`], whatever is inside.
pub(super) async fn serve_api<H: Inside>(
    mut listener: impl Listener,
    api: Arc<Api<H>>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let rest = admin::routes(api.clone());
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut turned_away = JoinSet::new();
    let peers = Peers::new(api.config.peer_connection_limit);
    let mut no_room = NoRoom::default();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {
                api.metrics.connections.set(connections.len() as i64);
                continue;
            }
            Some(_) = turned_away.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, ends) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                no_room.pause_after(&error, &api.metrics).await;
                continue;
            }
        };
        // Whoever administers the host gets in also when others have taken all that there is.
        let extra = if ends.entrance == Entrance::OwnerSocket {
            OWNERS
        } else {
            0
        };
        let room = connections.len() < api.config.connection_limit + extra;
        let seat = if room { peers.seat(ends.peer.ip()) } else { None };
        if let Some(seat) = seat {
            let answered = connection::run(api.clone(), rest.clone(), stream, ends, stopped.clone());
            connections.spawn(async move {
                answered.await;
                drop(seat);
            });
            api.metrics.connections.set(connections.len() as i64);
        } else {
            api.metrics.connections_refused.inc();
            let refusal = too_many(&api.config, room);
            if turned_away.len() < TURNED_AWAY_LIMIT {
                turned_away.spawn(connection::last_words(stream, refusal));
            } else {
                write_at_once(stream, &refusal.into_bytes(request_id::fresh())).await;
            }
        }
    }
    drop(listener);
    api.stopping.store(true, Ordering::Relaxed);
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(api.config.drain_timeout, drained).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "requests were still open when the time to end them was over"
        );
        connections.shutdown().await;
    }
    turned_away.shutdown().await;
}

/// Writes as much as the connection takes without waiting.
async fn write_at_once(mut stream: impl AsyncWrite + Unpin, bytes: &[u8]) {
    std::future::poll_fn(|cx| {
        let _ = Pin::new(&mut stream).poll_write(cx, bytes);
        Poll::Ready(())
    })
    .await;
}

/// Rests when the system has no room for a connection, and says so now and then.
#[derive(Debug, Default)]
struct NoRoom {
    said: Option<Instant>,
}

impl NoRoom {
    /// A connection that broke before it was accepted is no reason to wait; a lack of file descriptors is, or the loop
    /// would spin until some are free.
    async fn pause_after(&mut self, error: &io::Error, metrics: &Metrics) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | InvalidInput | NotConnected
        ) {
            return;
        }
        metrics.accept_errors.inc();
        if self.said.is_none_or(|said| said.elapsed() >= NO_ROOM_SAID_EVERY) {
            tracing::warn!(%error, "connections can't be accepted");
            self.said = Some(Instant::now());
        }
        tokio::time::sleep(NO_ROOM_PAUSE).await;
    }
}

fn too_many(config: &HttpConfig, room: bool) -> Refusal {
    let detail = if room {
        let limit = config.peer_connection_limit;
        format!("your address has {limit} connections open, as many as one may; try again")
    } else {
        let limit = config.connection_limit;
        format!("the host has {limit} connections open, as many as it may; try again")
    };
    Refusal::new(Code::Overloaded, detail)
}
