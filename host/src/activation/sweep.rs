//! Moves all grains of a type to its current revision, not only those that somebody calls.
//!
//! A sweep asks grain by grain, through their mailboxes, some at a time; it goes on when whoever started it is gone, and ends
//! early when another revision becomes current. In a cluster each host sweeps its share of them (`shares`), and what it has in memory
//! only; when hosts come or go meanwhile, it goes through its grains again: what has moved is only looked at.
//!
//! **Not here:** how one grain moves, which grains are stuck (`modules`).

mod shares;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainKey, GrainName, GrainType, Revision};
use granary_core::message::Work;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

pub(crate) use self::shares::Division;
use self::shares::Share;
use super::{Catalog, UpgradeStatus};
use crate::modules::Line;
use crate::storage::Storage;
use crate::threads;

/// Grains that move at the same time. More would only wait for processors, and take room from grains that are called.
const PARALLEL: usize = 32;
/// Keys looked at in one go.
const PAGE: usize = 1000;
/// How often a grain is asked again that has no room, or callers enough.
const ATTEMPTS: u32 = 8;
/// How long before that, at first; doubles each time.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a sweep that is through goes on when nobody watches it, to take over from hosts that die: longer than it takes to notice that.
const LINGER: Duration = Duration::from_secs(30);
/// How often it looks whether hosts have come or gone.
const LOOK: Duration = Duration::from_millis(100);

/// The last sweep of each type.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    by_type: Mutex<BTreeMap<GrainType, Started>>,
}

#[derive(Debug)]
struct Started {
    sweep: Arc<Sweep>,
    task: JoinHandle<()>,
}

/// How far one sweep is.
#[derive(Debug)]
struct Sweep {
    target: Revision,
    total: AtomicU64,
    moved: AtomicU64,
    failed: AtomicU64,
    /// By which division it's through with its share; `None` while it's at that.
    swept: Mutex<Option<Division>>,
    /// When somebody last asked how far it is.
    watched: Mutex<Instant>,
    /// Whether it won't begin again.
    is_over: AtomicBool,
}

impl Catalog {
    /// Starts a sweep of a type's grains, unless one to the same revision is going on.
    pub(crate) fn sweep(self: &Arc<Self>, line: &Arc<Line>) -> UpgradeStatus {
        {
            let mut sweeps = self.sweeps.by_type.lock().expect("no panic under this lock");
            let target = line.revision();
            let division = self.division();
            let goes_on = |sweep: &Sweep| sweep.target == target && sweep.is_at_work(&division);
            if !sweeps.get(line.kind()).is_some_and(|started| goes_on(&started.sweep)) {
                let sweep = Arc::new(Sweep::new(target));
                let task = tokio::spawn(threads::task(
                    "upgrades",
                    run(self.clone(), line.clone(), sweep.clone()),
                ));
                if let Some(earlier) = sweeps.insert(line.kind().clone(), Started { sweep, task }) {
                    earlier.task.abort();
                }
            }
        }
        self.sweep_status(line)
    }

    /// How far a type's last sweep is.
    pub(crate) fn sweep_status(&self, line: &Line) -> UpgradeStatus {
        let sweeps = self.sweeps.by_type.lock().expect("no panic under this lock");
        let revision = line.revision();
        let sweep = sweeps.get(line.kind()).map(|started| &started.sweep);
        let sweep = sweep.filter(|sweep| sweep.target == revision);
        let count = |of: fn(&Sweep) -> &AtomicU64| sweep.map_or(0, |sweep| of(sweep).load(Ordering::Acquire));
        // In this order: what is counted as done was counted in the total before.
        let (moved, failed) = (count(|sweep| &sweep.moved), count(|sweep| &sweep.failed));
        let total = count(|sweep| &sweep.total).max(moved + failed);
        UpgradeStatus {
            kind: line.kind().clone(),
            revision,
            total,
            moved,
            failed,
            left: total - moved - failed,
            running: sweep.is_some_and(|sweep| sweep.is_at_work(&self.division())),
            stuck: line.stuck().count(),
            failures: line.stuck().listed(),
        }
    }

    /// A type's last sweep goes on a while, for somebody waits until all grains have moved.
    pub(crate) fn watch_sweep(&self, kind: &GrainType) {
        let sweeps = self.sweeps.by_type.lock().expect("no panic under this lock");
        if let Some(started) = sweeps.get(kind) {
            started.sweep.watch();
        }
    }

    /// How this host would divide the grains among the hosts now.
    pub(crate) fn division(&self) -> Division {
        self.share().division().clone()
    }

    fn share(&self) -> Share {
        Share::of(self.parts.storage.host(), self.parts.cluster())
    }

    /// Ends all sweeps; what they have not come to moves with its next call.
    pub(crate) async fn stop_sweeps(&self) {
        let started = std::mem::take(&mut *self.sweeps.by_type.lock().expect("no panic under this lock"));
        for Started { task, .. } in started.into_values() {
            task.abort();
            // Whether it ended or was ended is the same now.
            let _ = task.await;
        }
    }
}

impl Sweep {
    fn new(target: Revision) -> Sweep {
        Sweep {
            target,
            total: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            swept: Mutex::new(None),
            watched: Mutex::new(Instant::now()),
            is_over: AtomicBool::new(false),
        }
    }

    /// Whether there are grains that it has yet to come to.
    fn is_at_work(&self, division: &Division) -> bool {
        let is_through = || self.swept.lock().expect("no panic under this lock").as_ref() == Some(division);
        !self.is_over.load(Ordering::Acquire) && !is_through()
    }

