//! What other hosts know of grains: asked when this one doesn't hold them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use granary_core::api::{CallFailure, Code};
use granary_core::config_chain::config::Config;
use granary_core::id::{GrainKey, GrainName, GrainType, HostId};
use granary_core::routing::{HOPS_MOST, Travel};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::sent::{SentStatus, SentUpgrade};
use super::upgrades::Wish;
use super::{GrainStatus, KeyPage, Router};
use crate::activation::{Division, RecordsPage};
use crate::cluster::{Handle, Topic, Way, decode, encode, question};

/// How long another host may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before whoever has a grain is looked for again.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Serialize, Deserialize)]
pub(super) enum Ask {
    Status {
        kind: String,
        key: String,
    },
    Digest {
        kind: String,
        key: String,
    },
    Relocate {
        kind: String,
        key: String,
        to: HostId,
    },
    List {
        kind: String,
        prefix: String,
        after: Option<String>,
        limit: usize,
    },
    /// How far types are on the way to these revisions, current by this version of the agreed table, with the grains divided like this.
    Upgrades {
        types: Vec<(String, u32)>,
        version: u64,
        division: Division,
        wish: Wish,
    },
    /// What guests wrote there.
    Logs {
        kind: Option<String>,
        key: Option<String>,
        after: Option<u64>,
        most: usize,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) enum Told {
    Status(Option<SentStatus>),
    Digest(Option<Option<String>>),
    Keys(Option<(Vec<String>, bool)>),
    /// Another host knows.
    Elsewhere(HostId),
    /// Microseconds, or why not.
    Relocated(Result<u64, (String, String)>),
    /// In the order of the question; nothing when that host sees the cluster otherwise, or has another revision.
    Upgrades(Option<Vec<SentUpgrade>>),
    Logs(RecordsPage),
}

impl Router {
    /// Answers another host; nothing when the question can't be read.
    pub(crate) async fn answer(&self, asked: &[u8]) -> Option<Bytes> {
        let name = |kind: &str, key: &str| Some(GrainName::new(GrainType::new(kind).ok()?, GrainKey::new(key).ok()?));
        let ask = decode::<Ask>(asked)?;
        if let Some(elsewhere) = self.elsewhere(&ask).await {
            return Some(encode(&Told::Elsewhere(elsewhere)));
        }
        let told = match ask {
            Ask::Status { kind, key } => {
                let status = self.status_here(&name(&kind, &key)?).await;
                Told::Status(status.ok().map(SentStatus::new))
            }
            Ask::Digest { kind, key } => Told::Digest(self.catalog.digest(&name(&kind, &key)?).await.ok()),
            Ask::Relocate { kind, key, to } => {
                let cluster = self.catalog.parts.cluster()?;
                let relocated = self.relocate_from_here(cluster, &name(&kind, &key)?, to).await;
                Told::Relocated(relocated.map_err(|failure| (failure.code.as_str().to_owned(), failure.detail)))
            }
            Ask::List {
                kind,
                prefix,
                after,
                limit,
            } => {
                let after = after.and_then(|after| GrainKey::new(&after).ok());
                let kind = GrainType::new(&kind).ok()?;
                let page = self.list_here(&kind, &prefix, after.as_ref(), limit).await;
                let keys = |page: KeyPage| {
                    let is_more = page.next.is_some();
                    (page.keys.iter().map(|key| key.as_str().to_owned()).collect(), is_more)
                };
                Told::Keys(page.ok().map(keys))
            }
            Ask::Upgrades {
                types,
                version,
                division,
                wish,
            } => Told::Upgrades(self.upgrades_here((&types, version), &division, wish).await),
            Ask::Logs { kind, key, after, most } => Told::Logs(self.logs_here(kind, key, after, most)?),
        };
        Some(encode(&told))
    }

    /// Who knows more of the grain that is asked about than this host.
    async fn elsewhere(&self, ask: &Ask) -> Option<HostId> {
        let (Ask::Status { kind, key } | Ask::Digest { kind, key } | Ask::Relocate { kind, key, .. }) = ask else {
            return None;
        };
        let grain = GrainName::new(GrainType::new(kind).ok()?, GrainKey::new(key).ok()?);
        self.holder(self.catalog.parts.cluster()?, &grain).await
    }

    /// Who has a grain, if it isn't this host.
    pub(super) async fn holder(&self, cluster: &Handle, grain: &GrainName) -> Option<HostId> {
        if self.catalog.find(grain.id()).is_some() {
            return None;
        }
        let route = cluster.route(grain.id(), self.catalog.placement(&grain.kind), None, Travel::default());
        match tokio::time::timeout(PATIENCE, route).await {
            Ok(Way::There(host, _)) => Some(host),
            _ => None,
        }
    }

