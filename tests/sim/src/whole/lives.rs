//! The activations of a simulated host: what they do for requests, and what they hear of their commits.

use std::collections::VecDeque;

use granary_core::cluster::{Input, News, OpenError, Opened};
use granary_core::commit::{Change, Commit, Delta, NOTHING};
use granary_core::id::{Ballot, GrainId, GrainName, HostId, Seq};
use granary_core::message::Token;
use granary_core::replication::messages::{CommitHash, Payload, Proposal};

use super::Whole;
use super::disk;
use super::errands::{Errand, Op};
use super::grains::Kind;
use super::history::Moment;

/// An activation.
#[derive(Debug)]
pub(super) struct Life {
    phase: Phase,
    is_isolated: bool,
    /// What was acknowledged when it asked for the grain.
    floor: Moment,
    ballot: Ballot,
    /// Its last commit.
    last: (Seq, CommitHash),
    moment: Moment,
    /// Requests that wait for the activation, or for the next one.
    waiting: Vec<u64>,
    /// Commits on their way, with their requests.
    proposed: VecDeque<(Seq, CommitHash, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Active,
    Closing,
}

/// An answer that waits until a quorum has said that this host still has the grain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    errand: u64,
    moment: Moment,
    ballot: Ballot,
}

impl Life {
    pub(super) fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// Whether nobody waits for it.
    pub(super) fn is_idle(&self) -> bool {
        self.is_active() && self.proposed.is_empty()
    }
}

impl Whole {
    /// A request has come to the host that is to answer it.
    pub(super) fn serve(&mut self, at: usize, grain: GrainId, errand: u64) {
        if let Some(life) = self.hosts[at].lives.get_mut(&grain) {
            match life.phase {
                Phase::Active => self.turn(at, grain, errand),
                Phase::Opening | Phase::Closing => life.waiting.push(errand),
            }
            return;
        }
        let life = Life {
            phase: Phase::Opening,
            is_isolated: false,
            floor: self.history.floor(grain),
            ballot: Ballot::LEAST,
            last: (Seq(0), NOTHING),
            moment: None,
            waiting: vec![errand],
            proposed: VecDeque::new(),
        };
        let host = &mut self.hosts[at];
        host.lives.insert(grain, life);
        let token = host.token();
        host.opened.insert(token, grain);
        let name = self.grains.name(grain).clone();
        self.give(at, Input::Open { token, name });
    }

    /// The activation does what a request wants.
    fn turn(&mut self, at: usize, grain: GrainId, errand: u64) {
        let Some(life) = self.hosts[at].lives.get(&grain) else {
            return;
        };
        if life.is_isolated {
            return;
        }
        let value = self.history.value(life.moment);
        let Errand { op, .. } = self.errands.of(errand);
        match (self.grains.kind(grain), op) {
            (Kind::Stored, Op::Add) => {
                if value.is_none() && life.last.0 > Seq(0) {
                    self.coverage.count("turn", "created again");
                }
                self.commit(at, grain, errand, Some(value.unwrap_or(0) + 1));
            }
            (Kind::Stored, Op::Delete) if value.is_some() => self.commit(at, grain, errand, None),
            // Nothing is committed: a quorum has to say that this is the state.
            _ => self.confirm(at, grain, errand),
        }
    }

    fn commit(&mut self, at: usize, grain: GrainId, errand: u64, value: Option<u128>) {
        let Some(life) = self.hosts[at].lives.get_mut(&grain) else {
            return;
        };
        let name = self.grains.name(grain).clone();
        let (proposal, hash) = proposal(name, life.ballot, life.last, value);
        self.history.propose(hash, life.moment, value);
        life.last = (proposal.seq, hash);
        life.moment = Some(hash);
        life.proposed.push_back((proposal.seq, hash, errand));
        self.give(at, Input::Propose { grain, proposal });
    }

    fn confirm(&mut self, at: usize, grain: GrainId, errand: u64) {
        let host = &mut self.hosts[at];
        let token = host.token();
        let Some(life) = host.lives.get(&grain) else { return };
        let (moment, ballot, sees) = (life.moment, life.ballot, life.last.0);
        let read = Read { errand, moment, ballot };
        host.reads.insert(token, read);
        let input = Input::Read {
            token,
            grain,
            by: ballot,
            sees,
        };
        self.give(at, input);
    }

    pub(super) fn confirmed(&mut self, at: usize, token: Token, is_confirmed: bool) {
        let read = self.hosts[at].reads.remove(&token);
        match read {
            Some(read) if is_confirmed => self.answered(read.errand, read.moment, read.ballot),
            _ => self.coverage.count("activation", "unconfirmed"),
        }
    }

