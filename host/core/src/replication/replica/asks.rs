//! How a replica answers what activations ask.
//!
//! What changes is a register (`register.rs`); here it's made durable, and the answer waits for that.

use super::{LoadFor, Output, Replica};
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId};
use crate::replication::messages::{Answer, Ask, CommitHash, Handover, Message, Proposal, Refusal, State};
use crate::replication::mutation::Mutation;
use crate::replication::record::Record;
use crate::replication::register::{Holder, Register, Step};
use crate::slot::Slot;
use crate::time::Time;

/// A Prepare's arguments.
struct Preparation {
    grain: GrainId,
    ballot: Ballot,
    have: Option<CommitHash>,
    wants_state: bool,
    preempts: bool,
}

impl Replica {
    pub(super) fn ask(&mut self, now: Time, from: HostId, n: ConfigNumber, ask: Ask, out: &mut Vec<Output>) {
        let admitted = self.admits(n);
        if let Err(Refusal::Behind(_)) = admitted {
            out.push(Output::Behind(n));
        }
        let (grain, ballot, answer) = match ask {
            Ask::Prepare {
                grain,
                ballot,
                have,
                wants_state,
                preempts,
            } => {
                let preparation = Preparation {
                    grain,
                    ballot,
                    have,
                    wants_state,
                    preempts,
                };
                (
                    grain,
                    ballot,
                    admitted.and_then(|()| self.prepare(now, from, n, preparation, out)),
                )
            }
            Ask::Accept {
                grain,
                ballot,
                proposal,
            } => (
                grain,
                ballot,
                admitted.and_then(|()| self.accept(now, from, n, grain, ballot, proposal, out)),
            ),
            Ask::Fetch { grain, ballot, hash } => {
                let load = LoadFor::Fetch(from, ballot, hash);
                (grain, ballot, admitted.and_then(|()| self.load(grain, load, out)))
            }
            Ask::Confirm { slot, stamp, grains } => {
                let answer = self.confirm_all(now, admitted, slot, stamp, grains);
                let message = Message::Answer { n, answer };
                out.push(Output::Send { to: from, message });
                return;
            }
            Ask::Release { grain, ballot, to } => {
                if admitted.is_ok() {
                    self.release(now, grain, ballot, to);
                }
                return;
            }
            Ask::Forget { grain, ballot, hash } => {
                if admitted.is_ok() {
                    self.forget(grain, ballot, hash, out);
                }
                return;
            }
        };
        if let Err(refusal) = answer {
            let answer = Answer::Nack { grain, ballot, refusal };
            out.push(Output::Send {
                to: from,
                message: Message::Answer { n, answer },
            });
        }
    }

    fn prepare(
        &mut self,
        now: Time,
        from: HostId,
        n: ConfigNumber,
        asked: Preparation,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let Preparation { grain, ballot, .. } = asked;
        self.check_room(grain)?;
        let until = now.plus_nanos(self.limits.lease_nanos);
        let mut register = self.grains.get(&grain).copied().unwrap_or_default();
        if let Some(holder) = register.held_against(from, now).filter(|_| !asked.preempts) {
            let left_ms = (holder.until.nanos_since(now) / 1_000_000) as u32;
            let answer = Answer::Busy {
                grain,
                ballot,
                holder: holder.host,
                left_ms,
            };
            out.push(Output::Send {
                to: from,
                message: Message::Answer { n, answer },
            });
            return Ok(());
        }
        let new = register.prepare(self.floor, ballot)?;
        if new && !self.rules.breaks(Mutation::ForgottenPromise) {
            register.ticket = self.persist(Record::Promise { grain, ballot }, out);
        }
        register.hear(ballot, until);
        self.grains.insert(grain, register);
        let unknown = register
            .accepted
            .filter(|last| !last.deleted && asked.have != Some(last.hash));
        if asked.wants_state && unknown.is_some() && self.load(grain, LoadFor::Promise(from, ballot), out).is_ok() {
            return Ok(());
        }
        self.promise(from, n, grain, ballot, None, out);
        Ok(())
    }

