//! Grains that an operator moves: one to a named host, or all of a host that is to go.
//!
//! A host that drains takes no new grains, gives those that it has to hosts with copies of them, then asks the others to go on without it and
//! waits until its slots have found other hosts. It answers calls by passing them on until it's stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use granary_core::api::{CallFailure, Code};
use granary_core::config_chain::config::Config;
use granary_core::id::{GrainName, HostId};
use granary_core::slot::Slot;
use tokio::task::JoinSet;

use super::Router;
use super::far;
use crate::activation::Catalog;
use crate::cluster::{ClusterView, Handle, Station};

/// Grains that are on their way at a time.
const PARALLEL: usize = 16;
/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(100);

impl Router {
    /// The cluster as this host sees it; nothing for a host that is alone, or whose office doesn't answer.
    pub async fn cluster(&self) -> Option<ClusterView> {
        self.station.as_ref()?.view().await
    }

    /// Lets one more host join within that time: a word to start it with.
    pub async fn token(&self, holds: Duration) -> Result<String, CallFailure> {
        let token = self.station()?.token(holds).await;
        token.map_err(|why| CallFailure::before(Code::Quota, why))
    }

    /// Has the cluster go over to a new authority. How many hosts have.
    pub async fn rotate(&self) -> Result<usize, CallFailure> {
        let rotated = self.station()?.rotate().await;
        rotated.map_err(|why| CallFailure::before(Code::NoQuorum, why))
    }

    /// Begins to move everything off this host; goes on in the background, and doesn't begin twice.
    pub fn drain(&self) -> Result<(), CallFailure> {
        let station = self.station()?.clone();
        if station.config().is_none_or(|config| config.members.len() < 2) {
            let detail = "this is the cluster's only host: there is none to move its grains to";
            return Err(CallFailure::before(Code::NoQuorum, detail));
        }
        let catalog = self.catalog.clone();
        let Some(cluster) = catalog.parts.cluster().cloned() else {
            return Err(alone());
        };
        if !catalog.parts.draining.swap(true, Ordering::AcqRel) {
            tracing::info!("draining");
            station.spawn("drain", drain(catalog, cluster, station.clone()));
        }
        Ok(())
    }

    /// Moves a grain to a host, wherever it is. Returns for how many microseconds it was on none; 0 when it was there already.
    pub async fn relocate(&self, grain: &GrainName, to: HostId) -> Result<u64, CallFailure> {
        let station = self.station()?;
        if station.config().is_none_or(|config| config.member(to).is_none()) {
            let detail = format!("the cluster has no host {to}; `granary status` lists its hosts");
            return Err(CallFailure::before(Code::BadArguments, detail));
        }
        let Some(cluster) = self.catalog.parts.cluster() else {
            return Err(alone());
        };
        match self.holder(cluster, grain).await {
            // Also when it's said to be there already: that may be an old story, and who is asked knows better.
            Some(host) => far::relocate(cluster, host, grain, to).await,
            None => self.relocate_from_here(cluster, grain, to).await,
        }
    }

    pub(super) async fn relocate_from_here(
        &self,
        cluster: &Handle,
        grain: &GrainName,
        to: HostId,
    ) -> Result<u64, CallFailure> {
        match self.catalog.find(grain.id()) {
            Some(_) if to == self.catalog.parts.storage.host() => Ok(0),
            Some(driver) => {
                let pause = self.catalog.send_off(cluster, &driver, to).await?;
                Ok(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX))
            }
            None => {
                let detail = format!("`{grain}` is in no host's memory: it has no place until it's called");
                Err(CallFailure::before(Code::NotFound, detail))
            }
        }
    }

    fn station(&self) -> Result<&Arc<Station>, CallFailure> {
        self.station.as_ref().ok_or_else(alone)
    }
}

fn alone() -> CallFailure {
    let detail = "this host is alone: start it without --alone (with --cluster-advertise, if it listens on all addresses), and others can join";
    CallFailure::before(Code::BadArguments, detail)
}

async fn drain(catalog: Arc<Catalog>, cluster: Handle, station: Arc<Station>) {
    station.beat();
    while catalog.len() > 0 {
        let draining = station.draining().await;
        let mut leaving = JoinSet::new();
        for shard in 0..catalog.steps() {
            for driver in catalog.some(shard) {
                let Some(to) = station.heir(Slot::of(driver.id()), &draining) else {
                    continue;
                };
                if leaving.len() >= PARALLEL {
                    leaving.join_next().await;
                }
                let (catalog, cluster) = (catalog.clone(), cluster.clone());
                leaving.spawn(async move { catalog.send_off_or_say(&cluster, &driver, to).await });
            }
        }
        leaving.join_all().await;
        tokio::time::sleep(PAUSE).await;
    }
    tracing::info!("all grains have moved: the others go on without this host");
    station.leave();
    let is_out = |config: Arc<Config>| config.member(station.me()).is_none() && config.is_settled();
    while !station.config().is_some_and(is_out) {
        tokio::time::sleep(PAUSE).await;
    }
    tracing::info!("drained: this host can be stopped");
}
