//! What a turn leaves, from changed pages to the log's bytes and back.

use granary_core::commit::{Change, Commit, Delta};
use granary_core::id::{Ballot, GrainKey, GrainName, GrainType, HostId, ModuleHash, Revision, Seq};
use granary_core::page::{PAGE_SIZE, Page, Patches};

/// A counter's turn: a few bytes on each of four pages.
const PAGES: [u32; 4] = [1, 15, 16, 20];

pub(crate) fn commit(rounds: u64) -> u64 {
    let kind = GrainType::new("counter").expect("a name of letters is one");
    let key = GrainKey::new("alice").expect("letters are a key");
    let before: Page = [0; PAGE_SIZE];
    let mut after = before;
    let mut bytes = Vec::new();
    let mut steps = 0;
    for round in 1..=rounds {
        after[100..140].copy_from_slice(&[(round % 255) as u8 + 1; 40]);
        let mut patches = Patches::new();
        for index in PAGES {
            steps += u64::from(patches.push_changes(index, &before, &after));
        }
        let commit = Commit {
            grain: GrainName::new(kind.clone(), key.clone()),
            ballot: Ballot {
                counter: 1,
                host: HostId([3; 16]),
                incarnation: 1,
            },
            seq: Seq(round),
            prev_hash: [5; 16],
            module: ModuleHash([7; 32]),
            revision: Revision(1),
            change: Change::Delta(Delta {
                memory_len: 2 << 16,
                globals: vec![65_536],
                patches,
            }),
            replies: Vec::new(),
        };
        bytes.clear();
        commit.encode(&mut bytes);
        assert!(Commit::hash(&bytes) != [0; 16], "a hash of nothing");
        let read = Commit::decode(&bytes).expect("what was encoded can be read");
        assert_eq!(read.seq, commit.seq);
    }
    steps
}