    fn promise(
        &mut self,
        to: HostId,
        n: ConfigNumber,
        grain: GrainId,
        ballot: Ballot,
        state: Option<State>,
        out: &mut Vec<Output>,
    ) {
        let Some(register) = self
            .grains
            .get(&grain)
            .filter(|register| register.promised == Some(ballot))
        else {
            return;
        };
        let accepted = register.accepted;
        // The register may have gone on since the state was read.
        let state = state.filter(|state| accepted.is_some_and(|last| last.hash == state.hash));
        let answer = Answer::Promise {
            grain,
            ballot,
            accepted,
            state,
        };
        self.send_after(register.ticket, to, Message::Answer { n, answer }, out);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "an Accept has that many, and a struct for one caller would name them twice"
    )]
    fn accept(
        &mut self,
        now: Time,
        from: HostId,
        n: ConfigNumber,
        grain: GrainId,
        ballot: Ballot,
        proposal: Proposal,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        self.check_room(grain)?;
        let mut register = self.grains.get(&grain).copied().unwrap_or_default();
        let step = register.accept(self.floor, ballot, &proposal, self.rules)?;
        if step == Step::Gap {
            let answer = Answer::NeedSnap {
                grain,
                ballot,
                accepted: register.accepted,
            };
            out.push(Output::Send {
                to: from,
                message: Message::Answer { n, answer },
            });
            return Ok(());
        }
        if step == Step::Taken {
            register.ticket = self.persist(
                Record::Accept {
                    grain,
                    ballot,
                    proposal,
                },
                out,
            );
        }
        register.hear(ballot, now.plus_nanos(self.limits.lease_nanos));
        self.grains.insert(grain, register);
        if let Some(last) = register.accepted {
            let answer = Answer::Acked {
                grain,
                ballot,
                seq: last.seq,
                hash: last.hash,
            };
            self.send_after(register.ticket, from, Message::Answer { n, answer }, out);
        }
        Ok(())
    }

    /// What has a limit is cut off: the asker asks for less at a time.
    fn confirm_all(
        &mut self,
        now: Time,
        admitted: Result<(), Refusal>,
        slot: Slot,
        stamp: u64,
        grains: Vec<(GrainId, Ballot)>,
    ) -> Answer {
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for (grain, ballot) in grains.into_iter().take(self.limits.page) {
            match admitted.and_then(|()| self.confirm(now, grain, ballot)) {
                Ok(()) => good.push((grain, ballot)),
                Err(refusal) => refused.push((grain, ballot, refusal)),
            }
        }
        Answer::Confirmed {
            slot,
            stamp,
            good,
            refused,
        }
    }

    /// A deleted grain goes, and leaves its promise to the floor.
    fn forget(&mut self, grain: GrainId, ballot: Ballot, hash: CommitHash, out: &mut Vec<Output>) {
        let register = self.grains.get(&grain);
        if register.is_some_and(|register| register.forgets(ballot, hash)) {
            self.grains.remove(&grain);
            self.floor = self.floor.max(Some(ballot));
            self.persist(Record::Forget { grain, floor: ballot }, out);
        }
    }

    fn confirm(&mut self, now: Time, grain: GrainId, ballot: Ballot) -> Result<(), Refusal> {
        self.check_room(grain)?;
        let mut register = self.grains.get(&grain).copied().unwrap_or_default();
        register.confirms(self.floor, ballot)?;
        register.hear(ballot, now.plus_nanos(self.limits.lease_nanos));
        self.grains.insert(grain, register);
        Ok(())
    }

    fn release(&mut self, now: Time, grain: GrainId, ballot: Ballot, to: Option<HostId>) {
        let until = now.plus_nanos(self.limits.handoff_nanos);
        if let Some(register) = self.grains.get_mut(&grain)
            && register.holder.is_some_and(|holder| holder.ballot == ballot)
        {
            register.holder = to.map(|host| Holder { ballot, host, until });
            if *register == Register::default() {
                self.grains.remove(&grain);
            }
        }
    }

    /// Whether one more grain, and one more answer that waits, have room.
    fn check_room(&self, grain: GrainId) -> Result<(), Refusal> {
        let grows = !self.grains.contains_key(&grain);
        if self.waiting_count >= self.limits.waiting || (grows && self.grains.len() >= self.limits.grains) {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// Has a grain's state read for somebody.
    fn load(&mut self, grain: GrainId, load: LoadFor, out: &mut Vec<Output>) -> Result<(), Refusal> {
        if self.loads.values().map(Vec::len).sum::<usize>() >= self.limits.loads {
            return Err(Refusal::Full);
        }
        let waiting = self.loads.entry(grain).or_default();
        if !waiting.contains(&load) {
            waiting.push(load);
            out.push(Output::Load { grain });
        }
        Ok(())
    }

    /// A state is wanted by a replica that takes over.
    pub(in crate::replication) fn load_to_pull(
        &mut self,
        from: HostId,
        n: ConfigNumber,
        grain: GrainId,
        out: &mut Vec<Output>,
    ) {
        // Full: it's asked again.
        let _ = self.load(grain, LoadFor::Pull(from, n), out);
    }

    pub(super) fn loaded(&mut self, grain: GrainId, state: Option<State>, out: &mut Vec<Output>) {
        for load in self.loads.remove(&grain).unwrap_or_default() {
            match (load, &state) {
                (LoadFor::Promise(to, ballot), _) => {
                    if let Some(n) = self.serves() {
                        self.promise(to, n, grain, ballot, state.clone(), out);
                    }
                }
                (LoadFor::Fetch(to, ballot, hash), Some(state)) if hash.is_none_or(|hash| state.hash == hash) => {
                    if let Some(n) = self.serves() {
                        let answer = Answer::Fetched {
                            grain,
                            ballot,
                            state: state.clone(),
                        };
                        out.push(Output::Send {
                            to,
                            message: Message::Answer { n, answer },
                        });
                    }
                }
                (LoadFor::Pull(to, n), Some(state)) => self.pulled_state(to, n, grain, state, out),
                // It has gone on, or can't be read: whoever wants it asks again.
                (LoadFor::Fetch(..), _) | (LoadFor::Pull(..), None) => {}
            }
        }
    }

    fn pulled_state(&mut self, to: HostId, n: ConfigNumber, grain: GrainId, state: &State, out: &mut Vec<Output>) {
        let Some(register) = self.grains.get(&grain) else {
            return;
        };
        if let Some(accepted) = register.accepted.filter(|last| last.hash == state.hash) {
            let (slot, body) = (self.slot, state.body.clone());
            let message = Message::Handover(Handover::Pulled {
                slot,
                n,
                grain,
                accepted,
                body,
            });
            self.send_after(register.ticket, to, message, out);
        }
    }
}
