//! This host's UDP socket and what goes out by it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use granary_core::config_chain::config::ClusterId;
use granary_core::id::{HostId, Lsn};
use quinn::{ClientConfig, Connecting, Connection, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::super::link::{Answer, CallError, Link};
use super::allowance::Allowance;
use super::authority::{Authority, AuthorityError};
use super::desk::Desk;
use super::identity::{Identity, LEAF};
use super::incoming::{Events, Refusals, accept};
use super::known::Known;
use super::lane::{ANSWERED, Lane, Outgoing};
use super::strangers::Strangers;
use super::tls::{Credentials, cluster_name, host_name, host_of};
use super::token::JoinToken;
use super::token_book::TokenBook;
use super::traffic::{self, Traffic};
use crate::clock::{wall, wall_millis};
use crate::threads;

/// How often the certificate's age is looked at, by the clock on the wall: it counts also while the machine sleeps.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);
/// Between two tries when it can't be renewed.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
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
    pub(crate) identity: Identity,
    /// The cluster's authority, on hosts that let others in.
    pub(crate) authority: Option<Authority>,
    /// The cluster's folder.
    pub(crate) folder: PathBuf,
    /// Bytes of frames, of questions and of answers that are held at a time, each.
    pub(crate) memory: u64,
}

/// Bytes of others' messages that are held.
#[derive(Debug)]
pub(super) struct HeldBytes {
    /// Until the office takes them.
    pub(super) frames: Allowance,
    /// Until they are answered.
    pub(super) questions: Allowance,
    /// Until they are passed on.
    pub(super) answers: Allowance,
}

/// See the file's text.
pub(crate) struct Quic {
    endpoint: Endpoint,
    advertised: SocketAddr,
    me: HostId,
    cluster: ClusterId,
    known: Arc<Known>,
    credentials: Mutex<Shown>,
    folder: PathBuf,
    peers: Mutex<HashMap<HostId, Peer>>,
    addresses: Mutex<HashMap<HostId, SocketAddr>>,
    tokens: TokenBook,
    refusals: Refusals,
    /// A handshake has failed, here or at the other end.
    doubts: Notify,
    strangers: Strangers,
    held_bytes: HeldBytes,
    desk: Arc<Desk>,
    outgoing: Arc<Outgoing>,
    traffic: Traffic,
    events: OnceLock<Arc<dyn Events>>,
    net: Handle,
    /// Itself, for tasks that its faces start.
    this: std::sync::Weak<Quic>,
    /// Ends the thread.
    stop: Arc<Notify>,
}

/// Why the network doesn't start.
#[derive(Debug)]
pub(crate) enum BindError {
    /// What this host shows to others can't be made.
    Authority(AuthorityError),
    /// The address can't be listened on.
    Listen(SocketAddr, io::Error),
    /// Nobody could reach this host by the address that they would be told.
    Advertise(SocketAddr),
    /// The file of join tokens can't be read.
    Tokens(io::Error),
    /// The network's thread can't be started.
    Thread(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Authority(error) => error.fmt(f),
            BindError::Listen(address, error) => write!(
                f,
                "can't listen for other hosts on UDP {address}: {error}; --cluster-listen names another address, else it's the port after HTTP's"
            ),
            BindError::Advertise(address) => write!(
                f,
                "others can't reach this host at {address}: say how with --cluster-advertise IP:PORT"
            ),
            BindError::Tokens(error) => write!(f, "the join tokens that were given out (cluster/tokens): {error}"),
            BindError::Thread(error) => write!(f, "the network's thread can't be started: {error}"),
        }
    }
}

impl From<AuthorityError> for BindError {
    fn from(error: AuthorityError) -> BindError {
        BindError::Authority(error)
    }
}

/// What this host shows, and from what it's made.
struct Shown {
    identity: Identity,
    authority: Option<Authority>,
    client: ClientConfig,
    /// When the certificate that is shown was made.
    made: SystemTime,
}

