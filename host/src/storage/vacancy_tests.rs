//! What storage does with a grain that was deleted and keeps replies for repeated calls.

use std::sync::Arc;

use granary_core::commit::Change;
use granary_core::id::CallId;
use granary_core::reply_table::{StoredReply, TableTime};

use super::suite::{append, commit, each, grain, memory, wait_durable, write};
use super::*;

/// `commit` with the reply to this call.
fn replying(call: u8, commit: Commit) -> Commit {
    let reply = StoredReply {
        call: CallId([call; 16]),
        fingerprint: [call; 16],
        client: 1,
        at: TableTime(call.into()),
        outcome: None,
    };
    Commit {
        replies: vec![Arc::new(reply)],
        ..commit
    }
}

fn vacancy(grain: &GrainName, before: &Head) -> Commit {
    commit(grain, Some(before), Change::Delta(Delta::vacancy()))
}

fn calls(stored: &Stored) -> Vec<u8> {
    stored.replies.iter().map(|reply| reply.call.0[0]).collect()
}

fn keys(storage: &dyn Storage) -> Vec<GrainKey> {
    let all = storage.list(&grain("a").kind, "", None, 10);
    all.unwrap().keys
}

/// Its replies are those from before and the one of the deletion, wherever they are: in the log, in an image, or some here and some there.
#[test]
fn a_vacancy_has_no_state_and_all_replies_and_is_not_listed() {
    for (reopen_first, reopen_last) in [(false, false), (true, false), (false, true), (true, true)] {
        each(|bench| {
            let name = grain("a");
            let (head, lsn) = append(bench.storage(), &replying(1, write(&name, None, 8, 1)));
            if reopen_first {
                wait_durable(bench.storage(), lsn);
                bench.reopen();
            }
            assert_eq!(keys(bench.storage()), std::slice::from_ref(&name.key));
            let (head, lsn) = append(bench.storage(), &replying(2, vacancy(&name, &head)));
            if reopen_last {
                wait_durable(bench.storage(), lsn);
                bench.reopen();
            }
            let stored = bench.storage().load(&name).unwrap().unwrap();
            assert!(stored.is_vacant() && !stored.exists() && !stored.deleted);
            assert_eq!((&stored.head, calls(&stored)), (&head, vec![1, 2]));
            assert_eq!(bench.storage().head(&name).unwrap(), Some(stored.stored_head()));
            let mut visited = Vec::new();
            let visit = bench
                .storage()
                .each(&mut |name, head| visited.push((name, head.vacant)));
            visit.unwrap();
            assert_eq!(visited, [(name.clone(), true)]);
            assert!(keys(bench.storage()).is_empty());
        });
    }
}

#[test]
fn a_vacancy_that_is_called_again_begins_with_the_modules_own_memory_and_keeps_its_replies() {
    for reopen in [false, true] {
        each(|bench| {
            let name = grain("a");
            let (head, _) = append(bench.storage(), &replying(1, write(&name, None, 8, 1)));
            let (head, lsn) = append(bench.storage(), &vacancy(&name, &head));
            if reopen {
                wait_durable(bench.storage(), lsn);
                bench.reopen();
            }
            let (_, mut lsn) = append(bench.storage(), &replying(2, write(&name, Some(&head), 64, 5)));
            for _ in 0..2 {
                let stored = bench.storage().load(&name).unwrap().unwrap();
                let memory = memory(&stored);
                assert_eq!((memory[8], memory[64], calls(&stored)), (0, 5, vec![1, 2]));
                assert!(stored.exists());
                assert_eq!(keys(bench.storage()), std::slice::from_ref(&name.key));
                wait_durable(bench.storage(), lsn);
                bench.reopen();
                lsn = Lsn(0);
            }
        });
    }
}

/// As soon as nobody needs the replies.
#[test]
fn of_a_vacancy_that_is_deleted_for_good_nothing_is_left() {
    each(|bench| {
        let name = grain("a");
        let (head, _) = append(bench.storage(), &replying(1, write(&name, None, 8, 1)));
        let (head, _) = append(bench.storage(), &replying(2, vacancy(&name, &head)));
        let (head, lsn) = append(bench.storage(), &commit(&name, Some(&head), Change::Delete));
        for _ in 0..2 {
            let stored = bench.storage().load(&name).unwrap().unwrap();
            assert!(stored.deleted && !stored.is_vacant() && stored.replies.is_empty());
            assert_eq!(stored.head, head);
            wait_durable(bench.storage(), lsn);
            bench.reopen();
        }
    });
}

/// The grain's next state may be of another module, and there is nothing to go back to.
#[test]
fn a_vacancy_is_no_state_from_before_a_move() {
    each(|bench| {
        let name = grain("a");
        let (head, _) = append(bench.storage(), &write(&name, None, 8, 1));
        let (head, _) = append(bench.storage(), &replying(2, vacancy(&name, &head)));
        let next = Commit {
            module: ModuleHash([9; 32]),
            revision: Revision(2),
            ..write(&name, Some(&head), 16, 3)
        };
        let (_, lsn) = append(bench.storage(), &next);
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        let stored = bench.storage().load(&name).unwrap().unwrap();
        let memory = memory(&stored);
        assert_eq!((memory[8], memory[16], calls(&stored)), (0, 3, vec![2]));
        assert!(bench.storage().load_before(&name).unwrap().is_none());
    });
}
