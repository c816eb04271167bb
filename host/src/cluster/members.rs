//! The thread that probes the other hosts, and says twice a second how loaded this one is.
//!
//! A thread of its own: on a host whose processors are all busy, a prober that has to wait for its turn calls healthy hosts dead. Whom it
//! has seen alive is kept in a file, so that a host that starts again finds the others without a seed.
//!
//! **Not here:** who is called dead and when (`granary_core::membership`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use granary_core::config_chain::config::{ClusterId, ConfigNumber};
use granary_core::id::HostId;
use granary_core::membership::{Identity, Input, Membership, Output, Settings, View};
use granary_core::placement::Beat;
use granary_core::time::Time;

use super::handle::{FOLDER, Handle};
use super::link::Link;
use super::station::disowned;
use crate::clock::Clock;
use crate::threads;

/// Between two beats.
const BEAT: Duration = Duration::from_millis(500);
/// The file of addresses.
const BOOK: &str = "hosts";
/// Datagrams that wait for the thread at most; more are lost, as on any network.
const WAITING_MOST: usize = 4096;

/// What the thread is told.
enum Told {
    Datagram { from: HostId, datagram: Bytes },
    Introduced { host: HostId, address: SocketAddr },
    Beat,
    Leave,
    Part,
    Stop,
}

/// What the thread starts with.
pub(crate) struct Start {
    pub(crate) data: PathBuf,
    pub(crate) me: HostId,
    pub(crate) incarnation: u32,
    pub(crate) address: SocketAddr,
    pub(crate) cluster: ClusterId,
    pub(crate) seeds: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) office: Handle,
    pub(crate) clock: Clock,
    /// This host's figures.
    pub(crate) beat: Box<dyn Fn() -> Beat + Send>,
}

/// The running thread. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Members {
    told: Sender<Told>,
    waiting: Arc<AtomicUsize>,
    view: Arc<Mutex<View>>,
    has_parted: Arc<AtomicBool>,
}

impl Members {
    /// Starts the thread.
    pub(crate) fn start(start: Start) -> std::io::Result<(Members, JoinHandle<()>)> {
        let (told, orders) = channel();
        let members = Members {
            told,
            waiting: Arc::default(),
            view: Arc::default(),
            has_parted: Arc::default(),
        };
        let shared = members.clone();
        let thread = threads::start("members", move || Prober::new(start, shared).run(&orders))?;
        Ok((members, thread))
    }

    /// A datagram has come.
    pub(crate) fn datagram(&self, from: HostId, datagram: Bytes) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MOST {
            self.tell(Told::Datagram { from, datagram });
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A host was found at an address.
    pub(crate) fn introduced(&self, host: HostId, address: SocketAddr) {
        self.tell(Told::Introduced { host, address });
    }

    /// Tells the others this host's figures at once.
    pub(crate) fn beat(&self) {
        self.tell(Told::Beat);
    }

    /// Says good-bye for good.
    pub(crate) fn leave(&self) {
        self.tell(Told::Leave);
    }

    /// Says that this process ends.
    pub(crate) fn part(&self) {
        self.tell(Told::Part);
    }

    /// Whether either is said.
    pub(crate) fn has_parted(&self) -> bool {
        self.has_parted.load(Ordering::Acquire)
    }

    /// Who is there, this host left out.
    pub(crate) fn view(&self) -> View {
        self.view.lock().expect("no panic under this lock").clone()
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.tell(Told::Stop);
    }

    fn tell(&self, told: Told) {
        // A thread that has ended hears nothing, and nobody waits for it.
        let _ = self.told.send(told);
    }
}

/// The thread's own state.
struct Prober {
    machine: Membership,
    shared: Members,
    link: Arc<dyn Link>,
    office: Handle,
    clock: Clock,
    beat: Box<dyn Fn() -> Beat + Send>,
    beat_at: Time,
    configured: ConfigNumber,
    folder: PathBuf,
    addresses: BTreeMap<HostId, SocketAddr>,
}

impl Prober {
    fn new(start: Start, shared: Members) -> Prober {
        let identity = Identity::new(start.me, start.incarnation, start.address);
        let settings = Settings {
            seeds: start.seeds,
            ..Settings::default()
        };
        let now = start.clock.time();
        let machine = Membership::new(now, identity, &start.cluster.0, settings, start.seed);
        let folder = start.data.join(FOLDER);
        let mut prober = Prober {
            machine,
            shared,
            link: start.link,
            office: start.office,
            clock: start.clock,
            beat: start.beat,
            beat_at: now,
            configured: ConfigNumber(0),
            addresses: BTreeMap::new(),
            folder,
        };
        for (host, address) in read_book(&prober.folder) {
            if host != start.me {
                prober.addresses.insert(host, address);
                prober.link.learn(host, address);
                prober.give(Input::Introduced { host, address });
            }
        }
        prober
    }