/// The ways to one host.
struct Peer {
    frames: Arc<Lane>,
    /// For what is long: a connection of its own, so that short frames don't wait behind it.
    bulk: Option<Arc<Lane>>,
}

impl Quic {
    /// Takes the address. Nothing is heard before [`Quic::serve`].
    pub(crate) fn bind(settings: QuicSettings) -> Result<Arc<Quic>, BindError> {
        let known = Known::new(settings.incarnation, settings.draw, settings.durable);
        let credentials = Credentials::new(&settings.identity, known.mine)?;
        let tokens = TokenBook::open(&settings.folder).map_err(BindError::Tokens)?;
        let (net, stop) = start_thread().map_err(BindError::Thread)?;
        let taken = |error| BindError::Listen(settings.listen, error);
        let socket = UdpSocket::bind(settings.listen).map_err(taken)?;
        let endpoint = {
            let _inside = net.enter();
            Endpoint::new(
                EndpointConfig::default(),
                Some(credentials.server),
                socket,
                Arc::new(TokioRuntime),
            )
            .map_err(taken)?
        };
        let bound = endpoint.local_addr().map_err(taken)?;
        let advertised = settings.advertise.unwrap_or(bound);
        if advertised.ip().is_unspecified() {
            return Err(BindError::Advertise(advertised));
        }
        Ok(Arc::new_cyclic(|this| Quic {
            endpoint,
            advertised,
            me: settings.me,
            cluster: settings.identity.cluster,
            known: Arc::new(known),
            credentials: Mutex::new(Shown {
                identity: settings.identity,
                authority: settings.authority,
                client: credentials.client,
                made: wall(),
            }),
            folder: settings.folder,
            peers: Mutex::default(),
            addresses: Mutex::default(),
            tokens,
            refusals: Refusals::default(),
            doubts: Notify::new(),
            strangers: Strangers::default(),
            held_bytes: HeldBytes {
                frames: Allowance::new(settings.memory),
                questions: Allowance::new(settings.memory),
                answers: Allowance::new(settings.memory),
            },
            desk: Arc::default(),
            outgoing: Arc::default(),
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

    /// Lets one host join, for a time; nothing when this host can let nobody in.
    pub(crate) fn token(&self, holds: Duration) -> io::Result<Option<JoinToken>> {
        let Some(authority) = self.authority() else {
            return Ok(None);
        };
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        let expires = wall_millis().saturating_add(u64::try_from(holds.as_millis()).unwrap_or(u64::MAX));
        self.tokens.add(&secret, expires)?;
        Ok(Some(JoinToken {
            address: self.advertised,
            cluster: self.cluster,
            fingerprint: authority.fingerprint(),
            secret,
            expires,
        }))
    }

    /// Connections that were refused so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.count()
    }

    /// Connections of which it isn't known yet whose they are.
    pub(crate) fn half_open(&self) -> usize {
        self.strangers.count()
    }

    /// Bytes of others' messages that are held, those that wait to be sent, and how many frames were dropped since too many did.
    pub(crate) fn memory(&self) -> (u64, u64, u64) {
        let HeldBytes {
            frames,
            questions,
            answers,
        } = &self.held_bytes;
        (
            frames.used() + questions.used() + answers.used(),
            self.outgoing.bytes.load(Ordering::Relaxed) as u64,
            self.outgoing.dropped.load(Ordering::Relaxed),
        )
    }

    /// Bytes on the wire so far.
    pub(crate) fn bytes(&self) -> traffic::Bytes {
        self.traffic.total()
    }

    /// Sends back what others ask from now on.
    pub(crate) fn refuse(&self) {
        self.desk.refuse();
    }

    /// Questions of others that are worked on.
    pub(crate) fn questions(&self) -> usize {
        self.desk.count()
    }

    /// Says good-bye to all and ends the thread. `is_answered`: what got no answer was never taken on, and its senders may ask elsewhere.
    pub(crate) fn close(&self, is_answered: bool) {
        let code = if is_answered { ANSWERED } else { VarInt::from_u32(0) };
        self.endpoint.close(code, b"the host stops");
        self.stop.notify_one();
    }

    /// Takes a new certificate for connections that are made from now on, when half of the time is over that the present one holds, or the clock
    /// on the wall was put back. Whether it did.
    pub(super) fn renew_if_due(&self, now: SystemTime) -> Result<bool, AuthorityError> {
        let mut shown = self.shown();
        let age = now.duration_since(shown.made);
        if age.is_ok_and(|age| age < LEAF.unsigned_abs() / 2) {
            return Ok(false);
        }
        self.show(&mut shown)?;
        Ok(true)
    }

    fn show(&self, held: &mut Shown) -> Result<(), AuthorityError> {
        let credentials = Credentials::new(&held.identity, self.known.mine)?;
        self.endpoint.set_server_config(Some(credentials.server));
        (held.client, held.made) = (credentials.client, wall());
        Ok(())
    }

    /// Changes who this host is to the others: kept first, then shown on connections that are made from now on.
    pub(crate) fn change_identity<T>(
        &self,
        change: impl FnOnce(&mut Identity) -> Result<T, AuthorityError>,
    ) -> Result<T, AuthorityError> {
        let mut held = self.shown();
        let mut identity = held.identity.clone();
        let changed = change(&mut identity)?;
        identity.keep(&self.folder)?;
        held.identity = identity;
        self.show(&mut held)?;
        Ok(changed)
    }

    /// Lets others in from now on. Damaged, if it's an authority that isn't believed.
    pub(crate) fn take_authority(&self, authority: Authority) -> Result<(), AuthorityError> {
        let mut held = self.shown();
        if authority.cluster != self.cluster || !held.identity.believes(&authority.fingerprint()) {
            return Err(AuthorityError::Damaged);
        }
        authority.keep(&self.folder)?;
        held.authority = Some(authority);
        Ok(())
    }

    /// Ends the connections with these hosts: who is still believed makes them again.
    pub(crate) fn part_from(&self, is_one: impl Fn(HostId) -> bool) {
        let is_theirs = |connection: &Connection| host_of(connection, self.cluster).is_some_and(&is_one);
        self.traffic.close(is_theirs, b"the cluster has another authority now");
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.credentials.lock().expect("no panic under this lock")
    }

    pub(super) fn connect(&self, to: HostId, address: SocketAddr) -> Result<Connecting, String> {
        self.connect_as(&host_name(to, self.cluster()), address)
    }

    fn connect_as(&self, name: &str, address: SocketAddr) -> Result<Connecting, String> {
        let config = self.shown().client.clone();
        let connecting = self.endpoint.connect_with(config, address, name);
        connecting.map_err(|error| error.to_string())
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn held(&self) -> &HeldBytes {
        &self.held_bytes
    }

    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    pub(super) fn outgoing(&self) -> &Arc<Outgoing> {
        &self.outgoing
    }

    pub(super) fn strangers(&self) -> &Strangers {
        &self.strangers
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

    /// The cluster's authority, if this host has it and others still believe it.
    pub(crate) fn authority(&self) -> Option<Authority> {
        let held = self.shown();
        let authority = held.authority.as_ref()?;
        held.identity
            .believes(&authority.fingerprint())
            .then(|| authority.clone())
    }

    pub(crate) fn identity(&self) -> Identity {
        self.shown().identity.clone()
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
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

    /// A handshake has failed: the certificate that this host shows is looked at.
    pub(super) fn doubted(&self) {
        self.doubts.notify_one();
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
                Err(error) => {
                    self.doubted();
                    why = error.to_string();
                }
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
        // A refusal may be news of a clock that was set, on either side.
        let _ = tokio::time::timeout(RENEWAL_LOOK, quic.doubts.notified()).await;
        match quic.renew_if_due(wall()) {
            Ok(true) => tracing::info!("this host has renewed its certificate"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "this host's certificate can't be renewed");
                tokio::time::sleep(RENEWAL_PAUSE).await;
            }
        }
    }
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quic")
            .field("advertised", &self.advertised)
            .finish_non_exhaustive()
    }
}
