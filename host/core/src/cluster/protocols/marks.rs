//! Which records are durable, told to whoever gave them out, in their order.
//!
//! A disk may make two records durable in another order than they were given out in, when they go to different files. Each part
//! of the machine counts its own records by tickets and must hear of ticket t only when all before are durable, too.

use std::collections::{BTreeMap, VecDeque};

use crate::slot::Slot;

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The configuration chain's.
    Chain,
    /// A slot's replica's.
    Replica(Slot),
}

/// A record that isn't known to be durable, or waits for one before it.
#[derive(Clone, Copy, Debug)]
struct Writing {
    mark: u64,
    ticket: u64,
    is_durable: bool,
}

/// See the file's text.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    last: u64,
    owners: BTreeMap<u64, Owner>,
    writing: BTreeMap<Owner, VecDeque<Writing>>,
}

impl Marks {
    /// The mark of an owner's next record.
    pub(super) fn give(&mut self, owner: Owner, ticket: u64) -> u64 {
        self.last += 1;
        let mark = self.last;
        self.owners.insert(mark, owner);
        let is_durable = false;
        let writing = Writing {
            mark,
            ticket,
            is_durable,
        };
        self.writing.entry(owner).or_default().push_back(writing);
        mark
    }

    /// A record is durable. Returns the last ticket of its owner up to which all are, if that's news.
    pub(super) fn persisted(&mut self, mark: u64) -> Option<(Owner, u64)> {
        let owner = self.owners.remove(&mark)?;
        let writing = self.writing.get_mut(&owner)?;
        if let Ok(at) = writing.binary_search_by_key(&mark, |writing| writing.mark) {
            writing[at].is_durable = true;
        }
        let mut upto = None;
        while let Some(first) = writing.pop_front_if(|first| first.is_durable) {
            upto = Some(first.ticket);
        }
        if writing.is_empty() {
            self.writing.remove(&owner);
        }
        upto.map(|ticket| (owner, ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_waits_for_those_before_it_of_the_same_owner_only() {
        let mut marks = Marks::default();
        let slot = |number| Owner::Replica(Slot::new(number).unwrap());
        let given = [
            (slot(1), 1),
            (slot(1), 2),
            (slot(2), 1),
            (slot(1), 3),
            (Owner::Chain, 1),
        ];
        let given = given.map(|(owner, ticket)| marks.give(owner, ticket));
        assert_eq!(marks.persisted(given[1]), None);
        assert_eq!(marks.persisted(given[2]), Some((slot(2), 1)));
        assert_eq!(marks.persisted(given[4]), Some((Owner::Chain, 1)));
        assert_eq!(marks.persisted(given[0]), Some((slot(1), 2)));
        assert_eq!(marks.persisted(given[0]), None, "told already");
        assert_eq!(marks.persisted(given[3]), Some((slot(1), 3)));
        assert!(marks.owners.is_empty() && marks.writing.is_empty());
    }
}
