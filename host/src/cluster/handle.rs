//! The cluster as the rest of the host sees it: asks are notes to the office, answers come back.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use granary_core::cluster::recovery::Recovery;
use granary_core::cluster::{Input, Record, Settings};
use granary_core::config_chain::config::{ClusterId, Config, Member};
use granary_core::id::{Ballot, GrainId, GrainName, HostId, Lsn, Seq};
use granary_core::membership::Change;
use granary_core::message::Token;
use granary_core::placement::{Beat, Policy};
use granary_core::replication::messages::{CommitHash, Proposal};
use granary_core::routing::{self, Errand, Travel};
use tokio::sync::oneshot;

use super::config::ClusterConfig;
use super::files::{self, Files};
use super::journal::{self, Journal};
use super::link::{CallError, Link};
use super::notes::{Edit, Edited, Hear, Note, OpenError, Opened, View, Way};
use super::office::Office;
use super::quic::Held;
use super::reader::Reader;
use super::wire;
use crate::clock::Clock;
use crate::storage::{DurableSink, Storage, StorageError};
use crate::threads;

/// Frames from peers that may wait for the office. Beyond it they are dropped, and sent again by whoever wants an answer.
const FRAMES_MOST: usize = 4096;
/// Bytes of records that may wait for the journal's disk; beyond it frames are dropped, which are what most records come of.
const JOURNAL_BYTES_MOST: u64 = 64 << 20;
/// The folder for what is kept besides commits.
pub(crate) const FOLDER: &str = "cluster";
/// What a host starts its part with.
pub(crate) struct Start<'a> {
    pub(crate) data: &'a Path,
    pub(crate) cluster: ClusterId,
    /// What this host is as a member, when it founds the cluster; `None` when it joins, or is a member already.
    pub(crate) founds: Option<Member>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
    /// The address and times that an operator sets.
    pub(crate) config: &'a ClusterConfig,
}

/// What an office is behind with, for others to see.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Frames that wait.
    pub(super) frames: AtomicUsize,
    /// Those that were dropped.
    pub(super) dropped: AtomicU64,
    /// Bytes of records that aren't in the journal yet.
    pub(super) journal_bytes: AtomicU64,
    /// How often the thread took longer than it may until it listened again.
    pub(super) busy: AtomicU64,
    /// Activations from when they are asked for until they are over.
    pub(super) activations: AtomicUsize,
}

/// The notes on their way to an office that isn't open yet.
pub(crate) struct Inbox(Receiver<Note>);

/// See the file's text. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    notes: Sender<Note>,
    counts: Arc<Counts>,
    /// The last token of a way that was asked for.
    tokens: Arc<AtomicU64>,
    config: Arc<Mutex<Option<Arc<Config>>>>,
    others: Arc<Mutex<Arc<BTreeSet<HostId>>>>,
    link: Arc<OnceLock<Arc<dyn Link>>>,
}

/// A handle whose notes wait until the office is opened.
pub(crate) fn channel_to_office() -> (Handle, Inbox) {
    let (notes, inbox) = channel();
    let handle = Handle {
        notes,
        counts: Arc::default(),
        tokens: Arc::default(),
        config: Arc::default(),
        others: Arc::default(),
        link: Arc::default(),
    };
    (handle, Inbox(inbox))
}

/// Replays what the host remembers and opens the office.
pub(crate) fn open(start: Start<'_>, handle: &Handle, inbox: Inbox) -> Result<JoinHandle<()>, StorageError> {
    let Start {
        data,
        cluster,
        founds,
        storage,
        link,
        clock,
        seed,
        config,
    } = start;
    let mut settings = Settings::new(storage.host(), storage.incarnation(), cluster, seed);
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    settings.chain.down_nanos = nanos(config.remove_after);
    settings.chain.join_nanos = nanos(config.join_after);
    settings.share = config.share();
    let mut recovery = Recovery::new(settings, storage.durable());
    let now = clock.time();
    let journal = open_journal(data, handle, &mut |record| recovery.journal(now, record))?;
    storage.each(&mut |name, head| recovery.stored(&name, files::accepted(&head)))?;
    let founds = founds.filter(|_| !recovery.is_member());
    let reader = Reader::start(storage.clone(), handle.notes.clone())?;
    let mut files = Files { storage, journal };
    let cluster = recovery.finish(now, founds.is_some(), &mut files);
    let cluster = cluster.map_err(|missing| StorageError::Corrupt(missing.to_string()))?;
    handle.link.get_or_init(|| link.clone());
    let (agreed, counts) = (handle.config.clone(), handle.counts.clone());
    let mut office = Office::new(cluster, (files, reader), link, clock, agreed, counts);
    office.give(now, Input::Start { founds });
    let inbox = inbox.0;
    let runtime = tokio::runtime::Handle::current();
    let thread = threads::start("cluster", move || {
        // Drivers that hear of news start tasks.
        let _inside = runtime.enter();
        office.run(&inbox);
    })?;
    Ok(thread)
}