    /// Asks whoever has a grain, another host when that one stops meanwhile; nothing when this host has it.
    async fn ask_holder(&self, cluster: &Handle, grain: &GrainName, asked: &Ask) -> Result<Option<Told>, CallFailure> {
        let limit = Instant::now() + PATIENCE;
        loop {
            let Some(host) = self.holder(cluster, grain).await else {
                return Ok(None);
            };
            if let Some(told) = ask(cluster, host, asked).await {
                return Ok(Some(told));
            }
            if Instant::now() >= limit {
                return Err(silent(host));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) async fn status_there(&self, cluster: &Handle, grain: &GrainName) -> Result<GrainStatus, CallFailure> {
        let (kind, key) = (grain.kind.as_str().to_owned(), grain.key.as_str().to_owned());
        match self.ask_holder(cluster, grain, &Ask::Status { kind, key }).await? {
            None => self.status_here(grain).await,
            Some(Told::Status(Some(status))) => Ok(status.open()),
            Some(_) => Err(unknown()),
        }
    }

    pub(super) async fn digest_there(
        &self,
        cluster: &Handle,
        grain: &GrainName,
    ) -> Result<Option<String>, CallFailure> {
        let (kind, key) = (grain.kind.as_str().to_owned(), grain.key.as_str().to_owned());
        match self.ask_holder(cluster, grain, &Ask::Digest { kind, key }).await? {
            None => self.catalog.digest(grain).await,
            Some(Told::Digest(Some(digest))) => Ok(digest),
            Some(_) => Err(unknown()),
        }
    }

    /// Asks all hosts: each knows the grains of which it has a copy. Fails when those that answer may have missed one.
    pub(super) async fn list_all(
        &self,
        cluster: &Handle,
        kind: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> Result<KeyPage, CallFailure> {
        let here = self.list_here(kind, prefix, after, limit).await?;
        let asked = Ask::List {
            kind: kind.as_str().to_owned(),
            prefix: prefix.to_owned(),
            after: after.map(|after| after.as_str().to_owned()),
            limit,
        };
        let me = self.catalog.parts.storage.host();
        let config = cluster.config();
        let mut asking = ask_all(cluster, others(config.as_deref(), me).into_iter(), asked, PATIENCE);
        let mut is_more = here.next.is_some();
        let mut keys: BTreeSet<GrainKey> = here.keys.into_iter().collect();
        let (mut answering, mut silents) = (BTreeSet::from([me]), BTreeSet::new());
        while let Some(Ok((host, told))) = asking.join_next().await {
            match told {
                Some(Told::Keys(Some((page, more)))) => {
                    is_more |= more;
                    keys.extend(page.iter().filter_map(|key| GrainKey::new(key).ok()));
                    answering.insert(host);
                }
                _ => drop(silents.insert(host)),
            }
        }
        let is_covered = || config.is_none_or(|config| config.is_covered_by(&answering));
        if let Some(host) = silents.first().filter(|_| !is_covered()) {
            return Err(silent(*host));
        }
        is_more |= keys.len() > limit;
        let keys: Vec<GrainKey> = keys.into_iter().take(limit).collect();
        let next = keys.last().filter(|_| is_more).cloned();
        Ok(KeyPage { keys, next })
    }
}

/// All other hosts that have, or may still have, copies of grains.
fn others(config: Option<&Config>, me: HostId) -> BTreeSet<HostId> {
    let members = config.iter().flat_map(|config| &config.members);
    let mut hosts: BTreeSet<HostId> = members.map(|member| member.host).collect();
    // One that was drained is no member any more, and others may not have taken everything over yet.
    let sources = config.iter().flat_map(|config| config.slots.iter());
    let sources = sources.flat_map(|slot| &slot.sources);
    hosts.extend(sources.flat_map(|source| source.replicas.hosts()));
    hosts.remove(&me);
    hosts
}

/// Has the host that holds a grain move it.
pub(super) async fn relocate(
    cluster: &Handle,
    holder: HostId,
    grain: &GrainName,
    to: HostId,
) -> Result<u64, CallFailure> {
    let (kind, key) = (grain.kind.as_str().to_owned(), grain.key.as_str().to_owned());
    match ask(cluster, holder, &Ask::Relocate { kind, key, to }).await {
        Some(Told::Relocated(Ok(pause))) => Ok(pause),
        Some(Told::Relocated(Err((code, detail)))) => Err(CallFailure::before(
            Code::from_word(&code).unwrap_or(Code::Internal),
            detail,
        )),
        _ => Err(silent(holder)),
    }
}

/// Asks hosts at once; their answers as they come, nothing from those that don't answer.
pub(super) fn ask_all(
    cluster: &Handle,
    hosts: impl Iterator<Item = HostId>,
    asked: Ask,
    patience: Duration,
) -> JoinSet<(HostId, Option<Told>)> {
    let asked = Arc::new(asked);
    ask_each(cluster, hosts.map(|host| (host, asked.clone())), patience)
}

/// Asks each host something of its own.
pub(super) fn ask_each(
    cluster: &Handle,
    asked: impl Iterator<Item = (HostId, Arc<Ask>)>,
    patience: Duration,
) -> JoinSet<(HostId, Option<Told>)> {
    asked
        .map(|(host, asked)| {
            let cluster = cluster.clone();
            async move { (host, ask_within(&cluster, host, &asked, patience).await) }
        })
        .collect()
}

/// Asks a host, and the one that it names if it knows less.
async fn ask(cluster: &Handle, host: HostId, asked: &Ask) -> Option<Told> {
    ask_within(cluster, host, asked, PATIENCE).await
}

async fn ask_within(cluster: &Handle, host: HostId, asked: &Ask, patience: Duration) -> Option<Told> {
    let mut host = host;
    for _ in 0..HOPS_MOST {
        let answer = cluster.call(host, question(Topic::Views, asked), patience).await;
        match decode(&answer.ok()?)? {
            Told::Elsewhere(next) => host = next,
            told => return Some(told),
        }
    }
    None
}

fn unknown() -> CallFailure {
    CallFailure::before(Code::NoQuorum, "the host that would know can't tell: its log says why")
}

fn silent(host: HostId) -> CallFailure {
    CallFailure::before(Code::NoQuorum, format!("host {host}, which would know, doesn't answer"))
}
