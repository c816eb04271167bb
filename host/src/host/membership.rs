//! A host's part in a cluster, built around its other parts.
//!
//! **Not here:** what the cluster does (`cluster`), what grains do in one (`activation`).

use std::sync::Arc;

use bytes::Bytes;
use granary_core::id::{HostId, Lsn};
use tokio::task::JoinSet;

use super::figures::CLUSTER_FIGURES;
use super::load::Load;
use super::revisions::{Follower, Revisions};
use crate::activation::{Catalog, Parts, Release};
use crate::cluster::{
    Answerer, Answering, ClusterConfig, Handle, Inbox, Station, StationError, StationSettings, Topic, topic_of,
};
use crate::config::HostConfig;
use crate::router::Router;
use crate::storage::DurableSink;

/// Both who wait for the log: replies of a host alone, and the cluster's office.
pub(super) struct Sinks {
    pub(super) release: Arc<Release>,
    pub(super) cluster: Handle,
}

impl DurableSink for Sinks {
    fn durable(&self, upto: Lsn) {
        DurableSink::durable(&*self.release, upto);
        self.cluster.durable(upto);
    }
}

/// Starts this host's part.
pub(super) async fn start(
    config: &HostConfig,
    cluster: &ClusterConfig,
    parts: &Arc<Parts>,
    (handle, inbox): (Handle, Inbox),
) -> Result<Arc<Station>, StationError> {
    let load = Load::new(parts.clone());
    let settings = StationSettings {
        data: config.data.clone(),
        config: cluster.clone(),
        storage: parts.storage.clone(),
        clock: parts.clock,
        beat: Box::new(move || load.beat()),
    };
    Ok(Arc::new(Station::start(settings, handle, inbox).await?))
}

/// Hears the other hosts, and keeps up with what they deploy.
pub(super) fn serve(station: &Arc<Station>, handle: &Handle, catalog: &Arc<Catalog>, tasks: &mut JoinSet<()>) {
    let watched = station.clone();
    let metrics = &catalog.parts.metrics;
    metrics.watch(&CLUSTER_FIGURES, move || watched.counts());
    let modules = catalog.parts.modules.clone();
    let revisions = Revisions::new(handle.clone(), station.me());
    modules.agree_by(revisions.clone());
    let follower = Follower::new(revisions, modules);
    station.serve(Arc::new(Answers {
        catalog: catalog.clone(),
        router: Router::new(catalog.clone(), Some(station.clone())),
        cluster: handle.clone(),
        follower: follower.clone(),
    }));
    tasks.spawn(follower.run());
}

/// What other hosts ask, by topic.
struct Answers {
    catalog: Arc<Catalog>,
    router: Router,
    cluster: Handle,
    follower: Arc<Follower>,
}

impl Answerer for Answers {
    fn answer(&self, from: HostId, question: Bytes) -> Answering {
        let Some((topic, asked)) = topic_of(&question) else {
            return Box::pin(std::future::ready(None));
        };
        match topic {
            Topic::Grains => {
                let (catalog, cluster) = (self.catalog.clone(), self.cluster.clone());
                Box::pin(async move { catalog.answer(&cluster, from, asked).await })
            }
            Topic::Revisions => {
                let follower = self.follower.clone();
                Box::pin(async move { follower.answer(&asked).await })
            }
            Topic::Views => {
                let router = self.router.clone();
                Box::pin(async move { router.answer(&asked).await })
            }
        }
    }
}
