//! Slots: the unit in which grains are spread over hosts.
//!
//! A grain's slot is the low 12 bits of its id, which is a hash, so slots are even. What belongs to a slot moves together: its
//! replicas, its part of the directory, the messages about it, which are batched. 4,096 is enough that the hosts' shares are
//! even to some per cent, and so few that a table of all of them fits into one agreed configuration.
//!
//! **Not here:** who holds a slot ([`crate::ring`] proposes, [`crate::config_chain`] decides).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::GrainId;

/// How many slots there are. Part of the wire and disk formats: it never changes.
pub const SLOTS: u16 = 4096;

const WORDS: usize = SLOTS as usize / 64;

/// One of the [`SLOTS`] slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    /// The slot of a grain: the low 12 bits of its id, whose last byte is the lowest.
    pub fn of(grain: GrainId) -> Slot {
        Slot(u16::from_be_bytes([grain.0[14], grain.0[15]]) % SLOTS)
    }

    /// The slot of this number; nothing when it's [`SLOTS`] or more.
    pub fn new(number: u16) -> Option<Slot> {
        (number < SLOTS).then_some(Slot(number))
    }

    /// All slots, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Slot> + ExactSizeIterator + Clone {
        (0..SLOTS).map(Slot)
    }

    /// Its number, below [`SLOTS`].
    pub fn number(self) -> u16 {
        self.0
    }

    /// Its number, to index tables with.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A number that a peer sent is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotError(u16);

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no slot: slots are 0 to {}", self.0, SLOTS - 1)
    }
}

impl std::error::Error for SlotError {}

impl TryFrom<u16> for Slot {
    type Error = SlotError;
    fn try_from(number: u16) -> Result<Slot, SlotError> {
        Slot::new(number).ok_or(SlotError(number))
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> u16 {
        slot.0
    }
}

/// A set of slots: at most 512 bytes, less when only low slots are in it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
pub struct SlotSet {
    /// Bit `i % 64` of word `i / 64` stands for slot `i`. The last word isn't 0, so that equal sets are equal words.
    words: Vec<u64>,
}

impl SlotSet {
    /// The empty set.
    pub fn new() -> SlotSet {
        SlotSet::default()
    }

    /// Adds a slot. True if it wasn't there.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = (slot.index() / 64, 1u64 << (slot.index() % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let added = self.words[word] & bit == 0;
        self.words[word] |= bit;
        added
    }

    /// Adds all slots of `other`.
    pub fn extend(&mut self, other: &SlotSet) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// Takes a slot away.
    pub fn remove(&mut self, slot: Slot) {
        if let Some(word) = self.words.get_mut(slot.index() / 64) {
            *word &= !(1u64 << (slot.index() % 64));
        }
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    /// Whether a slot is in it.
    pub fn contains(&self, slot: Slot) -> bool {
        let word = self.words.get(slot.index() / 64).copied().unwrap_or(0);
        word & (1u64 << (slot.index() % 64)) != 0
    }

    /// Whether all slots of `other` are in it.
    pub fn contains_all(&self, other: &SlotSet) -> bool {
        let word = |at: usize| self.words.get(at).copied().unwrap_or(0);
        other
            .words
            .iter()
            .enumerate()
            .all(|(at, theirs)| theirs & !word(at) == 0)
    }

    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The slots in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        Slot::all().filter(|slot| self.contains(*slot))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        let mut set = SlotSet::new();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl fmt::Debug for SlotSet {
    /// Few slots by their numbers, many by their count: traces print sets of thousands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            0..=8 => f.debug_set().entries(self.iter().map(Slot::number)).finish(),
            n => write!(f, "{{{n} slots}}"),
        }
    }
}

/// A peer sent more words than there are slots, or a set that isn't in its one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSetError;

impl fmt::Display for SlotSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a set of slots has at most {WORDS} words, the last of which isn't 0")
    }
}

impl std::error::Error for SlotSetError {}

impl TryFrom<Vec<u64>> for SlotSet {
    type Error = SlotSetError;
    fn try_from(words: Vec<u64>) -> Result<SlotSet, SlotSetError> {
        let fits = words.len() <= WORDS && words.last() != Some(&0);
        fits.then_some(SlotSet { words }).ok_or(SlotSetError)
    }
}

impl From<SlotSet> for Vec<u64> {
    fn from(set: SlotSet) -> Vec<u64> {
        set.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grains_slot_is_the_low_12_bits_of_its_id() {
        let mut id = [0xff; 16];
        (id[14], id[15]) = (0xab, 0xcd);
        assert_eq!(Slot::of(GrainId(id)).number(), 0xbcd);
    }

    #[test]
    fn numbers_that_are_no_slots_are_refused() {
        assert_eq!(Slot::try_from(4095).map(Slot::number), Ok(4095));
        assert_eq!(Slot::try_from(4096), Err(SlotError(4096)));
        assert_eq!(SlotSet::try_from(vec![1; 65]), Err(SlotSetError));
        assert_eq!(SlotSet::try_from(vec![1, 0]), Err(SlotSetError));
    }

    #[test]
    fn equal_sets_are_equal_whatever_was_in_them_before() {
        let slot = |n| Slot::new(n).unwrap();
        let mut set: SlotSet = [slot(3), slot(4095)].into_iter().collect();
        assert_eq!((set.len(), set.iter().last()), (2, Some(slot(4095))));
        assert!(!set.insert(slot(3)) && set.insert(slot(70)));
        set.remove(slot(4095));
        set.remove(slot(70));
        assert_eq!(set, [slot(3)].into_iter().collect());
        set.remove(slot(3));
        assert!(set.is_empty() && set == SlotSet::new());
    }

    #[test]
    fn sets_are_joined_and_compared() {
        let slot = |n| Slot::new(n).unwrap();
        let (low, high): (SlotSet, SlotSet) = (
            [slot(1)].into_iter().collect(),
            [slot(1), slot(99)].into_iter().collect(),
        );
        assert!(high.contains_all(&low) && !low.contains_all(&high));
        let mut both = low.clone();
        both.extend(&high);
        assert_eq!(both, high);
    }
}
