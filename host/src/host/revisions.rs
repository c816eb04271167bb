//! How the hosts of a cluster come to have the same revisions: one changes the agreed table and tells the others, each asks another one every
//! second whether it has missed something, and modules are pulled by their hashes.
//!
//! **Not here:** what is in the table and how a module gets ready (`modules`), how a table is agreed on (`cluster`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use granary_core::api::{CallFailure, Code, Committed};
use granary_core::id::{GrainId, HostId, ModuleHash};
use granary_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::cluster::{Edited, Handle, Topic, decode, encode, question};
use crate::modules::{Agree, Agreed, Agreeing, Change, Modules, Table};

/// How long an agreement may take.
const AGREE_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to learn what is agreed on.
const READ_PATIENCE: Duration = Duration::from_secs(3);
/// Between tries when others edit, too: by chance between nothing and this, which doubles each time. Hosts that paused alike would take the
/// table from each other for as long as they try.
const PAUSE: Duration = Duration::from_millis(40);
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// How long another host may take to make a new revision ready before a deploy returns without it: it catches up.
const PUSH_PATIENCE: Duration = Duration::from_secs(10);
/// How long a host may take to send a module.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);
/// How often another host is asked for what was missed.
const CATCH_UP: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
enum Ask {
    /// The table, if it's newer than this version.
    Since(u64),
    /// Take this version.
    Take(u64, Vec<u8>),
    /// A module's bytes.
    Module([u8; 32]),
}

#[derive(Serialize, Deserialize)]
enum Told {
    Table(Option<(u64, Vec<u8>)>),
    /// Whether it's ready.
    Taken(bool),
    Module(Option<Vec<u8>>),
}

/// The agreed table, as far as this host has heard.
pub(super) struct Revisions {
    cluster: Handle,
    me: HostId,
    newest: Mutex<(u64, Vec<u8>)>,
    /// Of the pauses between tries: another one on each host.
    seed: AtomicU64,
}

/// Keeps this host's modules as the table says.
pub(super) struct Follower {
    revisions: Arc<Revisions>,
    modules: Modules,
}

impl Revisions {
    pub(super) fn new(cluster: Handle, me: HostId) -> Arc<Revisions> {
        Arc::new(Revisions {
            cluster,
            me,
            newest: Mutex::default(),
            seed: AtomicU64::new(me.0[..8].try_into().map(u64::from_le_bytes).unwrap_or_default()),
        })
    }

    /// Whether it's news.
    fn hear(&self, version: u64, table: Vec<u8>) -> bool {
        let mut newest = self.newest.lock().expect("no panic under this lock");
        let is_news = newest.0 < version;
        if is_news {
            *newest = (version, table);
        }
        is_news
    }

    fn newest(&self) -> (u64, Vec<u8>) {
        self.newest.lock().expect("no panic under this lock").clone()
    }

    fn others(&self) -> Vec<HostId> {
        let config = self.cluster.config();
        let members = config.iter().flat_map(|config| &config.members);
        members
            .map(|member| member.host)
            .filter(|host| *host != self.me)
            .collect()
    }

    async fn ask(&self, to: HostId, ask: &Ask, patience: Duration) -> Option<Told> {
        let answer = self.cluster.call(to, question(Topic::Revisions, ask), patience).await;
        decode(&answer.ok()?)
    }