    fn run(mut self, orders: &Receiver<Told>) {
        loop {
            let now = self.clock.time();
            let due = self.machine.deadline().map_or(self.beat_at, |at| at.min(self.beat_at));
            match orders.recv_timeout(Duration::from_nanos(due.nanos_since(now))) {
                Ok(Told::Datagram { from, datagram }) => {
                    self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                    let datagram = datagram.to_vec();
                    self.give(Input::Received { from, datagram });
                }
                Ok(Told::Introduced { host, address }) => self.give(Input::Introduced { host, address }),
                Ok(Told::Beat) => self.beat_at = self.clock.time(),
                Ok(Told::Leave) => self.give(Input::Leave),
                Ok(Told::Part) => self.give(Input::Stop),
                Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.clock.time();
            if self.machine.deadline().is_some_and(|at| at <= now) {
                self.give(Input::Wake);
            }
            if self.beat_at <= now {
                self.beat_at = now.plus_nanos(BEAT.as_nanos() as u64);
                self.office.beat((self.beat)());
                self.configure();
            }
        }
    }

    /// Whoever is in the configuration and not there is missing.
    fn configure(&mut self) {
        if let Some(config) = self.office.config().filter(|config| config.n > self.configured) {
            self.configured = config.n;
            let members = config.members.iter().map(|member| member.host).collect();
            self.give(Input::Configured(members));
        }
    }

    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.clock.time(), input, &mut out);
        for output in out {
            match output {
                Output::Send { to, address, datagram } => {
                    self.link.learn(to, address);
                    self.link.datagram(to, datagram.into());
                }
                Output::Dial { seed } => self.link.dial(seed),
                Output::Changed(change) => {
                    let (host, address) = (change.now.host, change.now.address);
                    tracing::info!(%host, %address, standing = ?change.now.standing, "a host is seen otherwise");
                    *self.shared.view.lock().expect("no panic under this lock") = self.machine.view().clone();
                    self.office.seen(change);
                    if change.now.standing.is_active() && self.addresses.insert(host, address) != Some(address) {
                        self.link.learn(host, address);
                        self.write_book();
                    }
                }
                Output::Renewed { renewal } => {
                    tracing::warn!(renewal, "the others had called this host dead");
                }
                Output::Superseded { by } => disowned(&format!(
                    "start {by} of this host was seen, later than this one: its data folder was copied; go on with the newest folder, or \
                     wipe this one and join with a token"
                )),
                Output::Refused { from, reason } => tracing::warn!(%from, %reason, "a datagram was dropped"),
                Output::Gone => {
                    tracing::info!("the others know that this host goes");
                    self.shared.has_parted.store(true, Ordering::Release);
                }
            }
        }
    }

    /// A hint for the next start: nothing is lost when it can't be written.
    fn write_book(&self) {
        let entries = self.addresses.iter().map(|(host, address)| (*host, *address));
        if let Err(error) = keep_book(&self.folder, entries) {
            tracing::warn!(%error, "the other hosts' addresses can't be kept");
        }
    }
}

/// Keeps where hosts were last seen.
pub(super) fn keep_book(folder: &Path, hosts: impl Iterator<Item = (HostId, SocketAddr)>) -> std::io::Result<()> {
    let text: String = hosts.map(|(host, address)| format!("{host} {address}\n")).collect();
    let (book, new) = (folder.join(BOOK), folder.join(BOOK).with_extension("new"));
    std::fs::write(&new, text)?;
    std::fs::rename(&new, &book)
}

/// Where hosts were last seen, this one left out.
pub(super) fn read_book(folder: &Path) -> Vec<(HostId, SocketAddr)> {
    let text = std::fs::read_to_string(folder.join(BOOK)).unwrap_or_default();
    let entry = |line: &str| {
        let (host, address) = line.split_once(' ')?;
        Some((host.parse().ok()?, address.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}
