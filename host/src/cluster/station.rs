//! This host in its cluster: network, membership and office together, started and stopped in order.
//!
//! **Not here:** what the parts do, and what peers ask about grains (`activation`, by [`Answerer`]).

mod parting;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use granary_core::config_chain::config::{ClusterId, Config, Member, SlotReplicas};
use granary_core::config_chain::event::Share;
use granary_core::id::HostId;
use granary_core::membership::{self, Standing};
use granary_core::placement::Beat;
use granary_core::slot::SLOTS;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::config::ClusterConfig;
use super::dispatch::Dispatch;
use super::entry::{enter, was_in_one};
use super::handle::{self, FOLDER, Handle, Inbox, Start};
use super::keys::Keys;
use super::members::{self, Members, keep_book, read_book};
use super::notes::View;
use super::quic::{
    Answering, Authority, AuthorityError, BindError, JoinError, Joining, Origin, Quic, QuicSettings, TrafficBytes,
};
use crate::clock::Clock;
use crate::storage::{Storage, StorageError};
use crate::threads;

/// How long a host that starts waits to be in a configuration before it takes calls all the same.
const READY_PATIENCE: Duration = Duration::from_secs(15);
/// How long the office may take to say what's to be seen.
const VIEW_PATIENCE: Duration = Duration::from_secs(2);

/// Answers what peers ask.
pub(crate) trait Answerer: Send + Sync {
    /// What becomes of a question.
    fn answer(&self, from: HostId, question: Bytes) -> Answering;
    /// Another host is about to join: comes back when this one takes part in the cluster, or can't.
    fn joins(&self, host: HostId, from: SocketAddr) -> Joining;
}

/// What a host starts its part with.
pub(crate) struct StationSettings {
    pub(crate) data: PathBuf,
    pub(crate) config: ClusterConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    /// Bytes of others' frames, questions and answers that are held at a time, each.
    pub(crate) memory: u64,
    /// This host's figures.
    pub(crate) beat: Box<dyn Fn() -> Beat + Send>,
}

/// Why a host doesn't take part.
#[derive(Debug)]
pub(crate) enum StationError {
    Authority(AuthorityError),
    Join(JoinError),
    /// A word that isn't a token.
    Token(String),
    /// The host has state of its own: it can't become part of another cluster.
    HasState,
    Storage(StorageError),
    Network(BindError),
    /// A file or a folder of its part in the cluster.
    File(PathBuf, std::io::Error),
    /// What the system didn't give: a thread, random bytes.
    System(&'static str, std::io::Error),
}

impl fmt::Display for StationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StationError::Authority(error) => error.fmt(f),
            StationError::Join(error) => error.fmt(f),
            StationError::Token(why) => f.write_str(why),
            StationError::HasState => f.write_str(
                "the data folder has grains or modules of a host that was alone, and clusters don't merge: join with an empty folder",
            ),
            StationError::Storage(error) => error.fmt(f),
            StationError::Network(error) => error.fmt(f),
            StationError::File(path, error) => write!(f, "{}: {error}", path.display()),
            StationError::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl From<AuthorityError> for StationError {
    fn from(error: AuthorityError) -> StationError {
        StationError::Authority(error)
    }
}

impl From<BindError> for StationError {
    fn from(error: BindError) -> StationError {
        StationError::Network(error)
    }
}

impl From<StorageError> for StationError {
    fn from(error: StorageError) -> StationError {
        StationError::Storage(error)
    }
}

/// See the file's text.
pub(crate) struct Station {
    me: HostId,
    cluster: ClusterId,
    quic: Arc<Quic>,
    handle: Handle,
    /// What this host is as a member, if the cluster has no other so far.
    founds: Option<Member>,
    /// Nobody has ever joined: this host can be one alone until somebody does.
    is_unknown: bool,
    /// Until it takes part.
    rest: Mutex<Option<Rest>>,
    /// Once it takes part.
    members: Arc<OnceLock<Members>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    tasks: Mutex<JoinSet<()>>,
    /// Held while the cluster goes over to a new authority at this host's word.
    rotation: Arc<tokio::sync::Mutex<()>>,
}

/// What taking part needs.
struct Rest {
    settings: StationSettings,
    inbox: Inbox,
}

/// What a host counts of its cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StationCounts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) refused: u64,
    pub(crate) half_open: u64,
    pub(crate) held_bytes: u64,
    pub(crate) waiting_bytes: u64,
    pub(crate) dropped_frames: u64,
    pub(crate) journal_bytes: u64,
    pub(crate) busy: u64,
    pub(crate) others: u64,
    pub(crate) configuration: u64,
}

