//! What storage does with copies of whole states, which replicas take, and how all grains are visited.

use std::collections::BTreeMap;

use granary_core::commit::Change;
use granary_core::id::Seq;

use super::suite::{append, commit, each, grain, known, memory, wait_durable, write};
use super::*;

/// All that a storage has, by name.
fn heads(storage: &dyn Storage) -> BTreeMap<GrainName, StoredHead> {
    let mut seen = BTreeMap::new();
    let visited = storage.each(&mut |name, head| {
        assert!(seen.insert(name, head).is_none(), "visited once");
    });
    visited.unwrap();
    seen
}

#[test]
fn all_grains_are_visited_with_their_last_commits_deleted_ones_too() {
    each(|bench| {
        let mut expected = BTreeMap::new();
        let mut note = |name: &GrainName, head: Head, deleted| {
            expected.insert(name.clone(), known(head, deleted));
        };
        let mut first = Vec::new();
        for key in ["a", "b", "c", "d"] {
            let name = grain(key);
            let (head, _) = append(bench.storage(), &write(&name, None, 8, 1));
            note(&name, head.clone(), false);
            first.push((name, head));
        }
        bench.reopen();
        let (gone, head) = &first[0];
        let (head, _) = append(bench.storage(), &commit(gone, Some(head), Change::Delete));
        note(gone, head, true);
        let (written, head) = &first[1];
        let (head, lsn) = append(bench.storage(), &write(written, Some(head), 8, 2));
        note(written, head, false);
        assert_eq!(heads(bench.storage()), expected);
        for _ in 0..2 {
            wait_durable(bench.storage(), lsn);
            bench.reopen();
            assert_eq!(heads(bench.storage()), expected, "after a start");
        }
    });
}

/// What is deleted stays known until somebody says that it may be forgotten, then its numbers begin anew.
#[test]
fn deletions_are_forgotten_when_that_is_said_and_not_before() {
    each(|bench| {
        let name = grain("a");
        let (head, _) = append(bench.storage(), &write(&name, None, 8, 1));
        let (gone, lsn) = append(bench.storage(), &commit(&name, Some(&head), Change::Delete));
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        bench.reopen();
        assert_eq!(bench.storage().head(&name).unwrap().unwrap().head, gone);
        bench.storage().forget_deleted().unwrap();
        let left = bench.storage().head(&name).unwrap();
        // Behind a crash the log may have it still.
        let before = left.as_ref().map(|left| &left.head);
        let (next, lsn) = append(bench.storage(), &write(&name, before, 16, 2));
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        assert_eq!(bench.storage().head(&name).unwrap().unwrap().head, next);
    });
}

/// Other hosts keep the grain now, or all have forgotten that it was deleted: then it may come back, from its first commit on.
#[test]
fn of_a_grain_that_is_taken_out_nothing_is_left_and_it_may_begin_anew() {
    each(|bench| {
        let (live, deleted, both) = (grain("live"), grain("deleted"), [grain("live"), grain("deleted")]);
        let (_, _) = append(bench.storage(), &write(&live, None, 8, 1));
        let (head, _) = append(bench.storage(), &write(&deleted, None, 8, 1));
        let (_, lsn) = append(bench.storage(), &commit(&deleted, Some(&head), Change::Delete));
        // In the snapshot store, as far as it is closed in good order.
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        let mut last = Lsn(0);
        for name in &both {
            last = append(bench.storage(), &Commit::absence(name.clone())).1;
        }
        for _ in 0..3 {
            assert!(heads(bench.storage()).is_empty());
            for name in &both {
                assert!(bench.storage().head(name).unwrap().is_none());
                assert!(bench.storage().load(name).unwrap().is_none());
                assert!(bench.storage().load_before(name).unwrap().is_none());
            }
            assert!(bench.storage().list(&live.kind, "", None, 10).unwrap().keys.is_empty());
            wait_durable(bench.storage(), last);
            bench.reopen();
        }
        let (first, lsn) = append(bench.storage(), &write(&live, None, 16, 2));
        assert_eq!(first.seq, Seq(1));
        for _ in 0..2 {
            let stored = bench.storage().load(&live).unwrap().unwrap();
            let memory = memory(&stored);
            assert_eq!((stored.head, memory[8], memory[16]), (first.clone(), 0, 2));
            wait_durable(bench.storage(), lsn);
            bench.reopen();
        }
    });
}

