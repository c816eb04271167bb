//! What the tests of replication share: short names for ballots, commits and hosts, and messages in short.

mod cluster;

use super::body::Body;
use super::messages::{Accepted, Answer, Ask, CommitHash, Handover, Message, Payload, Proposal, Refusal, State};
use super::replica_set::ReplicaSet;
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId, Seq};

pub(crate) fn host(number: u8) -> HostId {
    HostId([number; 16])
}

pub(crate) const GRAIN: GrainId = GrainId([7; 16]);

/// A ballot of host 1.
pub(crate) fn ballot(counter: u64) -> Ballot {
    ballot_of(counter, 1)
}

pub(crate) fn ballot_of(counter: u64, by: u8) -> Ballot {
    Ballot {
        counter,
        host: host(by),
        incarnation: 1,
    }
}

/// A commit's hash by a short name; 0 is the state before the first.
pub(crate) fn hash(name: u8) -> CommitHash {
    [name; 16]
}

/// Commit `seq` named `name` over the one named `prev`.
pub(crate) fn proposal(seq: u64, prev: u8, name: u8) -> Proposal {
    Proposal {
        seq: Seq(seq),
        prev_hash: hash(prev),
        hash: hash(name),
        deletes: false,
        payload: Payload::Delta(Body::from(vec![name])),
    }
}

pub(crate) fn tombstone(seq: u64, prev: u8, name: u8) -> Proposal {
    Proposal {
        deletes: true,
        ..proposal(seq, prev, name)
    }
}

/// Commit `seq` named `name`, accepted under the ballot `counter` of host 1.
pub(crate) fn accepted(counter: u64, seq: u64, name: u8) -> Accepted {
    Accepted {
        ballot: ballot(counter),
        seq: Seq(seq),
        hash: hash(name),
        deleted: false,
    }
}

pub(crate) fn state(seq: u64, name: u8) -> State {
    State {
        seq: Seq(seq),
        hash: hash(name),
        deleted: false,
        body: Body::from(vec![name]),
    }
}

pub(crate) fn set(n: u64, hosts: &[u8]) -> ReplicaSet {
    ReplicaSet {
        n: ConfigNumber(n),
        hosts: hosts.iter().map(|number| host(*number)).collect(),
    }
}

/// Ballot `3` of host 1, `3.2` of host 2.
pub(crate) fn show_ballot(ballot: Ballot) -> String {
    match ballot.host.0[0] {
        1 => format!("{}", ballot.counter),
        by => format!("{}.{by}", ballot.counter),
    }
}

fn show_accepted(accepted: Option<Accepted>) -> String {
    accepted.map_or("nothing".into(), |last| {
        let deleted = if last.deleted { "x" } else { "" };
        format!(
            "#{}{}{deleted}@{}",
            last.seq.0,
            (last.hash[0] + b'`') as char,
            show_ballot(last.ballot)
        )
    })
}

pub(crate) fn show_proposal(proposal: &Proposal) -> String {
    let payload = match proposal.payload {
        Payload::Same => "same",
        Payload::Delta(_) => "delta",
        Payload::Full(_) => "full",
    };
    let deletes = if proposal.deletes { "x" } else { "" };
    format!(
        "#{}{}{deletes} {payload}",
        proposal.seq.0,
        (proposal.hash[0] + b'`') as char
    )
}

fn show_refusal(refusal: Refusal) -> String {
    match refusal {
        Refusal::Promised(by) => format!("promised {}", show_ballot(by)),
        Refusal::BelowFloor(floor) => format!("below floor {}", show_ballot(floor)),
        Refusal::Sealed(n) => format!("sealed {n}"),
        Refusal::Behind(n) => format!("behind {n}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn show_ask(ask: &Ask) -> String {
    match ask {
        Ask::Prepare { ballot, .. } => format!("prepare {}", show_ballot(*ballot)),
        Ask::Accept { ballot, proposal, .. } => format!("accept {} {}", show_ballot(*ballot), show_proposal(proposal)),
        Ask::Confirm { stamp, grains, .. } => format!("confirm {} at {stamp}", grains.len()),
        Ask::Fetch { hash, .. } => hash.map_or("fetch any".to_owned(), |hash| {
            format!("fetch {}", (hash[0] + b'`') as char)
        }),
        Ask::Release { to, .. } => format!("release{}", to.map_or(String::new(), |to| format!(" to {}", to.0[0]))),
        Ask::Forget { ballot, .. } => format!("forget {}", show_ballot(*ballot)),
    }
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Promise {
            ballot,
            accepted,
            state,
            ..
        } => {
            let state = if state.is_some() { " with state" } else { "" };
            format!("promise {} {}{state}", show_ballot(*ballot), show_accepted(*accepted))
        }
        Answer::Busy { holder, left_ms, .. } => format!("busy {} {left_ms}ms", holder.0[0]),
        Answer::Acked { seq, .. } => format!("acked #{}", seq.0),
        Answer::NeedSnap { accepted, .. } => format!("need-snap {}", show_accepted(*accepted)),
        Answer::Fetched { state, .. } => format!("fetched #{}", state.seq.0),
        Answer::Confirmed { good, refused, .. } => {
            let refused: Vec<String> = refused
                .iter()
                .map(|(_, _, refusal)| format!(", {}", show_refusal(*refusal)))
                .collect();
            format!("confirmed {}{}", good.len(), refused.concat())
        }
        Answer::Nack { refusal, .. } => format!("nack {}", show_refusal(*refusal)),
    }
}

/// A message in a few words; an ask's or answer's configuration is left out.
pub(crate) fn show_message(message: &Message) -> String {
    match message {
        Message::Ask { ask, .. } => show_ask(ask),
        Message::Answer { answer, .. } => show_answer(answer),
        Message::Handover(Handover::Seal { n, oldest, .. }) => format!("seal {n} from {oldest}"),
        Message::Handover(Handover::Sealed { n, heads, more, .. }) => {
            let heads: Vec<String> = heads
                .iter()
                .map(|head| {
                    format!(
                        "{}/{}",
                        head.promised.map_or("-".into(), show_ballot),
                        show_accepted(head.accepted)
                    )
                })
                .collect();
            format!(
                "sealed {n} [{}]{}",
                heads.join(" "),
                if *more { " and more" } else { "" }
            )
        }
        Message::Handover(Handover::Pull { n, .. }) => format!("pull {n}"),
        Message::Handover(Handover::Pulled { accepted, .. }) => format!("pulled {}", show_accepted(Some(*accepted))),
    }
}
