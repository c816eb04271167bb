//! What a turn leaves behind: a delta, and the commit that makes it a grain's next state.

use std::sync::Arc;

use crate::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::id::{Ballot, GrainKey, GrainName, GrainType, HostId, ModuleHash, Revision, Seq};
use crate::page::{PatchMerge, Patches};
use crate::reply_table::StoredReply;

/// What changed in an instance: the memory's length, all saved globals, and the changed ranges of its pages.
///
/// Over the module's base image when it is a grain's first commit or an image, over the commit before otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The linear memory's length in bytes, a multiple of 64 KiB. Never shrinks. 0 in a [vacancy](Delta::vacancy) only: a turn has left its
    /// result in memory.
    pub memory_len: u64,
    /// All mutable globals in the module's order, as raw bits.
    pub globals: Vec<u128>,
    /// Changed pages.
    pub patches: Patches,
}

impl Delta {
    /// No memory at all: the grain is as if it had never been called, but for the replies that it keeps for repeated calls. What comes next
    /// is over the module's base image.
    pub fn vacancy() -> Delta {
        Delta::default()
    }

    /// Whether it is [`vacancy`](Self::vacancy).
    pub fn is_vacancy(&self) -> bool {
        self.memory_len == 0
    }

    /// `first` and then `rest`, as one delta over what `first` was over. `None` when there are none.
    pub fn merge<'a>(deltas: impl IntoIterator<Item = &'a Delta>) -> Option<Delta> {
        let mut merge = PatchMerge::new();
        let mut last = None;
        for delta in deltas {
            if delta.is_vacancy() {
                // Of what was before, nothing is left.
                merge = PatchMerge::new();
            }
            merge.add(&delta.patches);
            last = Some(delta);
        }
        last.map(|delta| Delta {
            memory_len: delta.memory_len,
            globals: delta.globals.clone(),
            patches: merge.patches(),
        })
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.memory_len);
        put_varint(out, self.globals.len() as u64);
        for global in &self.globals {
            put_varint(out, *global);
        }
        put_bytes(out, self.patches.as_bytes());
    }

    /// Reads the stored form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Delta, DecodeError> {
        let memory_len = reader.varint()?;
        let count: usize = reader.varint()?;
        // No more than bytes are left: a damaged count must not reserve memory.
        let mut globals = Vec::with_capacity(count.min(reader.rest().len()));
        for _ in 0..count {
            globals.push(reader.varint128()?);
        }
        let patches = Patches::from_bytes(reader.bytes()?)?;
        Ok(Delta {
            memory_len,
            globals,
            patches,
        })
    }
}

/// Which commit of a grain this is and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The activation that made it.
    pub ballot: Ballot,
    /// The commit's number.
    pub seq: Seq,
    /// [`Commit::hash`] of this commit: names the state, as it covers the hash of the one before.
    pub hash: [u8; 16],
    /// The module whose memory this is.
    pub module: ModuleHash,
    /// That module's revision of the grain's type.
    pub revision: Revision,
}

/// What a commit does to its grain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The next state is the delta over the state before (over the base image after [`Change::Delete`], or at first).
    Delta(Delta),
    /// The grain is as if it had never been called; its numbering goes on.
    Delete,
    /// The state after another commit, of which this is a copy: it takes the place of whatever was there, and its number may be
    /// lower than the last one. Copies go from replica to replica; no turn makes one. Its ballot is the one under which this replica
    /// has accepted it.
    Whole {
        /// The hash of the commit whose state this is; zeros when nothing is left of the grain, not even that it was deleted
        /// ([`Commit::absence`]).
        hash: [u8; 16],
        /// The state, over the module's base image; `None` when the grain is deleted.
        state: Option<Delta>,
    },
}

impl Head {
    /// Whether it is that of an [absence](Commit::absence): no commit at all.
    pub fn is_nothing(&self) -> bool {
        self.hash == NOTHING
    }
}

impl Change {
    /// Whether there is no state after it.
    pub fn deletes(&self) -> bool {
        matches!(self, Change::Delete | Change::Whole { state: None, .. })
    }

    /// Whether the state after it is a [vacancy](Delta::vacancy).
    pub fn vacates(&self) -> bool {
        match self {
            Change::Delta(state) | Change::Whole { state: Some(state), .. } => state.is_vacancy(),
            Change::Delete | Change::Whole { state: None, .. } => false,
        }
    }
}

/// One grain's next state, as the log and the replicas hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Whose state.
    pub grain: GrainName,
    /// The activation that makes it.
    pub ballot: Ballot,
    /// Its number: one more than the commit before.
    pub seq: Seq,
    /// The hash of the commit before, zeros at first.
    pub prev_hash: [u8; 16],
    /// The module whose memory this is.
    pub module: ModuleHash,
    /// That module's revision of the grain's type.
    pub revision: Revision,
    /// What it does.
    pub change: Change,
    /// Replies that a repeated call gets, added by this commit.
    pub replies: Vec<Arc<StoredReply>>,
}