    /// Changes the table, until it's known whether that's done.
    async fn agree(&self, change: Change) -> (u64, Vec<u8>) {
        let mut pause = PAUSE;
        let mut rng = Rng::new(self.seed.fetch_add(1, Ordering::Relaxed));
        loop {
            let change = change.clone();
            let edit = move |bytes: Option<&[u8]>| {
                let present = bytes.and_then(decode::<Table>).unwrap_or_default();
                change(&present).map(|next| encode(&next).to_vec())
            };
            match self.cluster.edit(table_id(), Box::new(edit)).await {
                Edited::Done(version, bytes) => return (version, bytes.unwrap_or_default()),
                Edited::Again => tokio::time::sleep(Duration::from_nanos(rng.below(pause.as_nanos() as u64))).await,
            }
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    /// What is agreed on then, unless too few hosts answer in time.
    async fn edit_within(&self, patience: Duration, change: Change) -> Option<(u64, Vec<u8>)> {
        let agreed = tokio::time::timeout(patience, self.agree(change)).await;
        agreed.inspect_err(|_| self.cluster.close(table_id(), None)).ok()
    }

    /// Hosts that don't answer catch up later.
    async fn tell_all(&self, version: u64, table: &[u8]) {
        let mut telling = tokio::task::JoinSet::new();
        for host in self.others() {
            let asked = question(Topic::Revisions, &Ask::Take(version, table.to_vec()));
            let cluster = self.cluster.clone();
            telling.spawn(async move { cluster.call(host, asked, PUSH_PATIENCE).await });
        }
        telling.join_all().await;
    }
}

impl Agree for Revisions {
    fn edit(&self, change: Change) -> Agreeing<'_, Result<Agreed, CallFailure>> {
        Box::pin(async move {
            let edited = self.edit_within(AGREE_PATIENCE, change).await;
            let (version, bytes) = edited.ok_or_else(|| CallFailure {
                committed: Committed::Unknown,
                ..CallFailure::before(
                    Code::NoQuorum,
                    "too few hosts have answered to agree on the types' revisions; whether it's done shows in `granary ls`",
                )
            })?;
            if self.hear(version, bytes.clone()) {
                self.tell_all(version, &bytes).await;
            }
            Ok(agreed(version, &bytes))
        })
    }

    fn read(&self) -> Agreeing<'_, Result<Agreed, CallFailure>> {
        Box::pin(async move {
            // The others find out for themselves: whoever reads may be asked by them at this moment.
            let read = self.edit_within(READ_PATIENCE, Arc::new(|_| None)).await;
            let (version, bytes) = read.ok_or_else(|| {
                CallFailure::before(
                    Code::NoQuorum,
                    "too few hosts have answered to say whether this type is deployed",
                )
            })?;
            self.hear(version, bytes.clone());
            Ok(agreed(version, &bytes))
        })
    }

    fn fetch(&self, module: ModuleHash) -> Agreeing<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            for host in self.others() {
                let told = self.ask(host, &Ask::Module(module.0), FETCH_PATIENCE).await;
                if let Some(Told::Module(Some(bytes))) = told {
                    return Some(bytes);
                }
            }
            None
        })
    }
}

impl Follower {
    pub(super) fn new(revisions: Arc<Revisions>, modules: Modules) -> Arc<Follower> {
        Arc::new(Follower { revisions, modules })
    }

    /// Answers another host.
    pub(super) async fn answer(&self, asked: &[u8]) -> Option<Bytes> {
        let told = match decode::<Ask>(asked)? {
            Ask::Since(version) => Told::Table(Some(self.revisions.newest()).filter(|newest| newest.0 > version)),
            Ask::Take(version, table) => {
                self.revisions.hear(version, table);
                Told::Taken(self.follow().await)
            }
            Ask::Module(module) => Told::Module(self.modules.bytes(&ModuleHash(module)).await),
        };
        Some(encode(&told))
    }

    /// Brings what this host had before into the table, then keeps up with the others until the task is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        while !self.begin().await {
            tracing::warn!("too few hosts answer to agree on the types' revisions: asking again");
            tokio::time::sleep(CATCH_UP).await;
        }
        let mut turn = 0;
        loop {
            let others = self.revisions.others();
            if !others.is_empty() {
                turn += 1;
                let version = self.revisions.newest().0;
                let (other, ask) = (others[turn % others.len()], Ask::Since(version));
                let told = self.revisions.ask(other, &ask, FETCH_PATIENCE).await;
                if let Some(Told::Table(Some((version, table)))) = told {
                    self.revisions.hear(version, table);
                }
            }
            self.follow().await;
            tokio::time::sleep(CATCH_UP).await;
        }
    }

    async fn begin(&self) -> bool {
        let mine = match self.modules.table() {
            Ok(mine) => mine,
            Err(error) => {
                tracing::error!(%error, "this host's revisions can't be read");
                return true;
            }
        };
        let change = move |table: &Table| (table.is_empty() && !mine.is_empty()).then(|| mine.clone());
        self.revisions.edit(Arc::new(change)).await.is_ok()
    }

    /// Makes this host have the newest table that it has heard of. Whether it does.
    async fn follow(&self) -> bool {
        let (version, bytes) = self.revisions.newest();
        if version == 0 {
            return true;
        }
        let Some(table) = decode::<Table>(&bytes) else {
            tracing::error!(version, "the table of revisions can't be read: another release?");
            return false;
        };
        match self.modules.adopt(&Agreed { version, table }).await {
            Ok(()) => true,
            Err(failure) => {
                tracing::warn!(version, why = failure.detail, "a revision isn't ready here yet");
                false
            }
        }
    }
}

fn agreed(version: u64, bytes: &[u8]) -> Agreed {
    let table = decode(bytes).unwrap_or_default();
    Agreed { version, table }
}

/// The table is kept like a grain that nobody can call.
fn table_id() -> GrainId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(b"granary: the types' revisions").as_bytes()[..16]);
    GrainId(id)
}
