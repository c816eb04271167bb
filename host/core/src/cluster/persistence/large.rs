//! A host with a million grains.

use super::*;
use crate::id::{GrainKey, GrainType};

/// Counts only.
#[derive(Default)]
struct Counting {
    appended: u64,
    journaled: Vec<u64>,
}

impl Files for Counting {
    fn append(&mut self, _: &Commit) -> Lsn {
        self.appended += 1;
        Lsn(self.appended)
    }

    fn journal(&mut self, mark: u64, _: &Record) {
        self.journaled.push(mark);
    }

    fn rewrite(&mut self, _: &[Record]) {}
}

/// Giving up a thousand slots of a host with a million names looks at what is in those slots only, and takes it out in small steps: in between the
/// host renews its ballots.
#[test]
fn slots_are_given_up_in_small_steps_however_many_names_are_known() {
    const NAMES: usize = 1_000_000;
    const GIVEN_UP: usize = 1_000;
    let mut persistence = Persistence::new(Lsn(0), Rules::default());
    let kind = GrainType::new("counter").unwrap();
    let accepted = Accepted {
        ballot: Ballot::LEAST,
        seq: Seq(1),
        hash: [1; 16],
        deleted: false,
    };
    let mut leaving = 0;
    for number in 0..NAMES {
        let name = GrainName::new(kind.clone(), GrainKey::new(&number.to_string()).unwrap());
        leaving += u64::from(Slot::of(name.id()).index() < GIVEN_UP);
        persistence.found(&name, accepted);
    }
    let mut files = Counting::default();
    for (mark, slot) in (1..).zip(Slot::all().take(GIVEN_UP)) {
        let discard = Record::Replica(slot, record::Record::Discard);
        persistence.write(mark, discard, &mut files);
    }
    assert_eq!((files.journaled.len(), files.appended), (GIVEN_UP, 0), "rule 3");
    persistence.journaled(&std::mem::take(&mut files.journaled));
    let mut steps = 0;
    while persistence.has_work() {
        let before = files.appended;
        persistence.step(&mut files);
        steps += 1;
        assert!(files.appended - before <= REMOVED_AT_ONCE as u64);
    }
    assert_eq!(files.appended, leaving);
    assert_eq!(steps, leaving.div_ceil(REMOVED_AT_ONCE as u64));
    assert_eq!(persistence.all_stored().count() as u64, NAMES as u64 - leaving);
}