/// A number says nothing about which commit it is: another history may have used it. Each of these takes the place of a state in the
/// snapshot store that has the same number, and is there after every start.
#[test]
fn a_commit_of_another_history_with_the_same_number_is_another_commit() {
    let name = grain("oscar");
    let mut other_ballot = copy(&name, 2, 9, 77);
    other_ballot.ballot.counter = 8;
    let deletion = Commit {
        change: Change::Whole {
            hash: [9; 16],
            state: None,
        },
        ..copy(&name, 2, 9, 77)
    };
    for other in [copy(&name, 2, 9, 77), other_ballot, deletion] {
        each(|bench| {
            let (head, _) = append(bench.storage(), &write(&name, None, 8, 1));
            let (_, lsn) = append(bench.storage(), &write(&name, Some(&head), 8, 2));
            wait_durable(bench.storage(), lsn);
            bench.reopen();
            let (head, lsn) = append(bench.storage(), &other);
            let deleted = other.change.deletes();
            let expected = known(head, deleted);
            for _ in 0..3 {
                assert_eq!(bench.storage().head(&name).unwrap(), Some(expected.clone()));
                let stored = bench.storage().load(&name).unwrap().unwrap();
                assert_eq!(
                    (stored.stored_head(), memory(&stored)[8]),
                    (expected.clone(), if deleted { 0 } else { 77 })
                );
                wait_durable(bench.storage(), lsn);
                bench.reopen();
            }
        });
    }
}

#[test]
fn a_commit_that_does_not_follow_is_refused_before_anything_is_written() {
    each(|bench| {
        let name = grain("eve");
        let (head, _) = append(bench.storage(), &write(&name, None, 8, 1));
        let (last, _) = append(bench.storage(), &write(&name, Some(&head), 8, 2));
        for wrong in [write(&name, None, 8, 3), write(&name, Some(&head), 8, 3)] {
            let storage = bench.storage();
            let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| storage.append(&wrong)));
            assert!(appended.is_err(), "{} was taken", wrong.seq.0);
        }
        let (next, lsn) = append(bench.storage(), &write(&name, Some(&last), 8, 4));
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        assert_eq!(bench.storage().head(&name).unwrap().unwrap().head, next);
    });
}

/// A copy of the state after `of`, whose commit is `seq`.
fn copy(grain: &GrainName, seq: u64, hash: u8, value: u64) -> Commit {
    let Change::Delta(delta) = write(grain, None, 8, value).change else {
        panic!("a write is a delta")
    };
    let (hash, state) = ([hash; 16], Some(delta));
    Commit {
        seq: Seq(seq),
        ..commit(grain, None, Change::Whole { hash, state })
    }
}

#[test]
fn a_copy_of_a_state_takes_the_place_of_what_was_there() {
    each(|bench| {
        let name = grain("mallory");
        let mut head = None;
        for value in 1..=5 {
            head = Some(append(bench.storage(), &write(&name, head.as_ref(), 8 * value, value as u64)).0);
        }
        // Everything is in the snapshot store now; what comes is of another history, and has a lower number.
        bench.reopen();
        let (copied, _) = append(bench.storage(), &copy(&name, 3, 9, 77));
        assert_eq!((copied.seq, copied.hash), (Seq(3), [9; 16]));
        assert_eq!(bench.storage().head(&name).unwrap().unwrap().head, copied);
        let (next, lsn) = append(bench.storage(), &write(&name, Some(&copied), 16, 88));
        for _ in 0..2 {
            let stored = bench.storage().load(&name).unwrap().unwrap();
            assert_eq!((stored.head.clone(), stored.deleted), (next.clone(), false));
            let memory = memory(&stored);
            assert_eq!((memory[8], memory[16], memory[40]), (77, 88, 0));
            wait_durable(bench.storage(), lsn);
            bench.reopen();
        }
        let (hash, state) = ([4; 16], None);
        let gone = Commit {
            seq: Seq(2),
            ..commit(&name, None, Change::Whole { hash, state })
        };
        let (gone, _) = append(bench.storage(), &gone);
        let stored = bench.storage().head(&name).unwrap().unwrap();
        assert_eq!((stored.head, stored.deleted), (gone, true));
    });
}