    fn watch(&self) {
        *self.watched.lock().expect("no panic under this lock") = Instant::now();
    }

    fn is_watched(&self) -> bool {
        self.watched.lock().expect("no panic under this lock").elapsed() < LINGER
    }

    /// Counts from the start.
    fn begin(&self) {
        *self.swept.lock().expect("no panic under this lock") = None;
        for count in [&self.moved, &self.failed, &self.total] {
            count.store(0, Ordering::Release);
        }
    }

    /// Has come to all grains of its share.
    fn finish(&self, share: &Share) {
        *self.swept.lock().expect("no panic under this lock") = Some(share.division().clone());
        self.watch();
    }
}

async fn run(catalog: Arc<Catalog>, line: Arc<Line>, sweep: Arc<Sweep>) {
    let mut next = Some(catalog.share());
    while let Some(share) = next.take().filter(|_| line.revision() == sweep.target) {
        sweep.begin();
        if let Err(error) = go_through(&catalog, &line, &sweep, &share).await {
            tracing::error!(kind = %line.kind(), %error, "a sweep ends early: keys can't be listed");
            break;
        }
        let (moved, failed) = (
            sweep.moved.load(Ordering::Acquire),
            sweep.failed.load(Ordering::Acquire),
        );
        tracing::info!(kind = %line.kind(), revision = sweep.target.0, moved, failed, "swept");
        sweep.finish(&share);
        next = another(&catalog, &sweep, &share).await;
    }
    sweep.is_over.store(true, Ordering::Release);
}

/// Another share, if hosts come or go soon.
async fn another(catalog: &Catalog, sweep: &Sweep, swept: &Share) -> Option<Share> {
    catalog.parts.cluster()?;
    while sweep.is_watched() {
        let share = catalog.share();
        if share.division() != swept.division() {
            return Some(share);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

async fn go_through(
    catalog: &Arc<Catalog>,
    line: &Arc<Line>,
    sweep: &Arc<Sweep>,
    share: &Share,
) -> Result<(), CallFailure> {
    // First all are counted, so that whoever watches sees how many there are.
    let mut after = None;
    while let Some(page) = page(catalog, line, share, &mut after).await? {
        sweep.total.fetch_add(page.len() as u64, Ordering::AcqRel);
    }
    let mut moving = JoinSet::new();
    let mut after = None;
    while let Some(page) = page(catalog, line, share, &mut after).await? {
        for grain in page {
            if line.revision() != sweep.target {
                return Ok(());
            }
            if moving.len() >= PARALLEL {
                moving.join_next().await;
            }
            moving.spawn(one(catalog.clone(), line.clone(), sweep.clone(), grain));
        }
    }
    // What is in memory only isn't among the keys.
    for shard in 0..catalog.steps() {
        for driver in catalog.some(shard) {
            let status = driver.status();
            let is_ours = driver.name().kind == *line.kind();
            if is_ours && status.exists && status.seq.0 == 0 && status.revision != sweep.target {
                if moving.len() >= PARALLEL {
                    moving.join_next().await;
                }
                sweep.total.fetch_add(1, Ordering::AcqRel);
                moving.spawn(one(catalog.clone(), line.clone(), sweep.clone(), driver.name().clone()));
            }
        }
    }
    while moving.join_next().await.is_some() {}
    Ok(())
}

/// The share's grains among the next keys behind `after`, which moves on.
async fn page(
    catalog: &Arc<Catalog>,
    line: &Line,
    share: &Share,
    after: &mut Option<Option<GrainKey>>,
) -> Result<Option<Vec<GrainName>>, CallFailure> {
    let from = match after {
        None => None,
        Some(None) => return Ok(None),
        Some(Some(key)) => Some(key.clone()),
    };
    let kind = line.kind().clone();
    let list = move |storage: &dyn Storage| storage.list(&kind, "", from.as_ref(), PAGE);
    let listing = catalog.parts.read(list).await;
    let listing = listing.map_err(|error| CallFailure::before(Code::Internal, error.to_string()))?;
    *after = Some(listing.keys.last().filter(|_| listing.more).cloned());
    let grains = listing
        .keys
        .into_iter()
        .map(|key| GrainName::new(line.kind().clone(), key));
    Ok(Some(grains.filter(|grain| share.has(grain)).collect()))
}

/// Moves one grain, and counts it.
async fn one(catalog: Arc<Catalog>, line: Arc<Line>, sweep: Arc<Sweep>, grain: GrainName) {
    let mut pause = PAUSE;
    for attempt in 1.. {
        match ask(&catalog, &line, &grain).await {
            Ok(()) => {
                sweep.moved.fetch_add(1, Ordering::AcqRel);
                return;
            }
            Err(failure) => {
                if line.revision() != sweep.target {
                    return;
                }
                if !failure.code.is_retryable() || attempt == ATTEMPTS {
                    tracing::debug!(%grain, %failure, "a sweep could not move a grain");
                    sweep.failed.fetch_add(1, Ordering::AcqRel);
                    return;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn ask(catalog: &Arc<Catalog>, line: &Arc<Line>, grain: &GrainName) -> Result<(), CallFailure> {
    let parts = &catalog.parts;
    if catalog.find(grain.id()).is_none() {
        let name = grain.clone();
        let head = parts.read(move |storage| storage.head(&name)).await;
        let is_current = |module| module == line.current().module;
        // What can't be read fails when it's loaded, and says so then.
        if let Ok(Some(head)) = &head
            && (!head.exists() || is_current(head.head.module))
        {
            return Ok(());
        }
    }
    catalog.ask(line, grain, Work::Move, parts.move_timeout * 2).await
}