/// What storage has to know of a commit without reading what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose state.
    pub grain: GrainName,
    /// Its number.
    pub seq: Seq,
    /// The activation that made it.
    pub ballot: Ballot,
    /// The hash of the commit before.
    pub prev_hash: [u8; 16],
    /// The module whose memory this is.
    pub module: ModuleHash,
    /// That module's revision of the grain's type.
    pub revision: Revision,
    /// Whether there is no state after it.
    pub deletes: bool,
    /// Whether the state after it is a [vacancy](Delta::vacancy): the grain doesn't exist, and keeps replies.
    pub vacates: bool,
    /// Of a [`Change::Whole`], the hash of the commit whose state it is.
    pub copies: Option<[u8; 16]>,
}

impl Summary {
    /// The head of a grain whose last commit is this one, whose stored form hashes to `hash`.
    pub fn head(&self, hash: [u8; 16]) -> Head {
        Head {
            ballot: self.ballot,
            seq: self.seq,
            hash: self.copies.unwrap_or(hash),
            module: self.module,
            revision: self.revision,
        }
    }
}

/// The hash of no commit: what comes before a grain's first one.
pub const NOTHING: [u8; 16] = [0; 16];

/// The form's version, the first byte of every record.
const FORM: u8 = 1;

/// What stands before a change.
mod kind {
    pub(super) const DELTA: u8 = 0;
    pub(super) const DELETE: u8 = 1;
    pub(super) const WHOLE: u8 = 2;
    pub(super) const WHOLE_DELETED: u8 = 3;
    pub(super) const VACATE: u8 = 4;
    pub(super) const WHOLE_VACANT: u8 = 5;
}

impl Commit {
    /// Takes a grain out of a storage with all that is known of it: other hosts keep it now, or all have forgotten that it was deleted.
    pub fn absence(grain: GrainName) -> Commit {
        Commit {
            grain,
            ballot: Ballot::LEAST,
            seq: Seq(0),
            prev_hash: NOTHING,
            module: ModuleHash([0; 32]),
            revision: Revision(0),
            change: Change::Whole {
                hash: NOTHING,
                state: None,
            },
            replies: Vec::new(),
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORM);
        put_bytes(out, self.grain.kind.as_str().as_bytes());
        put_bytes(out, self.grain.key.as_str().as_bytes());
        put_varint(out, self.ballot.counter);
        out.extend_from_slice(&self.ballot.host.0);
        put_varint(out, self.ballot.incarnation);
        put_varint(out, self.seq.0);
        out.extend_from_slice(&self.prev_hash);
        out.extend_from_slice(&self.module.0);
        put_varint(out, self.revision.0);
        match &self.change {
            Change::Delta(delta) if delta.is_vacancy() => out.push(kind::VACATE),
            Change::Delta(delta) => {
                out.push(kind::DELTA);
                delta.encode(out);
            }
            Change::Delete => out.push(kind::DELETE),
            Change::Whole { hash, state } => {
                let state = state.as_ref();
                let vacant = state.is_some_and(Delta::is_vacancy);
                out.push(match state {
                    None => kind::WHOLE_DELETED,
                    Some(_) if vacant => kind::WHOLE_VACANT,
                    Some(_) => kind::WHOLE,
                });
                out.extend_from_slice(hash);
                if let Some(delta) = state.filter(|_| !vacant) {
                    delta.encode(out);
                }
            }
        }
        put_varint(out, self.replies.len() as u64);
        for reply in &self.replies {
            reply.encode(out);
        }
    }

    /// Reads the front of the stored form and stops before what the change holds.
    pub fn summary(bytes: &[u8]) -> Result<Summary, DecodeError> {
        decode_summary(&mut Reader::new(bytes))
    }

    /// Reads the stored form; all of `bytes` must be one commit.
    pub fn decode(bytes: &[u8]) -> Result<Commit, DecodeError> {
        let mut reader = Reader::new(bytes);
        let summary = decode_summary(&mut reader)?;
        let state = if summary.deletes {
            None
        } else if summary.vacates {
            Some(Delta::vacancy())
        } else {
            let delta = Delta::decode(&mut reader)?;
            if delta.is_vacancy() {
                return Err(reader.error("a memory's length, which isn't 0"));
            }
            Some(delta)
        };
        let change = match (summary.copies, state) {
            (None, None) => Change::Delete,
            (None, Some(delta)) => Change::Delta(delta),
            (Some(hash), state) => Change::Whole { hash, state },
        };
        let count: usize = reader.varint()?;
        let mut replies = Vec::with_capacity(count.min(reader.rest().len()));
        for _ in 0..count {
            replies.push(Arc::new(StoredReply::decode(&mut reader)?));
        }
        reader.finish()?;
        Ok(Commit {
            grain: summary.grain,
            ballot: summary.ballot,
            seq: summary.seq,
            prev_hash: summary.prev_hash,
            module: summary.module,
            revision: summary.revision,
            change,
            replies,
        })
    }

