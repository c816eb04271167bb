//! Reply tables of grains that aren't in memory: how far their clocks are.
//!
//! A grain whose calls come far apart leaves memory between them. If its table's clock stood still meanwhile, no reply would ever be too
//! old, and a table that is full would stay so. So a host remembers what the clock showed when the grain left. That holds for this very
//! state: whatever another host has committed since has a clock of its own.
//!
//! A grain that was deleted while a repeat could need its replies keeps them as a [vacancy](crate::commit::Delta::vacancy). Nobody may ever
//! call it again, so the host does, once the last of them is too old ([`AbsentTables::due`]), and then nothing is left of it.
//!
//! What isn't remembered here, beyond the limit or after a start, is only kept for longer than need be.

use std::collections::BTreeMap;

use super::{AGE_LIMIT_MS, TableTime};
use crate::id::{GrainId, GrainName};
use crate::time::Time;

/// Tables that are remembered, some 150 bytes each: stops calls to ever new keys from filling the memory.
pub const LIMIT: usize = 32 * 1024;
/// After so long a vacancy that should have gone is due again.
const AGAIN_NANOS: u64 = 60_000_000_000;
/// After the window a reply is too old.
const TOO_OLD_MS: u64 = AGE_LIMIT_MS + 1;

/// The grain's last commit, by its hash.
pub type State = [u8; 16];

#[derive(Debug)]
struct Absent {
    state: State,
    /// What the clock showed at that time; `None` when the table wasn't read.
    shown: Option<TableTime>,
    at: Time,
    /// Counts those that left.
    number: u64,
    /// Of a vacancy.
    due: Option<Time>,
}

/// See the module.
#[derive(Debug)]
pub struct AbsentTables {
    tables: BTreeMap<GrainId, Absent>,
    /// Oldest first.
    in_order: BTreeMap<u64, GrainId>,
    vacancies: BTreeMap<(Time, GrainId), GrainName>,
    count: u64,
    limit: usize,
    /// Whether storage may have vacancies that aren't here.
    is_incomplete: bool,
}

impl AbsentTables {
    /// Remembers up to `limit` tables. Nothing is known yet of vacancies from before.
    pub fn new(limit: usize) -> AbsentTables {
        AbsentTables {
            tables: BTreeMap::new(),
            in_order: BTreeMap::new(),
            vacancies: BTreeMap::new(),
            count: 0,
            limit,
            is_incomplete: true,
        }
    }

    /// A grain in this state has left memory, when its table's clock showed this; the newest reply in it is from `newest`. One that
    /// `is_vacant` is due when that is too old.
    pub fn leave(
        &mut self,
        grain: &GrainName,
        state: State,
        (shown, newest): (TableTime, TableTime),
        is_vacant: bool,
        now: Time,
    ) {
        let age = shown.0.saturating_sub(newest.0);
        let due = is_vacant.then(|| after_ms(now, TOO_OLD_MS.saturating_sub(age)));
        self.insert(grain, state, Some(shown), due, now);
    }

    /// Storage has a vacancy in this state. No reply in it is newer than now.
    pub fn find(&mut self, grain: &GrainName, state: State, now: Time) {
        if self.tables.get(&grain.id()).is_none_or(|known| known.state != state) {
            self.insert(grain, state, None, Some(after_ms(now, TOO_OLD_MS)), now);
        }
    }

    fn insert(&mut self, grain: &GrainName, state: State, shown: Option<TableTime>, due: Option<Time>, now: Time) {
        let id = grain.id();
        self.forget(id);
        let number = self.count;
        self.count += 1;
        self.in_order.insert(number, id);
        if let Some(due) = due {
            self.vacancies.insert((due, id), grain.clone());
        }
        let absent = Absent {
            state,
            shown,
            at: now,
            number,
            due,
        };
        self.tables.insert(id, absent);
        if self.tables.len() > self.limit
            && let Some(oldest) = self.in_order.first_key_value().map(|(_, id)| *id)
        {
            self.is_incomplete |= self.forget(oldest).is_some_and(|absent| absent.due.is_some());
        }
    }

    fn forget(&mut self, id: GrainId) -> Option<Absent> {
        let absent = self.tables.remove(&id)?;
        self.in_order.remove(&absent.number);
        if let Some(due) = absent.due {
            self.vacancies.remove(&(due, id));
        }
        Some(absent)
    }

    /// The grain is loaded in this state, with a table whose newest reply is from `newest`: what the table's clock shows, if that's known.
    pub fn resume(&mut self, grain: &GrainName, state: State, newest: TableTime, now: Time) -> Option<TableTime> {
        let absent = self.forget(grain.id()).filter(|absent| absent.state == state)?;
        Some(absent.shown.unwrap_or(newest).goes_on(absent.at, now))
    }

