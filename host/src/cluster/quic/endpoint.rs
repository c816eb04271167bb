//! This host's UDP socket and what goes out by it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use granary_core::config_chain::config::ClusterId;
use granary_core::id::{HostId, Lsn};
use quinn::{ClientConfig, Connecting, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::super::link::{Answer, CallError, Link};
use super::authority::{Authority, AuthorityError};
use super::incoming::{Events, Refusals, accept};
use super::known::Known;
use super::lane::Lane;
use super::tls::{Credentials, cluster_name, host_name, host_of};
use super::token::JoinToken;
use super::token_book::{TokenBook, now_millis};
use super::traffic::{self, Traffic};
use crate::threads;

/// A certificate is renewed this often: half of the time that it holds.
const RENEWAL: Duration = Duration::from_secs(12 * 60 * 60);
/// Questions above this go the way of long frames.
const LONG_QUESTION: usize = 64 << 10;
/// How long finding out who is at an address may take.
const SEED_PATIENCE: Duration = Duration::from_secs(3);
/// What is said last goes out before the thread ends.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Hosts whose addresses are known.
const ADDRESSES_MOST: usize = 4096;

/// What the network starts with.
pub(crate) struct QuicSettings {
    /// Where to listen; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Where others reach it, if that's another address.
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) me: HostId,
    /// The host's n-th start.
    pub(crate) incarnation: u32,
    /// Drawn for this start.
    pub(crate) draw: u64,
    /// Up to where this host's log is durable.
    pub(crate) durable: Box<dyn Fn() -> Lsn + Send + Sync>,
    pub(crate) authority: Authority,
    /// The cluster's folder.
    pub(crate) folder: PathBuf,
}

/// See the file's text.
pub(crate) struct Quic {
    endpoint: Endpoint,
    advertised: SocketAddr,
    me: HostId,
    known: Arc<Known>,
    authority: Authority,
    client: Mutex<ClientConfig>,
    peers: Mutex<HashMap<HostId, Peer>>,
    addresses: Mutex<HashMap<HostId, SocketAddr>>,
    tokens: TokenBook,
    refusals: Refusals,
    traffic: Traffic,
    events: OnceLock<Arc<dyn Events>>,
    net: Handle,
    /// Itself, for tasks that its faces start.
    this: std::sync::Weak<Quic>,
    /// Ends the thread.
    stop: Arc<Notify>,
}

/// The ways to one host.
struct Peer {
    frames: Arc<Lane>,
    /// For what is long: a connection of its own, so that short frames don't wait behind it.
    bulk: Option<Arc<Lane>>,
}