    /// The hash of a commit's stored form, which holds the hash of the one before: equal hashes mean equal histories.
    pub fn hash(encoded: &[u8]) -> [u8; 16] {
        let mut out = [0; 16];
        out.copy_from_slice(&blake3::hash(encoded).as_bytes()[..16]);
        out
    }

    /// The head of a grain whose last commit is this one, whose stored form hashes to `hash`.
    pub fn head(&self, hash: [u8; 16]) -> Head {
        let hash = match &self.change {
            Change::Whole { hash, .. } => *hash,
            Change::Delta(_) | Change::Delete => hash,
        };
        Head {
            ballot: self.ballot,
            seq: self.seq,
            hash,
            module: self.module,
            revision: self.revision,
        }
    }
}

/// All that comes before what the change holds.
fn decode_summary(reader: &mut Reader<'_>) -> Result<Summary, DecodeError> {
    let mut summary = Summary {
        grain: decode_name(reader)?,
        ballot: Ballot {
            counter: reader.varint()?,
            host: HostId(reader.array()?),
            incarnation: reader.varint()?,
        },
        seq: Seq(reader.varint()?),
        prev_hash: reader.array()?,
        module: ModuleHash(reader.array()?),
        revision: Revision(reader.varint()?),
        deletes: false,
        vacates: false,
        copies: None,
    };
    let kind = reader.byte()?;
    let is_copy = matches!(kind, kind::WHOLE | kind::WHOLE_DELETED | kind::WHOLE_VACANT);
    summary.deletes = matches!(kind, kind::DELETE | kind::WHOLE_DELETED);
    summary.vacates = matches!(kind, kind::VACATE | kind::WHOLE_VACANT);
    if !is_copy && !matches!(kind, kind::DELTA | kind::DELETE | kind::VACATE) {
        return Err(reader.error("0 to 5: what the commit does"));
    }
    if is_copy {
        summary.copies = Some(reader.array()?);
    }
    Ok(summary)
}

/// The form's version and the grain's name.
fn decode_name(reader: &mut Reader<'_>) -> Result<GrainName, DecodeError> {
    if reader.byte()? != FORM {
        return Err(reader.error("a record of form 1"));
    }
    let kind = GrainType::new(reader.text()?).map_err(|_| reader.error("a grain type"))?;
    let key = GrainKey::new(reader.text()?).map_err(|_| reader.error("a grain key"))?;
    Ok(GrainName::new(kind, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_summary_is_the_commits() {
        let hash = [8; 16];
        let nothing = Delta::vacancy();
        let left = Delta {
            memory_len: 1 << 16,
            ..Delta::default()
        };
        let whole = |state| Change::Whole { hash, state };
        let changes = [
            Change::Delete,
            Change::Delta(left.clone()),
            Change::Delta(nothing.clone()),
            whole(Some(left)),
            whole(Some(nothing.clone())),
            whole(None),
        ];
        for change in changes {
            let commit = Commit {
                grain: GrainName::new(GrainType::new("a").unwrap(), GrainKey::new("b").unwrap()),
                ballot: Ballot {
                    counter: 300,
                    host: HostId([1; 16]),
                    incarnation: 200,
                },
                seq: Seq(1000),
                prev_hash: [2; 16],
                module: ModuleHash([3; 32]),
                revision: Revision(4),
                change,
                replies: Vec::new(),
            };
            let mut bytes = Vec::new();
            commit.encode(&mut bytes);
            assert_eq!(Commit::decode(&bytes), Ok(commit.clone()));
            let summary = Summary {
                ballot: commit.ballot,
                seq: commit.seq,
                prev_hash: commit.prev_hash,
                module: commit.module,
                revision: commit.revision,
                grain: commit.grain.clone(),
                deletes: commit.change.deletes(),
                vacates: commit.change.vacates(),
                copies: matches!(commit.change, Change::Whole { .. }).then_some(hash),
            };
            assert_eq!(summary.head([9; 16]), commit.head([9; 16]));
            assert_eq!(Commit::summary(&bytes), Ok(summary));
        }
    }

    #[test]
    fn of_what_was_before_a_vacancy_nothing_is_left() {
        let delta = |byte| {
            let mut patches = Patches::new();
            patches.push_whole(byte, &[byte as u8; 4096]);
            Delta {
                memory_len: u64::from(byte) << 16,
                globals: vec![byte.into()],
                patches,
            }
        };
        let nothing = Delta::vacancy();
        assert_eq!(Delta::merge([&delta(1), &nothing]), Some(Delta::vacancy()));
        assert_eq!(Delta::merge([&delta(3), &nothing, &delta(2)]), Some(delta(2)));
    }
}
