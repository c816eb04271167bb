//! Whether what a peer sends as a state, or as a commit, is that. A replica that acknowledges what it can't store would make a quorum of
//! nothing, so it never gets to see it.

use super::event::PeerMessage;
use super::persistence::is_table;
use crate::commit::{Change, Commit, NOTHING};
use crate::id::{Ballot, GrainId};
use crate::replication::body::Body;
use crate::replication::messages::{Accepted, Answer, Ask, Handover, Message, Payload, State};

/// Whether all states and commits in a message can be stored as what they are said to be.
pub fn is_sound(message: &PeerMessage) -> bool {
    let PeerMessage::Replication(message) = message else {
        return true;
    };
    match message {
        Message::Ask {
            ask: Ask::Accept {
                grain,
                ballot,
                proposal,
            },
            ..
        } => match &proposal.payload {
            Payload::Same => true,
            Payload::Delta(body) | Payload::Full(body) => names(*grain, &proposal.accepted(*ballot), body),
        },
        Message::Answer {
            answer:
                Answer::Promise {
                    grain,
                    state: Some(state),
                    ..
                }
                | Answer::Fetched { grain, state, .. },
            ..
        } => is_state(*grain, state),
        Message::Handover(Handover::Pulled {
            grain, accepted, body, ..
        }) => names(*grain, accepted, body),
        Message::Ask { .. } | Message::Answer { .. } | Message::Handover(_) => true,
    }
}

fn is_state(grain: GrainId, state: &State) -> bool {
    let accepted = Accepted {
        ballot: Ballot::LEAST,
        seq: state.seq,
        hash: state.hash,
        deleted: state.deleted,
    };
    names(grain, &accepted, &state.body)
}

/// Whether a body is the commit, or the state after it, that is said to come with it.
pub(super) fn names(grain: GrainId, accepted: &Accepted, body: &Body) -> bool {
    if body.is_empty() || is_table(body) {
        return accepted.deleted == body.is_empty();
    }
    let Ok(commit) = Commit::decode(body.as_bytes()) else {
        return false;
    };
    let (hash, is_whole) = match commit.change {
        Change::Whole { hash, .. } => (hash, true),
        Change::Delta(_) | Change::Delete => (Commit::hash(body.as_bytes()), false),
    };
    let is_it = (commit.grain.id(), commit.seq, hash) == (grain, accepted.seq, accepted.hash);
    // A commit is proposed by its own activation only; a state may have been accepted by many.
    let is_own = is_whole || commit.ballot == accepted.ballot;
    is_it && is_own && hash != NOTHING && commit.change.deletes() == accepted.deleted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::Delta;
    use crate::config_chain::config::ConfigNumber;
    use crate::id::{GrainKey, GrainName, GrainType, Seq};
    use crate::replication::messages::Proposal;

    fn accept(change: impl FnOnce(&mut Proposal, &mut Vec<u8>)) -> PeerMessage {
        let name = GrainName::new(GrainType::new("t").unwrap(), GrainKey::new("k").unwrap());
        let ballot = Ballot {
            counter: 7,
            ..Ballot::LEAST
        };
        let commit = Commit {
            ballot,
            seq: Seq(4),
            change: Change::Delta(Delta::default()),
            ..Commit::absence(name.clone())
        };
        let mut bytes = Vec::new();
        commit.encode(&mut bytes);
        let mut proposal = Proposal {
            seq: commit.seq,
            prev_hash: NOTHING,
            hash: Commit::hash(&bytes),
            deletes: false,
            payload: Payload::Same,
        };
        change(&mut proposal, &mut bytes);
        proposal.payload = Payload::Delta(bytes.into());
        let (n, grain) = (ConfigNumber(1), name.id());
        let ask = Ask::Accept {
            grain,
            ballot,
            proposal,
        };
        PeerMessage::Replication(Message::Ask { n, ask })
    }

    #[test]
    fn a_commit_that_is_not_what_it_is_said_to_be_is_noticed() {
        assert!(is_sound(&accept(|_, _| {})));
        assert!(!is_sound(&accept(|_, bytes| bytes.truncate(20))), "cut");
        assert!(!is_sound(&accept(|_, bytes| bytes.push(0))), "longer");
        assert!(
            !is_sound(&accept(|proposal, _| proposal.seq = Seq(5))),
            "another number"
        );
        assert!(
            !is_sound(&accept(|proposal, _| proposal.hash = [1; 16])),
            "another hash"
        );
        assert!(!is_sound(&accept(|proposal, _| proposal.deletes = true)), "a deletion");
        assert!(!is_sound(&accept(|_, bytes| bytes.clear())), "nothing");
        let damaged = |proposal: &mut Proposal, bytes: &mut Vec<u8>| {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            proposal.hash = Commit::hash(bytes);
        };
        assert!(!is_sound(&accept(damaged)), "one that can't be read");
    }
}