    /// A vacancy whose replies are all too old: it's to be deleted for good. Due again in a minute, should that fail.
    pub fn due(&mut self, now: Time) -> Option<GrainName> {
        let entry = self.vacancies.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, id), grain) = entry.remove_entry();
        let again = now.plus_nanos(AGAIN_NANOS);
        self.tables.get_mut(&id)?.due = Some(again);
        self.vacancies.insert((again, id), grain.clone());
        Some(grain)
    }

    /// Whether storage should be searched for vacancies that aren't here: told once, and only when there is room for them.
    pub fn wants_search(&mut self) -> bool {
        self.vacancies.is_empty() && std::mem::take(&mut self.is_incomplete)
    }

    /// The search has found more than there is room for, or has failed.
    pub fn search_again(&mut self) {
        self.is_incomplete = true;
    }
}

fn after_ms(now: Time, ms: u64) -> Time {
    now.plus_nanos(ms * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GrainKey, GrainType};

    fn name(key: &str) -> GrainName {
        GrainName::new(GrainType::new("t").unwrap(), GrainKey::new(key).unwrap())
    }

    fn ms(count: u64) -> Time {
        Time(count * 1_000_000)
    }

    const A: State = [1; 16];
    const B: State = [2; 16];

    #[test]
    fn a_clock_goes_on_while_its_grain_is_not_in_memory() {
        let mut absent = AbsentTables::new(10);
        absent.leave(&name("a"), A, (TableTime(100), TableTime(40)), false, ms(1000));
        assert_eq!(
            absent.resume(&name("a"), A, TableTime(40), ms(1500)),
            Some(TableTime(600))
        );
        assert_eq!(
            absent.resume(&name("a"), A, TableTime(40), ms(1500)),
            None,
            "it's in memory"
        );
    }

    #[test]
    fn what_another_host_has_committed_since_has_a_clock_of_its_own() {
        let mut absent = AbsentTables::new(10);
        absent.leave(&name("a"), A, (TableTime(100), TableTime(40)), false, ms(1000));
        assert_eq!(absent.resume(&name("a"), B, TableTime(40), ms(1500)), None);
    }

    #[test]
    fn a_vacancy_is_due_when_its_newest_reply_is_too_old() {
        let mut absent = AbsentTables::new(10);
        absent.leave(&name("a"), A, (TableTime(100), TableTime(40)), true, ms(0));
        absent.leave(&name("b"), A, (TableTime(100), TableTime(40)), false, ms(0));
        assert_eq!(absent.due(ms(AGE_LIMIT_MS - 60)), None);
        assert_eq!(absent.due(ms(AGE_LIMIT_MS - 59)), Some(name("a")));
        assert_eq!(absent.due(ms(AGE_LIMIT_MS - 59)), None, "it's being deleted");
        assert_eq!(
            absent.due(ms(AGE_LIMIT_MS - 59 + 60_000)),
            Some(name("a")),
            "that has failed"
        );
        let newest = TableTime(40);
        let shown = absent.resume(&name("a"), A, newest, ms(AGE_LIMIT_MS - 59)).unwrap();
        assert!(shown.0 - newest.0 > AGE_LIMIT_MS, "no repeat gets any of them");
        assert_eq!(absent.due(ms(10 * AGE_LIMIT_MS)), None);
    }

    #[test]
    fn a_vacancy_that_storage_has_is_due_after_a_whole_window() {
        let mut absent = AbsentTables::new(10);
        absent.find(&name("a"), A, ms(5));
        assert_eq!(absent.due(ms(AGE_LIMIT_MS + 5)), None);
        // Found again, it doesn't begin anew.
        absent.find(&name("a"), A, ms(500));
        assert_eq!(absent.due(ms(AGE_LIMIT_MS + 6)), Some(name("a")));
        let newest = TableTime(70);
        let shown = absent.resume(&name("a"), A, newest, ms(AGE_LIMIT_MS + 6)).unwrap();
        assert!(shown.0 - newest.0 > AGE_LIMIT_MS);
    }

    #[test]
    fn beyond_the_limit_the_oldest_are_forgotten_and_vacancies_among_them_are_searched_for() {
        let mut absent = AbsentTables::new(2);
        assert!(absent.wants_search(), "there may be some from before");
        assert!(!absent.wants_search());
        let left = (TableTime(0), TableTime(0));
        for key in ["a", "b", "c"] {
            absent.leave(&name(key), A, left, key == "b", ms(0));
        }
        assert_eq!(absent.resume(&name("a"), A, TableTime(0), ms(9)), None);
        assert_eq!(absent.resume(&name("c"), A, TableTime(0), ms(9)), Some(TableTime(9)));
        absent.leave(&name("d"), A, left, false, ms(0));
        assert!(!absent.wants_search());
        absent.leave(&name("e"), A, left, false, ms(0));
        assert!(absent.wants_search(), "b was a vacancy");
        assert_eq!(
            (absent.tables.len(), absent.in_order.len(), absent.vacancies.len()),
            (2, 2, 0)
        );
    }
}