    pub(super) fn opened(&mut self, at: usize, token: Token, opened: Result<Opened, OpenError>) {
        let grain = self.hosts[at].opened[&token];
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let name = match error {
                    OpenError::Held(_) => "held",
                    OpenError::Over => "over before it began",
                };
                self.coverage.count("activation", name);
                self.hosts[at].opened.remove(&token);
                self.hosts[at].lives.remove(&grain);
                return;
            }
        };
        self.coverage.count("activation", "active");
        let last = opened.head.map_or((Seq(0), NOTHING), |head| (head.seq, head.hash));
        let moment = self.history.moment(grain, last.1);
        let exists = opened.head.is_some_and(|head| !head.deleted);
        let state = opened.state.or_else(|| {
            let here = exists.then(|| self.hosts[at].disk.state(self.grains.name(grain)));
            here.flatten().filter(|state| state.hash == last.1)
        });
        let (value, known) = (state.as_ref().and_then(disk::value), self.history.value(moment));
        if exists && state.is_none() {
            // Another activation has committed here meanwhile, and it isn't decided yet.
            self.coverage.count("activation", "not what was promised");
            return self.close(at, grain, None);
        }
        if exists && value != known {
            self.hold(|_| {
                Err(format!(
                    "a state is its commits' : {grain:?} says {value:?} after {moment:?}, {known:?}"
                ))
            });
        }
        let Some(life) = self.hosts[at].lives.get_mut(&grain) else {
            return;
        };
        life.phase = Phase::Active;
        (life.ballot, life.last, life.moment) = (opened.ballot, last, moment);
        let (floor, waiting) = (life.floor, std::mem::take(&mut life.waiting));
        if self.grains.kind(grain) == Kind::Stored {
            self.hold(|world| world.history.knows(grain, moment, floor));
        }
        for errand in waiting {
            self.turn(at, grain, errand);
        }
    }

    pub(super) fn news(&mut self, at: usize, token: Token, news: News) {
        let grain = self.hosts[at].opened[&token];
        let Some(life) = self.hosts[at].lives.get_mut(&grain) else {
            return;
        };
        match news {
            News::Committed(seq) => {
                let ballot = life.ballot;
                let mut done = Vec::new();
                while let Some((_, hash, errand)) = life.proposed.pop_front_if(|(at, ..)| *at <= seq) {
                    done.push((Some(hash), errand));
                }
                let is_deleted = done.last().is_some_and(|(at, _)| self.history.value(*at).is_none());
                let is_idle = life.is_idle();
                for (moment, errand) in done {
                    self.answered(errand, moment, ballot);
                }
                if is_deleted && is_idle {
                    self.close(at, grain, None);
                }
            }
            News::Isolated => {
                self.coverage.count("activation", "isolated");
                life.is_isolated = true;
            }
            News::Reachable => {
                self.coverage.count("activation", "reachable");
                life.is_isolated = false;
            }
            News::Over => {
                self.coverage.count("activation", "over");
                self.hosts[at].opened.remove(&token);
                let life = self.hosts[at].lives.remove(&grain);
                for errand in life.into_iter().flat_map(|life| life.waiting) {
                    self.route(at, errand, None, Default::default());
                }
            }
        }
    }

    /// Ends an activation, for another host to take over if one is named.
    pub(super) fn close(&mut self, at: usize, grain: GrainId, to: Option<HostId>) {
        if let Some(life) = self.hosts[at].lives.get_mut(&grain) {
            life.phase = Phase::Closing;
            self.give(at, Input::Close { grain, to });
        }
    }
}

/// The next commit of an activation: the state says `value`, or the grain is deleted.
fn proposal(
    grain: GrainName,
    ballot: Ballot,
    (seq, prev_hash): (Seq, CommitHash),
    value: Option<u128>,
) -> (Proposal, CommitHash) {
    let change = match value {
        None => Change::Delete,
        Some(value) => Change::Delta(Delta {
            globals: vec![value],
            memory_len: 1 << 16,
            ..Delta::default()
        }),
    };
    let commit = Commit {
        ballot,
        seq: seq.next(),
        prev_hash,
        change,
        ..Commit::absence(grain)
    };
    let mut bytes = Vec::new();
    commit.encode(&mut bytes);
    let hash = Commit::hash(&bytes);
    let proposal = Proposal {
        seq: commit.seq,
        prev_hash,
        hash,
        deletes: value.is_none(),
        payload: Payload::Delta(bytes.into()),
    };
    (proposal, hash)
}
