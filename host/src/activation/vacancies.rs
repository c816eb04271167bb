//! Ends what is left of deleted grains, once nobody needs the replies any more that they keep.
//!
//! **Not here:** when that is ([`AbsentTables`](granary_core::reply_table::absent::AbsentTables)), and whether it's still so when the request
//! arrives (the machine).

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use granary_core::message::Work;
use granary_core::reply_table::absent::{AbsentTables, LIMIT};

use super::Catalog;

/// How often it looks for those that are due.
const PAUSE: Duration = Duration::from_secs(1);
/// The most that are ended in one go, one after the other: a host that starts with many has other work, too.
const AT_A_TIME: usize = 64;
/// How long one may take. It's due again later.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Catalog {
    /// Goes on until the task is dropped.
    pub(crate) async fn end_vacancies(self: Arc<Self>) {
        let mut pause = tokio::time::interval(PAUSE);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            let wants_search = self.absent().wants_search();
            if wants_search {
                self.search_vacancies().await;
            }
            self.end_due_vacancies().await;
        }
    }

    /// Ends some of those that are due.
    pub(crate) async fn end_due_vacancies(self: &Arc<Self>) {
        for _ in 0..AT_A_TIME {
            let due = self.absent().due(self.parts.clock.time());
            let Some(grain) = due else { return };
            // Of a type that isn't deployed there are no calls that could be repeated; it's asked again when there are.
            let Ok(line) = self.parts.modules.line(&grain.kind) else {
                continue;
            };
            if let Err(failure) = self.ask(&line, &grain, Work::Delete, TIMEOUT).await {
                tracing::debug!(%grain, %failure, "what is left of a deleted grain stays for now");
            }
        }
    }

    /// Takes note of the vacancies that storage has.
    async fn search_vacancies(self: &Arc<Self>) {
        let search = self.parts.read(|storage| {
            let (mut found, mut more) = (Vec::new(), false);
            let visited = storage.each(&mut |grain, head| {
                if head.vacant && found.len() < LIMIT {
                    found.push((grain, head.head.hash));
                } else {
                    more |= head.vacant;
                }
            });
            visited.map(|()| (found, more))
        });
        match search.await {
            Ok((found, more)) => {
                let now = self.parts.clock.time();
                let mut absent = self.absent();
                found.iter().for_each(|(grain, state)| absent.find(grain, *state, now));
                if more {
                    absent.search_again();
                }
            }
            Err(error) => {
                tracing::error!(%error, "storage can't be searched for what is left of deleted grains");
                self.absent().search_again();
            }
        }
    }

    fn absent(&self) -> MutexGuard<'_, AbsentTables> {
        self.parts.absent.lock().expect("no panic under this lock")
    }
}