/// One host of the cluster, as it's seen from here.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Which.
    pub host: HostId,
    /// Where it's reached by others.
    pub address: Option<SocketAddr>,
    /// Whether it answers; this host itself does.
    pub standing: Standing,
    /// Whether it's in the configuration.
    pub is_member: bool,
    /// Its share relative to the others', and the zone that it may fail with, as the configuration says.
    pub share: Option<Share>,
    /// Slots of which it has a copy.
    pub slots: usize,
    /// What it last said of its load.
    pub beat: Option<Beat>,
}

/// The cluster, as it's seen from here.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Its id.
    pub cluster: ClusterId,
    /// The number of the configuration in force; 0 before the first.
    pub configuration: u64,
    /// All hosts that are known, by id.
    pub hosts: Vec<HostView>,
    /// Slots that this host serves, and those that it's taking over.
    pub serving: usize,
    /// See above.
    pub installing: usize,
    /// Slots of the whole cluster that lack a copy: a host that should have one seems to be gone, or isn't known to have it yet.
    pub degraded: usize,
    /// Grains of which this host has a copy.
    pub copies: usize,
    /// Activations here, and those of them without a quorum.
    pub activations: usize,
    /// See above.
    pub isolated: usize,
    /// What became of requests whose way was looked for.
    pub requests: granary_core::routing::Counts,
    /// Grains whose host is remembered.
    pub remembered: usize,
    /// Connections that were refused.
    pub refused: u64,
}

impl Station {
    /// Gets hold of a cluster's authority (the one that a token names, the one that it has already, or a new one) and of the network's
    /// address. Takes part in nothing yet.
    pub(crate) async fn open(settings: StationSettings, handle: Handle, inbox: Inbox) -> Result<Station, StationError> {
        let StationSettings {
            data,
            config,
            storage,
            memory,
            ..
        } = &settings;
        let (folder, me) = (data.join(FOLDER), storage.host());
        let in_folder = |error| StationError::File(folder.clone(), error);
        std::fs::create_dir_all(&folder).map_err(in_folder)?;
        let identity = enter(data, config, &**storage).await?;
        let authority = Authority::open(&folder)?;
        if read_book(&folder).is_empty() && !identity.hosts.is_empty() {
            keep_book(&folder, identity.hosts.iter().copied()).map_err(in_folder)?;
        }
        // Only the first host of a cluster begins a configuration, and only until it knows others.
        let is_first = identity.origin == Origin::Founded && read_book(&folder).is_empty();
        let founds = is_first.then(|| Member {
            host: me,
            weight: config.weight,
            zone: config.zone.clone(),
        });
        let is_unknown = founds.is_some() && !was_in_one(data);
        let cluster = identity.cluster;
        let (draw, log) = (drawn()?, storage.clone());
        let quic = Quic::bind(QuicSettings {
            listen: config.listen,
            advertise: config.advertise,
            me,
            incarnation: storage.incarnation(),
            draw,
            durable: Box::new(move || log.durable()),
            identity,
            authority,
            folder,
            memory: *memory,
        })?;
        Ok(Station {
            me,
            cluster,
            quic,
            handle,
            founds,
            is_unknown,
            rest: Mutex::new(Some(Rest { settings, inbox })),
            members: Arc::default(),
            threads: Mutex::default(),
            tasks: Mutex::default(),
            rotation: Arc::default(),
        })
    }

    /// Hears the others from now on.
    pub(crate) fn serve(&self, answerer: Arc<dyn Answerer>) {
        let dispatch = Dispatch {
            me: self.me,
            quic: Arc::downgrade(&self.quic),
            handle: self.handle.clone(),
            members: self.members.clone(),
            answerer,
            runtime: tokio::runtime::Handle::current(),
        };
        self.quic.serve(Arc::new(dispatch));
    }

