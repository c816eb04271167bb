//! The lives of this host's activations in the cluster: opened when replicas have promised, told what becomes of their commits, over when another
//! takes over or they are let go.
//!
//! ```text
//! Waits -> Preparing -> Active -> over
//!   |          '-> refused: held by another host
//!   '- an earlier activation of the grain on this host has to end first
//! ```
//!
//! A *table* is a small state that no guest has (which revisions a type has). Each edit of one is an activation of its own: it reads what is
//! agreed, proposes what follows, and ends.
//!
//! **Not here:** ballots and quorums ([`proposer`]), turns and mailboxes ([`crate::activation`]).

use std::collections::{BTreeMap, VecDeque};

use super::event::{Edited, News, OpenError, Opened, Output};
use super::persistence::{Persistence, TABLE};
use super::protocols;
use crate::commit::NOTHING;
use crate::id::{Ballot, GrainId, HostId, Seq};
use crate::message::Token;
use crate::replication::messages::{Accepted, CommitHash, Payload, Proposal};
use crate::replication::proposer;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Activations {
    lives: BTreeMap<GrainId, Life>,
}

/// An activation.
#[derive(Debug)]
struct Life {
    token: Token,
    /// The state that was here when it began, by its hash.
    had: Option<CommitHash>,
    /// Once it's active.
    ballot: Option<Ballot>,
    phase: Phase,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waits,
    Preparing,
    Active,
}

#[derive(Debug)]
enum Kind {
    Grain,
    Table(Editing),
}

/// How far an edit of a table is.
#[derive(Debug)]
enum Editing {
    Reads,
    /// What follows this is being made.
    Edits(Option<Accepted>, Option<Vec<u8>>),
    /// It's proposed.
    Written(Seq, Vec<u8>),
    Done,
}

/// Where what an activation does goes: to the protocols, and out.
pub(super) struct Effects<'a> {
    pub(super) inputs: &'a mut VecDeque<protocols::Input>,
    pub(super) out: &'a mut Vec<Output>,
}

impl Effects<'_> {
    fn proposer(&mut self, grain: GrainId, input: proposer::Input) {
        self.inputs.push_back(protocols::Input::Grain { grain, input });
    }
}

impl Activations {
    /// How many there are, tables that are being edited included.
    pub fn len(&self) -> usize {
        self.lives.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lives.is_empty()
    }

    /// All of them.
    pub fn grains(&self) -> impl Iterator<Item = GrainId> {
        self.lives.keys().copied()
    }

    /// A grain is to be active here. `is_busy`: its proposer is still at work for an earlier activation.
    pub(super) fn open(
        &mut self,
        token: Token,
        grain: GrainId,
        had: Option<CommitHash>,
        is_busy: bool,
        to: &mut Effects<'_>,
    ) {
        self.begin(token, grain, had, is_busy, Kind::Grain, to);
    }

    /// A table is to be edited.
    pub(super) fn edit(
        &mut self,
        token: Token,
        table: GrainId,
        had: Option<CommitHash>,
        is_busy: bool,
        to: &mut Effects<'_>,
    ) {
        if self.lives.contains_key(&table) {
            let edited = Edited::Again;
            to.out.push(Output::Edited { token, edited });
            return;
        }
        self.begin(token, table, had, is_busy, Kind::Table(Editing::Reads), to);
    }

    fn begin(
        &mut self,
        token: Token,
        grain: GrainId,
        had: Option<CommitHash>,
        is_busy: bool,
        kind: Kind,
        to: &mut Effects<'_>,
    ) {
        let phase = if is_busy { Phase::Waits } else { Phase::Preparing };
        let life = Life {
            token,
            had,
            ballot: None,
            phase,
            kind,
        };
        self.lives.insert(grain, life);
        if !is_busy {
            to.inputs.push_back(protocols::Input::Activate { grain, have: had });
        }
    }

    pub(super) fn propose(&mut self, grain: GrainId, proposal: Proposal, to: &mut Effects<'_>) {
        if self.is_active(grain) {
            to.proposer(grain, proposer::Input::Propose(proposal));
        }
    }

    /// A later activation of this host is as good as another host's: what it has confirmed says nothing of what an earlier one has served.
    pub(super) fn read(&mut self, token: Token, grain: GrainId, (by, sees): (Ballot, Seq), to: &mut Effects<'_>) {
        if self.lives.get(&grain).is_some_and(|life| life.ballot == Some(by)) {
            let ticket = token.0;
            to.proposer(grain, proposer::Input::Read { ticket, sees });
        } else {
            let is_confirmed = false;
            to.out.push(Output::Confirmed { token, is_confirmed });
        }
    }

