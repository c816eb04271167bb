//! What storage does with copies of whole states, which replicas take, and how all grains are visited.

use granary_core::commit::Change;
use granary_core::id::Seq;

use super::suite::{append, commit, each, grain, memory, wait_durable, write};
use super::*;

#[test]
fn all_existing_grains_are_visited_with_their_last_commits() {
    each(|bench| {
        let mut heads = std::collections::BTreeMap::new();
        for key in ["a", "b", "c", "d"] {
            let name = grain(key);
            let (head, _) = append(bench.storage(), &write(&name, None, 8, 1));
            heads.insert(name, head);
        }
        bench.reopen();
        let gone = commit(&grain("a"), heads.get(&grain("a")), Change::Delete);
        let (_, lsn) = append(bench.storage(), &gone);
        let (head, _) = append(bench.storage(), &write(&grain("b"), heads.get(&grain("b")), 8, 2));
        heads.remove(&grain("a"));
        heads.insert(grain("b"), head);
        wait_durable(bench.storage(), lsn);
        let mut seen = std::collections::BTreeMap::new();
        let visited = bench.storage().each(&mut |name, head| {
            assert!(seen.insert(name, head).is_none(), "visited once");
        });
        visited.unwrap();
        assert_eq!(seen, heads);
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