    /// Whether nobody has ever joined, so that this host may be one alone until somebody does.
    pub(crate) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Takes part from now on, with what storage has; once.
    pub(crate) fn take_part(&self) -> Result<(), StationError> {
        let rest = self.rest.lock().expect("no panic under this lock").take();
        let Some(Rest { settings, inbox }) = rest else {
            return Ok(());
        };
        let StationSettings {
            data,
            config,
            storage,
            clock,
            beat,
            memory: _,
        } = settings;
        let seed = drawn()?;
        let start = Start {
            data: &data,
            cluster: self.cluster,
            founds: self.founds.clone(),
            storage: storage.clone(),
            link: self.quic.clone(),
            clock,
            seed,
            config: &config,
        };
        let office = handle::open(start, &self.handle, inbox).map_err(|error| match error {
            // Which file or thread is in its text, and it needn't be the disk's fault.
            StorageError::Io(error) => StationError::System("this host can't take part in its cluster", error),
            other => StationError::Storage(other),
        })?;
        let (members, prober) = Members::start(members::Start {
            data,
            me: self.me,
            incarnation: storage.incarnation(),
            address: self.quic.advertised(),
            cluster: self.cluster,
            seeds: config.seeds,
            seed,
            link: self.quic.clone(),
            office: self.handle.clone(),
            clock,
            beat,
        })
        .map_err(|error| StationError::System("the thread that probes other hosts", error))?;
        self.members.get_or_init(|| members);
        self.spawn("keys", self.keys().keep_up(self.me));
        self.threads
            .lock()
            .expect("no panic under this lock")
            .extend([office, prober]);
        Ok(())
    }

    /// Waits until this host is in a configuration, or it isn't to be expected soon.
    pub(crate) async fn ready(&self) {
        let limit = Instant::now() + READY_PATIENCE;
        let mut said = Instant::now();
        while Instant::now() < limit {
            if self
                .handle
                .config()
                .is_some_and(|config| config.member(self.me).is_some())
            {
                return;
            }
            if said.elapsed() > Duration::from_secs(3) {
                said = Instant::now();
                tracing::info!("waiting to be taken into the cluster's configuration");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tracing::warn!("this host isn't in the cluster's configuration yet: calls are answered when it is");
    }

    /// Where others reach this host.
    pub(crate) fn address(&self) -> SocketAddr {
        self.quic.advertised()
    }

    /// Lets one host join, for a time: a word to start it with.
    pub(crate) async fn token(&self, holds: Duration) -> Result<String, String> {
        self.keys().token(holds).await
    }

    /// Has the cluster go over to a new authority, to the end, also when nobody waits for it any more. How many hosts have.
    pub(crate) async fn rotate(&self) -> Result<usize, String> {
        let one = self.rotation.clone().try_lock_owned();
        let one = one.map_err(|_| "the cluster goes over to a new authority already".to_owned())?;
        let (keys, me) = (self.keys(), self.me);
        let (told, rotated) = oneshot::channel();
        self.spawn("rotation", async move {
            // Whoever has asked may have gone.
            let _ = told.send(keys.rotate(me).await);
            drop(one);
        });
        rotated.await.unwrap_or_else(|_| Err("the host stops".to_owned()))
    }

    /// Answers what another host asks about who can let hosts in. Nothing when it can't be read.
    pub(crate) fn answer_keys(&self, from: HostId, asked: &Bytes) -> Option<Bytes> {
        self.keys().answer(from, asked)
    }

    /// Runs a task until it ends or the host stops. One that panics ends the host.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().expect("no panic under this lock");
        while tasks.try_join_next().is_some() {}
        tasks.spawn(threads::task(name, task));
    }

    fn keys(&self) -> Keys {
        Keys {
            quic: self.quic.clone(),
            office: self.handle.clone(),
        }
    }

    /// Asks the others to go on without this host.
    pub(crate) fn leave(&self) {
        if let Some(members) = self.members.get() {
            members.leave();
        }
    }

    /// Whether another host seems to be there.
    pub(crate) fn answers(&self, host: HostId) -> bool {
        self.seen().is_active(host)
    }

    /// The other hosts, as membership sees them.
    fn seen(&self) -> membership::View {
        self.members.get().map(Members::view).unwrap_or_default()
    }

    pub(crate) fn config(&self) -> Option<Arc<Config>> {
        self.handle.config()
    }

    pub(crate) fn me(&self) -> HostId {
        self.me
    }

    /// What `/metrics` shows.
    pub(crate) fn counts(&self) -> StationCounts {
        let TrafficBytes { sent, received } = self.quic.bytes();
        let (held_bytes, waiting_bytes, dropped) = self.quic.memory();
        let office = self.handle.counts();
        let members = self.seen();
        StationCounts {
            sent,
            received,
            refused: self.quic.refusals(),
            half_open: self.quic.half_open() as u64,
            held_bytes,
            waiting_bytes,
            dropped_frames: dropped + office.dropped.load(Ordering::Relaxed),
            journal_bytes: office.journal_bytes.load(Ordering::Relaxed),
            busy: office.busy.load(Ordering::Relaxed),
            others: members.members().filter(|member| member.standing.is_active()).count() as u64,
            configuration: self.config().map_or(0, |config| config.n.0),
        }
    }

    /// The cluster, as it's seen from here.
    pub(crate) async fn view(&self) -> Option<ClusterView> {
        if self.members.get().is_none() {
            return Some(self.describe_alone());
        }
        let office = self.handle.view(VIEW_PATIENCE).await?;
        Some(self.describe(&office, &self.seen()))
    }

    /// A cluster that nobody has joined: this host has everything.
    fn describe_alone(&self) -> ClusterView {
        let mut view = self.describe(&View::default(), &membership::View::default());
        view.serving = usize::from(SLOTS);
        for host in &mut view.hosts {
            (host.is_member, host.slots) = (true, usize::from(SLOTS));
        }
        view
    }

    fn describe(&self, office: &View, seen: &membership::View) -> ClusterView {
        let config = office.config.as_deref();
        let mut hosts: Vec<HostId> = seen.members().map(|member| member.host).collect();
        hosts.extend(
            config
                .iter()
                .flat_map(|config| config.members.iter().map(|member| member.host)),
        );
        hosts.push(self.me);
        hosts.sort_unstable();
        hosts.dedup();
        let host_view = |host: HostId| {
            let member = seen.member(host);
            let is_me = host == self.me;
            HostView {
                host,
                address: if is_me {
                    Some(self.address())
                } else {
                    member.map(|member| member.address)
                },
                standing: match member {
                    _ if is_me => Standing::Alive,
                    Some(member) => member.standing,
                    None => Standing::Down,
                },
                is_member: config.is_some_and(|config| config.member(host).is_some()),
                share: config.and_then(|config| config.member(host)).map(Share::of),
                slots: config.map_or(0, |config| slots_of(config, host)),
                beat: office.beats.iter().find(|(of, _)| *of == host).map(|(_, beat)| *beat),
            }
        };
        ClusterView {
            cluster: self.cluster,
            configuration: config.map_or(0, |config| config.n.0),
            hosts: hosts.into_iter().map(host_view).collect(),
            serving: office.serving,
            installing: office.installing,
            degraded: config.map_or(0, |config| {
                degraded(config, |host| host == self.me || seen.is_active(host))
            }),
            copies: office.registers,
            activations: office.activations,
            isolated: office.isolated,
            requests: office.counts,
            remembered: office.cached,
            refused: self.quic.refusals(),
        }
    }

    /// Stops hearing and ends the threads, after everything that writes. `is_answered`: others' questions are, all that were taken on.
    pub(crate) fn stop(&self, is_answered: bool) {
        self.tasks.lock().expect("no panic under this lock").abort_all();
        if let Some(members) = self.members.get() {
            members.stop();
        }
        self.handle.stop();
        for thread in self.threads.lock().expect("no panic under this lock").drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the cluster's has failed");
            }
        }
        self.quic.close(is_answered);
    }
}