/// Opens the journal and hands each of its records on.
fn open_journal(data: &Path, handle: &Handle, visit: &mut dyn FnMut(Record)) -> Result<Journal, StorageError> {
    let told = handle.notes.clone();
    let mut unreadable = false;
    let journal = Journal::open(
        &data.join(FOLDER),
        &mut |record| {
            match wire::decode::<Record>(record) {
                Some(record) => visit(record),
                None => unreadable = true,
            }
            Ok(())
        },
        move |marks| {
            // The office may have closed.
            let _ = told.send(Note::Tell(Input::Journaled(marks.to_vec())));
        },
        |why| {
            tracing::error!(why, "the host stops");
            threads::end_process();
        },
    )
    .map_err(|error| in_journal(data, error))?;
    if unreadable {
        let what = "the cluster's journal holds records that this release can't read: start it with the newer one that wrote them";
        return Err(StorageError::Corrupt(what.to_owned()));
    }
    Ok(journal)
}

/// A bare error of the system's says at least where that was.
fn in_journal(data: &Path, error: StorageError) -> StorageError {
    let path = data.join(FOLDER).join(journal::NAME);
    match error {
        StorageError::Io(error) if !error.to_string().contains(&*path.to_string_lossy()) => {
            StorageError::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
        other => other,
    }
}

impl Handle {
    /// A frame of a peer.
    pub(super) fn frame(&self, from: HostId, frame: Bytes, held: Held) {
        let counts = &self.counts;
        let is_behind = counts.journal_bytes.load(Ordering::Relaxed) > JOURNAL_BYTES_MOST;
        if counts.frames.fetch_add(1, Ordering::Relaxed) < FRAMES_MOST && !is_behind {
            let _held = held;
            self.note(Note::Frame { from, frame, _held });
        } else {
            counts.frames.fetch_sub(1, Ordering::Relaxed);
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the office's thread is behind with.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Activations of this host, those included that are closed and whose last commits no quorum has accepted yet.
    pub(crate) fn activations(&self) -> usize {
        self.counts.activations.load(Ordering::Acquire)
    }

    /// Membership has changed its mind.
    pub(crate) fn seen(&self, change: Change) {
        {
            let mut others = self.others.lock().expect("no panic under this lock");
            let (host, others) = (change.now.host, Arc::make_mut(&mut others));
            if change.now.standing.is_active() {
                others.insert(host);
            } else {
                others.remove(&host);
            }
        }
        self.tell(Input::Seen(change));
    }

    /// Other hosts that seem to be there.
    pub(crate) fn others(&self) -> Arc<BTreeSet<HostId>> {
        self.others.lock().expect("no panic under this lock").clone()
    }

    /// This host's figures.
    pub(crate) fn beat(&self, beat: Beat) {
        self.tell(Input::Beat(beat));
    }

    /// Makes this host the grain's activation.
    pub(crate) async fn open(&self, name: &GrainName, hear: Arc<dyn Hear>) -> Result<Opened, OpenError> {
        let (reply, answer) = oneshot::channel();
        let name = name.clone();
        self.note(Note::Open { name, hear, reply });
        answer.await.unwrap_or(Err(OpenError::Over))
    }

    /// Has a commit of an activation of this host accepted.
    pub(crate) fn propose(&self, grain: GrainId, proposal: Proposal) {
        self.tell(Input::Propose { grain, proposal });
    }

    /// Whether this host's storage has the grain with this as its last commit, all proposed so far considered.
    pub(crate) async fn has(&self, grain: GrainId, last: CommitHash) -> bool {
        let (reply, answer) = oneshot::channel();
        self.note(Note::Reload { grain, last, reply });
        answer.await.unwrap_or(false)
    }

    /// Waits until a quorum has said that nothing was committed that a reader who has seen `sees` doesn't know; false when the activation that
    /// has served it, under the ballot `by`, is over.
    pub(crate) async fn read(&self, grain: GrainId, by: Ballot, sees: Seq) -> bool {
        let (reply, answer) = oneshot::channel();
        self.note(Note::Read { grain, by, sees, reply });
        answer.await.unwrap_or(false)
    }

    /// Ends an activation of this host, for another host to take over if one is named.
    pub(crate) fn close(&self, grain: GrainId, to: Option<HostId>) {
        self.tell(Input::Close { grain, to });
    }

    /// Where a request goes. One that isn't waited for any longer is taken back.
    pub(crate) async fn route(&self, grain: GrainId, policy: Policy, from: Option<HostId>, travel: Travel) -> Way {
        let token = Token(self.tokens.fetch_add(1, Ordering::Relaxed) + 1);
        let (reply, answer) = oneshot::channel();
        let errand = Errand {
            token,
            grain,
            policy,
            from,
            travel,
        };
        self.note(Note::Route { errand, reply });
        let mut waits = Waits(Some((self, grain, token)));
        let way = answer.await;
        waits.0 = None;
        way.unwrap_or(Way::Closed)
    }

    /// A reply has told which activation has answered.
    pub(crate) fn learned(&self, grain: GrainId, ballot: Ballot) {
        self.tell(Input::Route(routing::Input::Learned { grain, ballot }));
    }

    /// A grain that was active here is now active elsewhere: requests that come here for it go there, and their senders are told.
    pub(crate) fn handed(&self, grain: GrainId, to: Ballot) {
        self.tell(Input::Route(routing::Input::Handed { grain, to }));
    }

    /// Changes a table by agreement of its replicas; asks again while others are faster.
    pub(crate) async fn edit(&self, table: GrainId, edit: Edit) -> Edited {
        let (reply, answer) = oneshot::channel();
        self.note(Note::Edit { table, edit, reply });
        answer.await.unwrap_or(Edited::Again)
    }

    /// Asks another host.
    pub(crate) async fn call(&self, to: HostId, question: Bytes, patience: Duration) -> Result<Bytes, CallError> {
        match self.link.get() {
            Some(link) => link.call(to, question, patience).await,
            None => Err(CallError::NotSent("this host isn't in its cluster yet".to_owned())),
        }
    }

    /// The configuration that is in force here.
    pub(crate) fn config(&self) -> Option<Arc<Config>> {
        self.config.lock().expect("no panic under this lock").clone()
    }

    /// Whether the office takes a note within that time.
    pub(crate) async fn answers(&self, patience: Duration) -> bool {
        let (reply, answer) = oneshot::channel();
        self.note(Note::Ping(reply));
        tokio::time::timeout(patience, answer)
            .await
            .is_ok_and(|answer| answer.is_ok())
    }

    /// What is to be seen, unless the office doesn't answer in time.
    pub(crate) async fn view(&self, patience: Duration) -> Option<View> {
        let (reply, answer) = oneshot::channel();
        self.note(Note::Look(reply));
        tokio::time::timeout(patience, answer).await.ok()?.ok()
    }

    /// Closes the office, when all else has stopped.
    pub(crate) fn stop(&self) {
        self.note(Note::Stop);
    }

    fn tell(&self, input: Input) {
        self.note(Note::Tell(input));
    }

    fn note(&self, note: Note) {
        // A closed office answers nobody, and whoever waits sees that.
        let _ = self.notes.send(note);
    }
}

/// A request that waits for its way.
struct Waits<'a>(Option<(&'a Handle, GrainId, Token)>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some((handle, grain, token)) = self.0 {
            handle.note(Note::Withdraw { grain, token });
        }
    }
}

impl DurableSink for Handle {
    fn durable(&self, _: Lsn) {
        self.note(Note::Durable);
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