    pub(super) fn close(&mut self, grain: GrainId, heir: Option<HostId>, to: &mut Effects<'_>) {
        if self.lives.contains_key(&grain) {
            to.proposer(grain, proposer::Input::Release { to: heir });
        }
    }

    /// An activation is over at once, whatever it was doing.
    pub(super) fn drop_it(&mut self, grain: GrainId, to: &mut Effects<'_>) {
        if let Some(life) = self.lives.remove(&grain) {
            to.proposer(grain, proposer::Input::Release { to: None });
            life.end(to);
        }
    }

    /// What a table is to say.
    pub(super) fn rewritten(&mut self, table: GrainId, next: Option<Vec<u8>>, to: &mut Effects<'_>) {
        let Some(life) = self.lives.get_mut(&table) else { return };
        let Kind::Table(editing) = &mut life.kind else { return };
        let Editing::Edits(head, bytes) = editing else { return };
        match next {
            Some(next) => {
                let proposal = table_proposal(*head, &next);
                *editing = Editing::Written(proposal.seq, next);
                to.proposer(table, proposer::Input::Propose(proposal));
            }
            None => {
                let version = head.map_or(0, |head| head.seq.0);
                let edited = Edited::Done(version, bytes.take());
                life.edited(edited, to);
                self.close(table, None, to);
            }
        }
    }

    /// Does what an activation's proposer says.
    pub(super) fn hear(&mut self, grain: GrainId, said: proposer::Output, here: &Persistence, to: &mut Effects<'_>) {
        use proposer::Output as Said;
        match said {
            Said::ReadReady(ticket) => confirmed(ticket, true, to),
            Said::ReadRefused(ticket) => confirmed(ticket, false, to),
            Said::Fenced { .. } | Said::Released => self.ended(grain, to),
            Said::Held { holder, .. } => {
                if let Some(life) = self.lives.remove(&grain) {
                    life.refused(OpenError::Held(holder), to);
                }
            }
            Said::Active { ballot, head, state } => self.active(grain, Opened { ballot, head, state }, here, to),
            Said::Committed(seq) => self.committed(grain, seq, to),
            Said::Isolated => self.tell(grain, News::Isolated, to),
            Said::Reachable => self.tell(grain, News::Reachable, to),
            // Taken before it comes here.
            Said::Send { .. } | Said::NeedImage | Said::Behind(_) => {}
        }
    }

    fn is_active(&self, grain: GrainId) -> bool {
        self.lives.get(&grain).is_some_and(|life| life.phase == Phase::Active)
    }

    fn tell(&self, grain: GrainId, news: News, to: &mut Effects<'_>) {
        if let Some(Life {
            token,
            kind: Kind::Grain,
            ..
        }) = self.lives.get(&grain)
        {
            to.out.push(Output::News { token: *token, news });
        }
    }

    /// A proposer has ended: this activation's, or the one that it waits for.
    fn ended(&mut self, grain: GrainId, to: &mut Effects<'_>) {
        match self.lives.get_mut(&grain) {
            Some(life) if life.phase == Phase::Waits => {
                life.phase = Phase::Preparing;
                let have = life.had;
                to.inputs.push_back(protocols::Input::Activate { grain, have });
            }
            Some(_) => self.lives.remove(&grain).into_iter().for_each(|life| life.end(to)),
            None => {}
        }
    }

    fn active(&mut self, grain: GrainId, opened: Opened, here: &Persistence, to: &mut Effects<'_>) {
        if !is_known(grain, &opened, here) {
            return self.drop_it(grain, to);
        }
        let Some(life) = self.lives.get_mut(&grain) else { return };
        (life.phase, life.ballot) = (Phase::Active, Some(opened.ballot));
        let token = life.token;
        match &mut life.kind {
            Kind::Grain => {
                let state = opened.state.filter(|state| !state.deleted);
                let opened = Ok(Opened { state, ..opened });
                to.out.push(Output::Opened { token, opened });
            }
            Kind::Table(editing) => {
                let agreed = opened.head.and(opened.state.as_ref().or(here.table(grain)));
                let bytes = agreed.and_then(|state| Some(state.body.as_bytes().get(1..)?.to_vec()));
                *editing = Editing::Edits(opened.head, bytes.clone());
                let table = grain;
                to.out.push(Output::Edit { token, table, bytes });
            }
        }
    }