fn slots_of(config: &Config, host: HostId) -> usize {
    let has = |slot: &&SlotReplicas| slot.replicas.position(host).is_some();
    config.slots.iter().filter(has).count()
}

/// Another process is this host: this one ends before it acknowledges anything more. Not in peace, since what it would write, promise or
/// hand over isn't its to say.
pub(super) fn disowned(why: &str) {
    tracing::error!(why, "this process isn't taken for its host any more, and stops");
    threads::end_process();
}

/// Slots that lack a copy.
fn degraded(config: &Config, is_there: impl Fn(HostId) -> bool) -> usize {
    let there: BTreeSet<HostId> = config
        .members
        .iter()
        .map(|member| member.host)
        .filter(|host| is_there(*host))
        .collect();
    let lacks = |slot: &&SlotReplicas| {
        // A new cluster's slots are nobody's to take over.
        let is_arriving = !slot.sources.is_empty() && !slot.is_settled();
        is_arriving || !slot.replicas.hosts().iter().all(|host| there.contains(host))
    };
    config.slots.iter().filter(lacks).count()
}

fn drawn() -> Result<u64, StationError> {
    let mut drawn = [0; 8];
    getrandom::fill(&mut drawn).map_err(|error| {
        let error = std::io::Error::other(error.to_string());
        StationError::System("random bytes", error)
    })?;
    Ok(u64::from_le_bytes(drawn))
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("me", &self.me).finish_non_exhaustive()
    }
}
