//! Moving all grains of a type to its current revision, on all hosts: each sweeps its share, and what they tell is added up.

use std::sync::Arc;
use std::time::Duration;

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainType, HostId, Revision};
use serde::{Deserialize, Serialize};

use super::far::{Ask, Told, ask_all};
use super::sent::SentUpgrade;
use super::{Router, UpgradeStatus};
use crate::activation::Division;
use crate::modules::Line;

/// How long another host may take to begin: it may have to ask first which revision is current.
const BEGIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to say how far it is.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// What is asked of a type's sweep.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wish {
    /// That it begins, unless it's at work.
    Begin,
    /// How far it is, by somebody who waits for its end.
    Watch,
    /// How far it is.
    Look,
}

impl Router {
    /// Moves all grains of a type to its current revision in the background, not only those that are called; joins the
    /// sweep that goes on already, if one does. Returns how far it is. Repeatable: fails when a host doesn't answer, though the
    /// others have begun.
    pub async fn upgrade(&self, kind: &GrainType) -> Result<UpgradeStatus, CallFailure> {
        self.upgrade_of(kind, Wish::Begin).await
    }

    /// How far a type's last sweep is, and which grains could not be moved, by a sweep or by a call. Fails when a host doesn't answer
    /// or sees the cluster otherwise, for grains would be missing or counted twice.
    pub async fn upgrade_status(&self, kind: &GrainType) -> Result<UpgradeStatus, CallFailure> {
        self.upgrade_of(kind, Wish::Watch).await
    }

    /// [`upgrade_status`](Self::upgrade_status) of several types, in their order, for a list.
    pub async fn upgrade_statuses(&self, kinds: &[GrainType]) -> Result<Vec<UpgradeStatus>, CallFailure> {
        let lines = kinds.iter().map(|kind| self.catalog.parts.modules.line(kind));
        self.upgrades_there(lines.collect::<Result<_, _>>()?, Wish::Look).await
    }

    async fn upgrade_of(&self, kind: &GrainType, wish: Wish) -> Result<UpgradeStatus, CallFailure> {
        let line = self.catalog.parts.modules.line(kind)?;
        Ok(self.upgrades_there(vec![line], wish).await?.remove(0))
    }

    /// What all hosts know together.
    async fn upgrades_there(&self, lines: Vec<Arc<Line>>, wish: Wish) -> Result<Vec<UpgradeStatus>, CallFailure> {
        let division = self.catalog.division();
        // The others are asked first: they work while this host counts.
        let asking = self.catalog.parts.cluster().map(|cluster| {
            let types = lines
                .iter()
                .map(|line| (line.kind().as_str().to_owned(), line.revision().0));
            let asked = Ask::Upgrades {
                types: types.collect(),
                version: self.catalog.parts.modules.adopted(),
                division: division.clone(),
                wish,
            };
            let patience = match wish {
                Wish::Begin => BEGIN_PATIENCE,
                Wish::Watch | Wish::Look => STATUS_PATIENCE,
            };
            ask_all(
                cluster,
                division.others(self.catalog.parts.storage.host()),
                asked,
                patience,
            )
        });
        let mut all: Vec<UpgradeStatus> = lines.iter().map(|line| self.upgrade_here(line, wish)).collect();
        let mut asking = asking.unwrap_or_default();
        while let Some(answered) = asking.join_next().await {
            let (host, told) = answered.expect("asking doesn't panic");
            let told = match told {
                Some(Told::Upgrades(Some(told))) if told.len() == all.len() => told,
                Some(Told::Upgrades(_)) => return Err(differs(host)),
                _ => return Err(is_silent(host)),
            };
            for (status, theirs) in all.iter_mut().zip(told) {
                status.add(theirs.open(status.kind.clone(), status.revision));
            }
        }
        Ok(all)
    }

    /// What this host knows of its own share; nothing when grains are divided otherwise here, or one of the revisions isn't current.
    pub(super) async fn upgrades_here(
        &self,
        (types, version): (&[(String, u32)], u64),
        division: &Division,
        wish: Wish,
    ) -> Option<Vec<SentUpgrade>> {
        if self.catalog.division() != *division {
            return None;
        }
        let mut all = Vec::with_capacity(types.len());
        for (kind, revision) in types {
            let (kind, revision) = (GrainType::new(kind).ok()?, Revision(*revision));
            let line = self.catalog.parts.modules.find_as_of(&kind, version).await.ok()?;
            if line.revision() != revision {
                return None;
            }
            all.push(SentUpgrade::new(self.upgrade_here(&line, wish)));
        }
        Some(all)
    }

    fn upgrade_here(&self, line: &Arc<Line>, wish: Wish) -> UpgradeStatus {
        match wish {
            Wish::Begin => return self.catalog.sweep(line),
            Wish::Watch => self.catalog.watch_sweep(line.kind()),
            Wish::Look => {}
        }
        self.catalog.sweep_status(line)
    }
}

fn is_silent(host: HostId) -> CallFailure {
    let detail = format!("host {host}, which has a share of the grains, doesn't answer: ask again");
    CallFailure::before(Code::NoQuorum, detail)
}

fn differs(host: HostId) -> CallFailure {
    let detail = format!(
        "host {host} doesn't see yet which hosts there are, or which revision is current, as this one does: ask again"
    );
    CallFailure::before(Code::NoQuorum, detail)
}