    fn committed(&mut self, grain: GrainId, seq: Seq, to: &mut Effects<'_>) {
        let Some(life) = self.lives.get_mut(&grain) else { return };
        match &mut life.kind {
            Kind::Grain => {
                let (token, news) = (life.token, News::Committed(seq));
                to.out.push(Output::News { token, news });
            }
            Kind::Table(Editing::Written(version, bytes)) if seq >= *version => {
                let edited = Edited::Done(version.0, Some(std::mem::take(bytes)));
                life.edited(edited, to);
                self.close(grain, None, to);
            }
            Kind::Table(_) => {}
        }
    }
}

impl Life {
    /// Tells whoever is behind it that it's over.
    fn end(self, to: &mut Effects<'_>) {
        match (self.token, &self.kind, self.phase) {
            (token, Kind::Grain, Phase::Active) => {
                let news = News::Over;
                to.out.push(Output::News { token, news });
            }
            _ => self.refused(OpenError::Over, to),
        }
    }

    fn refused(mut self, error: OpenError, to: &mut Effects<'_>) {
        let token = self.token;
        match &self.kind {
            Kind::Grain => {
                let opened = Err(error);
                to.out.push(Output::Opened { token, opened });
            }
            Kind::Table(Editing::Done) => {}
            Kind::Table(_) => self.edited(Edited::Again, to),
        }
    }

    fn edited(&mut self, edited: Edited, to: &mut Effects<'_>) {
        self.kind = Kind::Table(Editing::Done);
        let token = self.token;
        to.out.push(Output::Edited { token, edited });
    }
}

/// Whether the state that an activation begins with came with it, or is here. It may have been here when the activation began, and the slot
/// has gone to other hosts since.
fn is_known(grain: GrainId, opened: &Opened, here: &Persistence) -> bool {
    match opened.head.filter(|head| !head.deleted) {
        Some(head) if opened.state.is_none() => here.stored(grain).is_some_and(|stored| stored.same_state(&head)),
        _ => true,
    }
}

fn confirmed(ticket: u64, is_confirmed: bool, to: &mut Effects<'_>) {
    let token = Token(ticket);
    to.out.push(Output::Confirmed { token, is_confirmed });
}

/// A table's next version as a commit.
fn table_proposal(head: Option<Accepted>, bytes: &[u8]) -> Proposal {
    let (seq, prev_hash) = head.map_or((Seq(0), NOTHING), |head| (head.seq, head.hash));
    let body = [&[TABLE], bytes].concat();
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(&[&prev_hash[..], &body].concat()).as_bytes()[..16]);
    Proposal {
        seq: seq.next(),
        prev_hash,
        hash,
        deletes: false,
        payload: Payload::Full(body.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Lsn;
    use crate::replication::mutation::Rules;

    /// A later activation of the same host, with another host's between them, knows what the reader of the earlier one has not seen.
    #[test]
    fn a_read_is_confirmed_for_the_activation_that_served_it_only() {
        let grain = GrainId([1; 16]);
        let ballot = |counter| Ballot {
            counter,
            host: HostId([2; 16]),
            incarnation: 1,
        };
        let (mut inputs, mut out) = (VecDeque::new(), Vec::new());
        let here = Persistence::new(Lsn(0), Rules::default());
        let mut lives = Activations::default();
        let mut to = Effects {
            inputs: &mut inputs,
            out: &mut out,
        };
        for counter in [1, 3] {
            lives.open(Token(counter), grain, None, false, &mut to);
            let said = proposer::Output::Active {
                ballot: ballot(counter),
                head: None,
                state: None,
            };
            lives.hear(grain, said, &here, &mut to);
            if counter == 1 {
                lives.drop_it(grain, &mut to);
            }
        }
        to.out.clear();
        to.inputs.clear();
        lives.read(Token(10), grain, (ballot(1), Seq(0)), &mut to);
        let refused = Output::Confirmed {
            token: Token(10),
            is_confirmed: false,
        };
        assert_eq!((&to.out[..], to.inputs.len()), (&[refused][..], 0));
        lives.read(Token(11), grain, (ballot(3), Seq(0)), &mut to);
        assert_eq!((to.out.len(), to.inputs.len()), (1, 1), "this one is asked about");
    }
}
