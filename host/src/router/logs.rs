//! Guests' log records of all hosts: each keeps the last ones of what ran there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use granary_core::id::{GrainKey, GrainType, HostId};

use super::Router;
use super::far::{Ask, Told, ask_each};
use crate::activation::RecordsPage;
pub use crate::activation::{LogFilter, LogRecord};

/// How long another host may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Hosts in a cursor: more than clusters have.
const CURSOR_HOSTS: usize = 1000;

/// Records of all hosts, oldest first as far as their clocks agree.
#[derive(Clone, Debug, Default)]
pub struct LogPage {
    /// Each with the host that it's from.
    pub records: Vec<(HostId, LogRecord)>,
    /// Where to go on.
    pub next: LogCursor,
    /// So many, of all grains, were dropped before they were asked for.
    pub lost: u64,
    /// These hosts of the cluster don't answer: theirs are missing.
    pub silent: Vec<HostId>,
}

/// Up to where each host's records were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCursor(BTreeMap<HostId, u64>);

impl Router {
    /// The records behind a cursor, at most `most` of each host; without a cursor the last `most` of all.
    pub async fn logs(&self, filter: &LogFilter, cursor: Option<&LogCursor>, most: usize) -> LogPage {
        // A host that the cursor doesn't have has come since: all that it has is new.
        let after = |host: &HostId| cursor.map(|cursor| cursor.0.get(host).copied().unwrap_or(0));
        let me = self.catalog.parts.storage.host();
        let mut page = LogPage {
            next: cursor.cloned().unwrap_or_default(),
            ..LogPage::default()
        };
        if let Some(cluster) = self.catalog.parts.cluster() {
            let config = cluster.config();
            let members = config.iter().flat_map(|config| &config.members);
            let members: BTreeSet<HostId> = members.map(|member| member.host).collect();
            let there: BTreeSet<HostId> = self.catalog.division().others(me).collect();
            let away = members.iter().filter(|host| **host != me && !there.contains(*host));
            page.silent.extend(away);
            page.next.0.retain(|host, _| members.contains(host));
            let asked = there.into_iter().map(|host| {
                let asked = Ask::Logs {
                    kind: filter.kind.as_ref().map(|kind| kind.as_str().to_owned()),
                    key: filter.key.as_ref().map(|key| key.as_str().to_owned()),
                    after: after(&host),
                    most,
                };
                (host, Arc::new(asked))
            });
            let mut asking = ask_each(cluster, asked, PATIENCE);
            while let Some(Ok((host, told))) = asking.join_next().await {
                match told {
                    Some(Told::Logs(records)) => page.add(host, records),
                    _ => page.silent.push(host),
                }
            }
        }
        page.add(me, self.catalog.parts.records.page(filter, after(&me), most));
        page.records
            .sort_by_key(|(host, record)| (record.at_ms, *host, record.number));
        if cursor.is_none() {
            page.records.drain(..page.records.len().saturating_sub(most));
        }
        page
    }

    /// What this host tells another one.
    pub(super) fn logs_here(
        &self,
        kind: Option<String>,
        key: Option<String>,
        after: Option<u64>,
        most: usize,
    ) -> Option<RecordsPage> {
        let filter = LogFilter {
            kind: kind.map(|kind| GrainType::new(&kind)).transpose().ok()?,
            key: key.map(|key| GrainKey::new(&key)).transpose().ok()?,
        };
        Some(self.catalog.parts.records.page(&filter, after, most))
    }
}

impl LogPage {
    fn add(&mut self, host: HostId, page: RecordsPage) {
        self.next.0.insert(host, page.next);
        self.lost += page.lost;
        self.records
            .extend(page.records.into_iter().map(|record| (host, record)));
    }
}

impl fmt::Display for LogCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (host, number) in &self.0 {
            write!(f, "{between}{host}:{number}")?;
            between = ",";
        }
        Ok(())
    }
}

impl FromStr for LogCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<LogCursor, String> {
        let wrong = || "it isn't one that a stream of log records gave".to_owned();
        let mut cursor = LogCursor::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (host, number) = part.split_once(':').ok_or_else(wrong)?;
            let number = number.parse().map_err(|_| wrong())?;
            cursor.0.insert(host.parse().map_err(|_| wrong())?, number);
            if cursor.0.len() > CURSOR_HOSTS {
                return Err(wrong());
            }
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        for cursor in [vec![], vec![(1, 5)], vec![(1, 5), (2, u64::MAX)]] {
            let cursor = LogCursor(cursor.into_iter().map(|(host, n)| (HostId([host; 16]), n)).collect());
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for wrong in ["5", "aa:5", &format!("{}:-1", "ab".repeat(16))] {
            assert!(wrong.parse::<LogCursor>().is_err(), "{wrong}");
        }
    }
}
