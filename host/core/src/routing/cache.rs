//! Where grains were last seen: spares nearly every request the question.
//!
//! An entry may be wrong at any time; whoever gets a request by mistake says so. Entries go when they are old, when they are the least
//! recently used of too many, when somebody says `Moved`, and all at once with the host that they point to.
//!
//! A grain and a host are enough to clear an entry. Demanding the very activation would keep an entry for ever whose
//! activation nobody remembers any more.

use std::collections::BTreeMap;

use crate::id::{Ballot, GrainId, HostId};
use crate::time::Time;

#[derive(Clone, Copy, Debug)]
struct Entry {
    ballot: Ballot,
    /// The host's generation when this was learned; entries of earlier ones are void.
    generation: u64,
    expires: Time,
    /// Its place in `used`.
    used: u64,
}

/// A bounded cache of activations.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    most: usize,
    life_nanos: u64,
    entries: BTreeMap<GrainId, Entry>,
    /// The same grains by use, the oldest first.
    used: BTreeMap<u64, GrainId>,
    uses: u64,
    /// Raised by each death of a host: its entries are void without being looked for.
    generations: BTreeMap<HostId, u64>,
}

impl Cache {
    /// A cache of `most` entries that live for `life_nanos`.
    pub(super) fn new(most: usize, life_nanos: u64) -> Cache {
        Cache {
            most,
            life_nanos,
            entries: BTreeMap::new(),
            used: BTreeMap::new(),
            uses: 0,
            generations: BTreeMap::new(),
        }
    }

    /// Where the grain was last seen.
    pub(super) fn find(&mut self, now: Time, grain: GrainId) -> Option<Ballot> {
        let entry = *self.entries.get(&grain)?;
        if entry.expires <= now || entry.generation != self.generation(entry.ballot.host) {
            self.remove(grain);
            return None;
        }
        // Moving an entry to the front is dearer than finding it; one of the last quarter's needs no moving.
        if self.uses - entry.used > self.most as u64 / 4 {
            self.touch(grain);
        }
        Some(entry.ballot)
    }

    /// Notes where a grain is. What is known of a later activation stays.
    pub(super) fn put(&mut self, now: Time, grain: GrainId, ballot: Ballot) {
        let generation = self.generation(ballot.host);
        if let Some(known) = self.entries.get(&grain)
            && known.ballot > ballot
            && known.generation == self.generation(known.ballot.host)
        {
            return;
        }
        self.remove(grain);
        while self.entries.len() >= self.most {
            let Some((_, oldest)) = self.used.pop_first() else {
                return;
            };
            self.entries.remove(&oldest);
        }
        self.uses += 1;
        self.used.insert(self.uses, grain);
        let entry = Entry {
            ballot,
            generation,
            expires: now.plus_nanos(self.life_nanos),
            used: self.uses,
        };
        self.entries.insert(grain, entry);
    }

    /// Forgets that the grain is on `host`, whatever the activation.
    pub(super) fn clear(&mut self, grain: GrainId, host: HostId) {
        if self.entries.get(&grain).is_some_and(|entry| entry.ballot.host == host) {
            self.remove(grain);
        }
    }

    /// Forgets everything on `host`.
    pub(super) fn clear_host(&mut self, host: HostId) {
        *self.generations.entry(host).or_default() += 1;
    }

    /// How many entries there are, void ones included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn generation(&self, host: HostId) -> u64 {
        self.generations.get(&host).copied().unwrap_or_default()
    }

    fn touch(&mut self, grain: GrainId) {
        if let Some(entry) = self.entries.get_mut(&grain) {
            self.used.remove(&entry.used);
            self.uses += 1;
            entry.used = self.uses;
            self.used.insert(self.uses, grain);
        }
    }

    fn remove(&mut self, grain: GrainId) {
        if let Some(entry) = self.entries.remove(&grain) {
            self.used.remove(&entry.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grain(number: u64) -> GrainId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        GrainId(bytes)
    }

    fn at(host: u8, counter: u64) -> Ballot {
        Ballot {
            counter,
            host: HostId([host; 16]),
            incarnation: 1,
        }
    }

    #[test]
    fn the_least_recently_used_entry_makes_room() {
        let mut cache = Cache::new(8, 100);
        (0..8).for_each(|number| cache.put(Time(0), grain(number), at(1, 1)));
        assert!(cache.find(Time(0), grain(0)).is_some());
        cache.put(Time(0), grain(8), at(1, 1));
        assert_eq!(cache.len(), 8);
        assert!(cache.find(Time(0), grain(0)).is_some(), "was used");
        assert!(cache.find(Time(0), grain(1)).is_none(), "was used longest ago");
    }

    #[test]
    fn an_entry_ends_with_its_life() {
        let mut cache = Cache::new(8, 100);
        cache.put(Time(0), grain(1), at(1, 1));
        assert!(cache.find(Time(99), grain(1)).is_some());
        assert!(cache.find(Time(100), grain(1)).is_none());
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_death_clears_all_of_the_host_and_nothing_else() {
        let mut cache = Cache::new(100, 100);
        (0..50).for_each(|number| cache.put(Time(0), grain(number), at((number % 2) as u8, 1)));
        cache.clear_host(HostId([1; 16]));
        for number in 0..50 {
            assert_eq!(cache.find(Time(1), grain(number)).is_some(), number % 2 == 0);
        }
        cache.put(Time(2), grain(1), at(1, 1));
        assert!(cache.find(Time(2), grain(1)).is_some(), "what is learned later holds");
    }

    #[test]
    fn a_grain_and_a_host_are_enough_to_clear_an_entry() {
        let mut cache = Cache::new(8, 100);
        cache.put(Time(0), grain(1), at(1, 5));
        cache.clear(grain(1), HostId([2; 16]));
        assert!(cache.find(Time(0), grain(1)).is_some(), "it's on another host");
        cache.clear(grain(1), HostId([1; 16]));
        assert!(cache.find(Time(0), grain(1)).is_none());
    }

    #[test]
    fn late_news_of_an_earlier_activation_changes_nothing() {
        let mut cache = Cache::new(8, 100);
        cache.put(Time(0), grain(1), at(1, 5));
        cache.put(Time(0), grain(1), at(2, 4));
        assert_eq!(cache.find(Time(0), grain(1)), Some(at(1, 5)));
        cache.clear_host(HostId([1; 16]));
        cache.put(Time(0), grain(1), at(2, 4));
        assert_eq!(
            cache.find(Time(0), grain(1)),
            Some(at(2, 4)),
            "unless its host has died"
        );
    }
}
