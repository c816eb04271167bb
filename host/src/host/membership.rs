//! A host's part in a cluster, built around its other parts: when it begins (`founding`), and what other hosts ask.
//!
//! **Not here:** what the cluster does (`cluster`), what grains do in one (`activation`).

mod founding;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use granary_core::id::{HostId, Lsn};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::figures::CLUSTER_FIGURES;
use super::load::Load;
use super::revisions::Follower;
use crate::activation::{Catalog, Parts, Release};
use crate::audit::{Audit, Entry};
use crate::cluster::{
    Answered, Answerer, Answering, ClusterConfig, Handle, Inbox, Joining, Station, StationError, StationSettings,
    Topic, topic_of,
};
use crate::config::HostConfig;
use crate::router::Router;
use crate::storage::DurableSink;

/// Who waits for the log: replies of a host alone, and the cluster's office, once there is one.
pub(super) struct Sinks {
    pub(super) release: Arc<Release>,
    pub(super) cluster: Arc<OnceLock<Handle>>,
}

impl DurableSink for Sinks {
    fn durable(&self, upto: Lsn) {
        DurableSink::durable(&*self.release, upto);
        if let Some(cluster) = self.cluster.get() {
            cluster.durable(upto);
        }
    }

    fn in_flight(&self) -> usize {
        // In a cluster a host's log has other hosts' commits, too: how many are on their way isn't known here.
        let is_alone = self.cluster.get().is_none();
        if is_alone {
            DurableSink::in_flight(&*self.release)
        } else {
            0
        }
    }
}

/// Bytes of other hosts' messages of each kind that any host may hold: enough for several calls with long arguments.
const MESSAGES_LEAST: u64 = 16 << 20;

/// Takes the network's address and gets hold of the cluster's authority.
pub(super) async fn open(
    config: &HostConfig,
    cluster: &ClusterConfig,
    parts: &Arc<Parts>,
    (handle, inbox): (Handle, Inbox),
) -> Result<Station, StationError> {
    let load = Load::new(parts.clone());
    let settings = StationSettings {
        data: config.data.clone(),
        config: cluster.clone(),
        storage: parts.storage.clone(),
        clock: parts.clock,
        memory: (parts.budget.view().limit / 16).max(MESSAGES_LEAST),
        beat: Box::new(move || load.beat()),
    };
    Station::open(settings, handle, inbox).await
}

/// See the file's text.
pub(super) struct Membership {
    catalog: Arc<Catalog>,
    station: Arc<Station>,
    audit: Arc<Audit>,
    handle: Handle,
    router: Router,
    /// Keeps up with what other hosts deploy, once this host takes part.
    follower: OnceLock<Arc<Follower>>,
    tasks: Mutex<JoinSet<()>>,
    this: Weak<Membership>,
}

impl Membership {
    /// Hears nobody yet.
    pub(super) fn new(
        catalog: &Arc<Catalog>,
        station: &Arc<Station>,
        handle: Handle,
        audit: &Arc<Audit>,
    ) -> Arc<Membership> {
        let watched = station.clone();
        let metrics = &catalog.parts.metrics;
        metrics.watch(&CLUSTER_FIGURES, move || watched.counts());
        Arc::new_cyclic(|this| Membership {
            catalog: catalog.clone(),
            station: station.clone(),
            audit: audit.clone(),
            handle,
            router: Router::new(catalog.clone(), Some(station.clone())),
            follower: OnceLock::new(),
            tasks: Mutex::default(),
            this: this.clone(),
        })
    }

    /// A host that joins is in the audit log. One that can't be written down isn't let in.
    async fn write_down(&self, host: HostId, from: SocketAddr) -> Result<(), String> {
        let audit = self.audit.clone();
        let write = move || {
            audit.write(&Entry {
                request_id: None,
                by: format!("host {host}"),
                from: from.ip().to_canonical().to_string(),
                act: "join",
                about: Value::Null,
                outcome: "done",
            })
        };
        let written = tokio::task::spawn_blocking(write)
            .await
            .map_err(|error| error.to_string())?;
        written.map_err(|error| format!("the audit log can't be written: {error}"))
    }

    /// Ends what goes on for other hosts' sake.
    pub(super) async fn stop(&self) {
        self.tasks.lock().await.shutdown().await;
    }
}

impl Answerer for Membership {
    fn answer(&self, from: HostId, question: Bytes) -> Answering {
        let (Some((topic, asked)), Some(follower)) = (topic_of(&question), self.follower.get()) else {
            return Box::pin(std::future::ready(Answered::NotTaken));
        };
        // What can't be read isn't taken on; whatever is gets an answer.
        let answered = |answer: Option<Bytes>| answer.map_or(Answered::NotTaken, Answered::With);
        match topic {
            Topic::Grains => {
                let (catalog, cluster) = (self.catalog.clone(), self.handle.clone());
                Box::pin(async move { answered(catalog.answer(&cluster, from, asked).await) })
            }
            Topic::Revisions => {
                let follower = follower.clone();
                Box::pin(async move { answered(follower.answer(&asked).await) })
            }
            Topic::Keys => {
                let station = self.station.clone();
                // It may write files, and wait for them.
                let answer = tokio::task::spawn_blocking(move || station.answer_keys(from, &asked));
                Box::pin(async move { answer.await.map_or(Answered::Lost, answered) })
            }
            Topic::Views => {
                let router = self.router.clone();
                Box::pin(async move { answered(router.answer(&asked).await) })
            }
        }
    }

    fn joins(&self, host: HostId, from: SocketAddr) -> Joining {
        let membership = self.this.upgrade();
        Box::pin(async move {
            let membership = membership.ok_or("it stops")?;
            membership.found().await?;
            membership.write_down(host, from).await
        })
    }
}