impl Quic {
    /// Takes the address. Nothing is heard before [`Quic::serve`].
    pub(crate) fn bind(settings: QuicSettings) -> Result<Arc<Quic>, AuthorityError> {
        let known = Known::new(settings.incarnation, settings.draw, settings.durable);
        let credentials = Credentials::new(&settings.authority, settings.me, known.mine)?;
        let tokens = TokenBook::open(&settings.folder)?;
        let (net, stop) = start_thread()?;
        let socket = UdpSocket::bind(settings.listen)?;
        let endpoint = {
            let _inside = net.enter();
            Endpoint::new(
                EndpointConfig::default(),
                Some(credentials.server),
                socket,
                Arc::new(TokioRuntime),
            )?
        };
        let bound = endpoint.local_addr()?;
        let advertised = settings.advertise.unwrap_or(bound);
        if advertised.ip().is_unspecified() {
            let why = format!("others can't reach this host at {advertised}: say how with --cluster-advertise IP:PORT");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why).into());
        }
        Ok(Arc::new_cyclic(|this| Quic {
            endpoint,
            advertised,
            me: settings.me,
            known: Arc::new(known),
            authority: settings.authority,
            client: Mutex::new(credentials.client),
            peers: Mutex::default(),
            addresses: Mutex::default(),
            tokens,
            refusals: Refusals::default(),
            traffic: Traffic::default(),
            events: OnceLock::new(),
            net,
            this: this.clone(),
            stop,
        }))
    }

    /// Hears others from now on.
    pub(crate) fn serve(self: &Arc<Self>, events: Arc<dyn Events>) {
        if self.events.set(events).is_ok() {
            self.spawn(threads::task("net-accept", accept(self.clone())));
            self.spawn(threads::task("net-renewal", renew(self.clone())));
        }
    }

    /// Where others reach this host.
    pub(crate) fn advertised(&self) -> SocketAddr {
        self.advertised
    }

    /// Lets one host join, for a time.
    pub(crate) fn token(&self, holds: Duration) -> io::Result<JoinToken> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        let expires = now_millis().saturating_add(u64::try_from(holds.as_millis()).unwrap_or(u64::MAX));
        self.tokens.add(&secret, expires)?;
        Ok(JoinToken {
            address: self.advertised,
            cluster: self.authority.cluster,
            fingerprint: self.authority.fingerprint(),
            secret,
            expires,
        })
    }

    /// Connections that were refused so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.count()
    }

    /// Bytes on the wire so far.
    pub(crate) fn bytes(&self) -> traffic::Bytes {
        self.traffic.total()
    }

    /// Says good-bye to all and ends the thread.
    pub(crate) fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"the host stops");
        self.stop.notify_one();
    }

    /// Takes a new certificate for connections that are made from now on.
    pub(super) fn renew(&self) -> Result<(), AuthorityError> {
        let credentials = Credentials::new(&self.authority, self.me, self.known.mine)?;
        self.endpoint.set_server_config(Some(credentials.server));
        *self.client.lock().expect("no panic under this lock") = credentials.client;
        Ok(())
    }

    pub(super) fn connect(&self, to: HostId, address: SocketAddr) -> Result<Connecting, String> {
        self.connect_as(&host_name(to, self.cluster()), address)
    }

    fn connect_as(&self, name: &str, address: SocketAddr) -> Result<Connecting, String> {
        let config = self.client.lock().expect("no panic under this lock").clone();
        let connecting = self.endpoint.connect_with(config, address, name);
        connecting.map_err(|error| error.to_string())
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(super) fn me(&self) -> HostId {
        self.me
    }

    pub(super) fn known(&self) -> &Arc<Known> {
        &self.known
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.authority.cluster
    }

    pub(super) fn tokens(&self) -> &TokenBook {
        &self.tokens
    }

    pub(super) fn events(&self) -> Arc<dyn Events> {
        self.events.get().expect("nobody is heard before `serve`").clone()
    }

    pub(super) fn address(&self, host: HostId) -> Option<SocketAddr> {
        self.addresses
            .lock()
            .expect("no panic under this lock")
            .get(&host)
            .copied()
    }

    pub(super) fn refused(&self, remote: &SocketAddr, why: &str) {
        self.refusals.note(remote, why);
    }

    /// A host has dialled from an address: it's there, unless something better is known.
    pub(super) fn met(&self, host: HostId, address: SocketAddr) {
        let mut addresses = self.addresses.lock().expect("no panic under this lock");
        if addresses.len() < ADDRESSES_MOST {
            addresses.entry(host).or_insert(address);
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.net.spawn(task);
    }

    fn lane(&self, to: HostId, is_long: bool) -> Option<Arc<Lane>> {
        let this = self.this.upgrade()?;
        let mut peers = self.peers.lock().expect("no panic under this lock");
        let peer = peers.entry(to).or_insert_with(|| Peer {
            frames: Lane::open(&this, to),
            bulk: None,
        });
        if is_long {
            Some(peer.bulk.get_or_insert_with(|| Lane::open(&this, to)).clone())
        } else {
            Some(peer.frames.clone())
        }
    }
}

impl Link for Quic {
    fn send(&self, to: HostId, frame: Bytes) {
        if let Some(lane) = self.lane(to, false) {
            lane.send(frame);
        }
    }

    fn send_bulk(&self, to: HostId, frame: Bytes) {
        if let Some(lane) = self.lane(to, true) {
            lane.send(frame);
        }
    }

    fn datagram(&self, to: HostId, datagram: Bytes) {
        if let Some(lane) = self.lane(to, false) {
            lane.datagram(datagram);
        }
    }

    fn learn(&self, host: HostId, address: SocketAddr) {
        let mut addresses = self.addresses.lock().expect("no panic under this lock");
        if addresses.len() < ADDRESSES_MOST || addresses.contains_key(&host) {
            addresses.insert(host, address);
        }
    }

    fn dial(&self, seed: String) {
        let Some(this) = self.this.upgrade() else { return };
        self.spawn(async move {
            match tokio::time::timeout(SEED_PATIENCE, this.look(&seed)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::info!(seed, why, "no host there"),
                Err(_) => tracing::info!(seed, "no answer from there"),
            }
        });
    }

    fn call(&self, to: HostId, question: Bytes, patience: Duration) -> Answer {
        let lane = self.lane(to, question.len() > LONG_QUESTION);
        Box::pin(async move {
            let Some(lane) = lane else {
                return Err(CallError::NotSent("this host stops".to_owned()));
            };
            let late = Err(CallError::Unknown("no answer in time".to_owned()));
            tokio::time::timeout(patience, lane.ask(question)).await.unwrap_or(late)
        })
    }
}

impl Quic {
    /// Looks who is at an address.
    async fn look(&self, seed: &str) -> Result<(), String> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host(seed)
            .await
            .map_err(|error| error.to_string())?
            .collect();
        let mut why = "the name has no address".to_owned();
        for address in found {
            let connecting = self.connect_as(&cluster_name(self.cluster()), address)?;
            match connecting.await {
                Ok(connection) => {
                    let host = host_of(&connection, self.cluster());
                    connection.close(VarInt::from_u32(0), b"");
                    if let Some(host) = host.filter(|host| *host != self.me) {
                        self.events().introduced(host, address);
                    }
                    return Ok(());
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}

/// The thread that everything runs on, until it's told to stop.
fn start_thread() -> io::Result<(Handle, Arc<Notify>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (net, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
    let stopped = stop.clone();
    threads::start("net", move || {
        runtime.block_on(async {
            stopped.notified().await;
            tokio::time::sleep(LAST_WORDS).await;
        });
    })?;
    Ok((net, stop))
}

async fn renew(quic: Arc<Quic>) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        if let Err(error) = quic.renew() {
            tracing::error!(%error, "this host's certificate can't be renewed");
        }
    }
}

impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quic")
            .field("advertised", &self.advertised)
            .finish_non_exhaustive()
    }
}
