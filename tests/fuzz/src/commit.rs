//! Commits, deltas and patches from any bytes: what the log and image files hold.

use granary_core::commit::{Change, Commit, Delta};
use granary_core::page::{PAGE_SIZE, Patches};

/// Memories are laid out up to this length only.
const MEMORY: usize = 16 * PAGE_SIZE;

/// A commit that is read is the same after being written and read again; its summary says the same; its patches, merged or one
/// after the other, make the same memory.
pub(crate) fn commit(bytes: &[u8]) {
    patches(bytes);
    let Ok(commit) = Commit::decode(bytes) else { return };
    let summary = Commit::summary(bytes).expect("the front of a sound commit is sound");
    assert_eq!(summary.grain, commit.grain);
    assert_eq!((summary.seq, summary.prev_hash), (commit.seq, commit.prev_hash));
    assert_eq!(summary.deletes, commit.change.deletes());
    let mut written = Vec::new();
    commit.encode(&mut written);
    assert!(written.len() <= bytes.len(), "what is written is the shortest form");
    let again = Commit::decode(&written).expect("what is written can be read");
    assert_eq!(again, commit);
    let mut twice = Vec::new();
    again.encode(&mut twice);
    assert_eq!(twice, written, "one commit has one form");
    if let Change::Delta(delta) = &commit.change {
        patches(delta.patches.as_bytes());
    }
}

fn patches(bytes: &[u8]) {
    let Ok(patches) = Patches::from_bytes(bytes) else {
        return;
    };
    assert_eq!(patches.as_bytes(), bytes);
    let delta = |patches: Patches| Delta {
        memory_len: MEMORY as u64,
        globals: Vec::new(),
        patches,
    };
    let merged = Delta::merge([&delta(patches.clone()), &delta(Patches::new())]).expect("there are two");
    let mut one = vec![0xa5; MEMORY];
    let mut other = one.clone();
    let results = (patches.apply(&mut one), merged.patches.apply(&mut other));
    assert_eq!(
        results.0.is_ok(),
        results.1.is_ok(),
        "a page is inside of the memory or it isn't"
    );
    if results.0.is_ok() {
        assert!(one == other, "merged patches make the same memory");
    }
    let stored = Patches::from_bytes(merged.patches.as_bytes()).expect("merged patches are sound");
    assert_eq!(stored.as_bytes(), merged.patches.as_bytes());
}
