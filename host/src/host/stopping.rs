//! Stops a host: looks at what there is, asks the machine (`granary_core::stopping`) and does what it says.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use granary_core::id::{GrainId, HostId};
use granary_core::slot::Slot;
use granary_core::stopping::{self, Company, Output, Report, Sight, Stopping};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::activation::{Catalog, Driver};
use crate::cluster::Station;

/// How long a stopping host takes, at most. Stops a runaway guest from holding up a restart; what such a turn has not committed was never
/// acknowledged. Below the half minute after which supervisors kill.
const LIMIT: Duration = Duration::from_secs(20);
/// The same where all others are gone without whom nothing can be agreed on.
const MISSING_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Grains that go to other hosts at a time: a few long turns mustn't hold up the rest.
const PARALLEL: usize = 128;
/// How long it's believed which hosts are on their way out, too.
const DRAINING_HOLDS: Duration = Duration::from_secs(1);

/// A host on its way out.
pub(super) struct Leaver {
    catalog: Arc<Catalog>,
    station: Option<Arc<Station>>,
    machine: Stopping,
    leaving: JoinSet<GrainId>,
    /// Those that are on their way.
    under_way: HashSet<GrainId>,
    draining: BTreeSet<HostId>,
    draining_at: Option<Instant>,
}

impl Leaver {
    /// From now on no grain is placed here.
    pub(super) fn new(catalog: &Arc<Catalog>, station: Option<&Arc<Station>>) -> Leaver {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(station) = station {
            catalog.parts.draining.store(true, Ordering::Release);
            station.beat();
        }
        Leaver {
            catalog: catalog.clone(),
            station: station.cloned(),
            machine: Stopping::new(catalog.parts.clock.time(), nanos(LIMIT), nanos(MISSING_LIMIT)),
            leaving: JoinSet::new(),
            under_way: HashSet::new(),
            draining: BTreeSet::new(),
            draining_at: None,
        }
    }

    /// Goes, while the `requests` of this host's own callers end. How it went, and what they came to if they have ended.
    pub(super) async fn leave<T>(mut self, requests: impl Future<Output = T>) -> (Report, Option<T>) {
        let mut requests = std::pin::pin!(requests);
        let mut served = None;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                all = &mut requests, if served.is_none() => served = Some(all),
                _ = looks.tick() => {}
            }
            let mut out = Vec::new();
            let sight = self.look(usize::from(served.is_none()));
            self.machine.handle(self.catalog.parts.clock.time(), sight, &mut out);
            for output in out {
                match output {
                    Output::LetGo => drop(self.catalog.evict_all()),
                    Output::HandOver => self.hand_over().await,
                    Output::Part => self.station.iter().for_each(|station| station.part()),
                    Output::Refuse => self.station.iter().for_each(|station| station.refuse()),
                    Output::End(report) => {
                        self.leaving.shutdown().await;
                        return (report, served);
                    }
                }
            }
        }
    }

    fn look(&self, requests: usize) -> Sight {
        let station = self.station.as_ref();
        Sight {
            requests,
            // Once the others know that this host goes they take its grains over, whatever is still under way to them.
            grains: self
                .catalog
                .len()
                .max(station.map_or(0, |station| station.activations())),
            questions: station.map_or(0, |station| station.questions()),
            company: station.map_or(Company::Alone, |station| station.company()),
            has_parted: station.is_none_or(|station| station.has_parted()),
        }
    }

    /// Begins with as many grains as may be on their way at a time.
    async fn hand_over(&mut self) {
        let Some(station) = self.station.clone() else { return };
        while let Some(left) = self.leaving.try_join_next() {
            if let Ok(grain) = left {
                self.under_way.remove(&grain);
            }
        }
        if self.draining_at.is_none_or(|at| at.elapsed() > DRAINING_HOLDS) {
            (self.draining, self.draining_at) = (station.draining().await, Some(Instant::now()));
        }
        for shard in 0..self.catalog.steps() {
            for driver in self.catalog.some(shard) {
                if self.leaving.len() >= PARALLEL {
                    return;
                }
                self.send(&station, driver);
            }
            // Thousands may be let go in one go, and requests run on these threads.
            tokio::task::yield_now().await;
        }
    }

    fn send(&mut self, station: &Station, driver: Arc<Driver>) {
        if self.under_way.contains(&driver.id()) || self.catalog.is_leaving(driver.id()) {
            return;
        }
        let idle = driver.idle_ms().map(|ms| ms.saturating_mul(1_000_000));
        let heir = station.heir(Slot::of(driver.id()), &self.draining);
        match (heir, self.catalog.parts.cluster()) {
            (Some(to), Some(cluster)) if stopping::is_wanted(idle) => {
                let (catalog, cluster) = (self.catalog.clone(), cluster.clone());
                self.under_way.insert(driver.id());
                self.leaving.spawn(async move {
                    catalog.send_off_or_say(&cluster, &driver, to).await;
                    driver.id()
                });
            }
            _ => driver.evict(),
        }
    }
}
