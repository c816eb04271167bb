//! A grain's whole state on its way to another host: the record that storage keeps of a copy, so that whoever gets it writes it as
//! it comes.
//!
//! An empty body is the state of a deleted grain.

use granary_core::codec::DecodeError;
use granary_core::commit::{Change, Commit, Delta};
use granary_core::id::{GrainName, Lsn, Seq};
use granary_core::replication::body::Body;
use granary_core::replication::messages::State;

use crate::storage::Stored;

/// A stored grain as a state to be sent.
pub(super) fn state_of(grain: &GrainName, stored: &Stored) -> State {
    let head = &stored.head;
    let body = if stored.deleted {
        Body::default()
    } else {
        let parts = &stored.parts;
        let state = Delta::merge(parts).unwrap_or_default();
        let copy = Commit {
            grain: grain.clone(),
            ballot: head.ballot,
            seq: head.seq,
            prev_hash: [0; 16],
            module: head.module,
            revision: head.revision,
            change: Change::Whole {
                hash: head.hash,
                state: Some(state),
            },
            replies: stored.replies.iter().cloned().collect(),
        };
        let mut bytes = Vec::new();
        copy.encode(&mut bytes);
        bytes.into()
    };
    State {
        seq: head.seq,
        hash: head.hash,
        deleted: stored.deleted,
        body,
    }
}

/// The commit in a body, which must be of the number and hash that are said to come with it.
pub(super) fn commit_in(body: &Body, seq: Seq) -> Result<Commit, DecodeError> {
    let commit = Commit::decode(body.as_bytes())?;
    if commit.seq != seq {
        return Err(DecodeError {
            expected: "the commit of the number that it is sent for",
            bytes_left: 0,
        });
    }
    Ok(commit)
}

/// What an activation begins with.
pub(super) fn stored_of(state: &State) -> Result<Stored, DecodeError> {
    let copy = commit_in(&state.body, state.seq)?;
    let head = copy.head(state.hash);
    let mut replies = granary_core::reply_table::ReplyTable::new();
    copy.replies.into_iter().for_each(|reply| replies.insert(reply));
    let parts = match copy.change {
        Change::Whole { state: Some(delta), .. } => vec![delta],
        _ => Vec::new(),
    };
    Ok(Stored {
        head,
        deleted: state.deleted,
        parts,
        replies,
        lsn: Lsn(0),
    })
}
