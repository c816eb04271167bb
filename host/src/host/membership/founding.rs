//! How a host gets into its cluster.
//!
//! One that joins a cluster, or was ever in one with others, takes part from its start. One that could be joined and never was runs
//! like a host alone, since agreeing with nobody isn't free: each commit would pass the office, each activation's ballot be written down. Such a
//! host founds its cluster when the first other one asks to join:
//!
//! 1. no deploy begins, and no request is handed to a grain: they wait;
//! 2. turns that run come to their end, and all grains leave memory: what they have is in the log, and durable;
//! 3. the cluster's machine begins with what is in storage, as it does at a start, and the first configuration is agreed on by its one voter;
//! 4. requests go on, by the cluster's rules.
//!
//! When turns don't end in time, all is as before and the other host is told to try again. There's no way back: a host that has
//! founded its cluster takes part from its next start on.
//!
//! **Not here:** what the cluster decides (core), how others reach this host (`cluster`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Membership;
use crate::cluster::StationError;
use crate::host::revisions::{Follower, Revisions};
use crate::threads;

/// How long calls may be held up. A host that joins waits for ten seconds altogether.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at what is still in memory.
const PAUSE: Duration = Duration::from_millis(2);

impl Membership {
    /// Hears other hosts from now on, and takes part unless nobody has ever joined. No request has been handed to a grain yet.
    pub(in crate::host) async fn begin(self: &Arc<Self>) -> Result<(), StationError> {
        let takes_part = !self.station.is_unknown();
        if takes_part {
            self.take_part().await?;
        }
        self.station.serve(self.clone());
        if takes_part {
            self.station.ready().await;
        }
        Ok(())
    }

    /// Takes part from now on, if it doesn't yet. An error says why not: nothing has changed then.
    pub(super) async fn found(&self) -> Result<(), String> {
        let parts = &self.catalog.parts;
        let limit = Instant::now() + PATIENCE;
        let deploys = tokio::time::timeout_at(limit, parts.modules.without_deploys()).await;
        let _no_deploys = deploys.map_err(|_| "a deploy is going on".to_owned())?;
        let closed = tokio::time::timeout_at(limit, parts.alone.write()).await;
        let _closed = closed.map_err(|_| "requests go on without a pause".to_owned())?;
        if parts.cluster().is_some() {
            return Ok(());
        }
        self.catalog.stop_sweeps().await;
        while self.catalog.evict_all() > 0 {
            if Instant::now() >= limit {
                return Err("calls that began before take long".to_owned());
            }
            tokio::time::sleep(PAUSE).await;
        }
        let storage = parts.storage.clone();
        let settle = tokio::task::spawn_blocking(move || storage.settle());
        if !settle.await.is_ok_and(|is_durable| is_durable) {
            return Err("its disk failed".to_owned());
        }
        tracing::info!("another host is about to join: this one founds its cluster");
        if let Err(error) = self.take_part().await {
            // It may have written something: what follows has to come from a fresh start.
            tracing::error!(%error, "this host can't take part in its cluster; it stops");
            threads::end_process();
        }
        self.station.ready().await;
        Ok(())
    }

    async fn take_part(&self) -> Result<(), StationError> {
        let parts = &self.catalog.parts;
        self.station.take_part()?;
        parts.cluster.get_or_init(|| self.handle.clone());
        let revisions = Revisions::new(self.handle.clone(), self.station.me());
        parts.modules.agree_by(revisions.clone());
        let follower = self
            .follower
            .get_or_init(|| Follower::new(revisions, parts.modules.clone()));
        let following = threads::task("revisions", follower.clone().run());
        self.tasks.lock().await.spawn(following);
        Ok(())
    }
}
