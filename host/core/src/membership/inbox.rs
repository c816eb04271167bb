//! What the membership machine does with datagrams: who may have sent them, what they may bring in, and the roll's part.

use foca::{Member, State};

use super::identity::Identity;
use super::roll::{self, Roll};
use super::said::Said;
use super::{Membership, Output, Refusal, Seen, Standing};
use crate::id::HostId;
use crate::time::Time;

/// A death is news for so long.
const FRESH_NANOS: u64 = 60_000_000_000;

impl Membership {
    pub(super) fn receive(&mut self, now: Time, from: HostId, datagram: &[u8], out: &mut Vec<Output>) {
        if self.leaving.is_some() {
            // Who says good-bye has nothing more to hear; being told that it's called down, it would object.
            return;
        }
        let taken = if datagram.len() > self.settings.datagram_bytes {
            Err(Refusal::Malformed)
        } else if roll::is_roll(datagram) {
            self.take_roll(now, from, datagram, out)
        } else {
            self.take_gossip(now, from, datagram, out)
        };
        if let Err(reason) = taken {
            out.push(Output::Refused { from, reason });
        }
    }

    fn take_gossip(&mut self, now: Time, from: HostId, datagram: &[u8], out: &mut Vec<Output>) -> Result<(), Refusal> {
        let told = self.wire.told(datagram)?;
        self.check_sender(from, &told.sender)?;
        self.check_room(told.members.iter().map(|member| member.host).chain([from]))?;
        if self.is_superseded(told.members.iter().chain([&told.receiver]), out) {
            return Ok(());
        }
        let known = self.view.member(from).is_some_and(|seen| {
            let rank = (seen.incarnation, seen.renewal);
            seen.standing == Standing::Alive && rank == (told.sender.incarnation, told.sender.renewal)
        });
        let mut said = Said {
            news: !known || !told.members.is_empty(),
            ..Said::default()
        };
        let taken = self.foca.handle_data(datagram, &mut said);
        self.heed(now, said, out);
        taken.map_err(|_| Refusal::Malformed)
    }

    fn take_roll(&mut self, now: Time, from: HostId, datagram: &[u8], out: &mut Vec<Output>) -> Result<(), Refusal> {
        let (sender, roll) = roll::read(self.wire, datagram)?;
        self.check_sender(from, &sender)?;
        // Whom this host believes dead comes back by foca's rules.
        if !self.view.is_active(from) {
            return Ok(());
        }
        match roll {
            Roll::Ask { after, sum } if sum == 0 || sum != self.sum() => {
                let members = self.roll_after(now, after);
                out.push(Output::Send {
                    to: from,
                    address: sender.address,
                    datagram: roll::tell(self.wire, self.identity(), &members, self.settings.datagram_bytes),
                });
            }
            Roll::Ask { .. } => {}
            Roll::Tell { members, more } => {
                self.check_room(members.iter().map(|member| member.id().host))?;
                if self.is_superseded(members.iter().map(Member::id), out) {
                    return Ok(());
                }
                let last = members.last().map(|member| member.id().host);
                let mut said = Said {
                    news: true,
                    ..Said::default()
                };
                let _ = self.foca.apply_many(members.into_iter(), true, &mut said);
                self.heed(now, said, out);
                if let Some(after) = last.filter(|_| more) {
                    self.ask_roll(&sender, after, 0, out);
                }
            }
        }
        Ok(())
    }

    fn check_sender(&self, from: HostId, sender: &Identity) -> Result<(), Refusal> {
        let honest = sender.host == from && from != self.identity().host;
        if honest { Ok(()) } else { Err(Refusal::Impostor) }
    }

    fn check_room(&self, named: impl Iterator<Item = HostId>) -> Result<(), Refusal> {
        let strangers = named.filter(|host| self.view.member(*host).is_none()).count();
        let room = self.settings.hosts_most.saturating_sub(self.view.len());
        if strangers <= room {
            Ok(())
        } else {
            Err(Refusal::TooManyHosts)
        }
    }

    /// Whether others know a later start of this host than this one. They took that for the host, so this process no longer is.
    fn is_superseded<'a>(&mut self, named: impl Iterator<Item = &'a Identity>, out: &mut Vec<Output>) -> bool {
        let me = *self.identity();
        let later = named.filter(|other| other.host == me.host && other.incarnation > me.incarnation);
        let Some(by) = later.map(|other| other.incarnation).max() else {
            return false;
        };
        self.gone = true;
        out.push(Output::Superseded { by });
        true
    }

    /// What this host knows, in short.
    fn sum(&self) -> u64 {
        let me = self.identity();
        let others = self
            .view
            .active()
            .map(|seen| roll::part(seen.host, seen.incarnation, seen.renewal));
        others.fold(roll::part(me.host, me.incarnation, me.renewal), u64::wrapping_add)
    }

    /// Whom this host knows after `after`. The dead are named only while they are news: else two hosts would remind each other
    /// of them for ever.
    fn roll_after(&self, now: Time, after: HostId) -> Vec<Member<Identity>> {
        let states = self.foca.iter_membership_state();
        let mut members: Vec<_> = states
            .filter(|member| member.id().host > after)
            .filter(|member| {
                let seen = self.view.member(member.id().host);
                seen.is_some_and(|seen| seen.standing.is_active() || now.nanos_since(seen.since) < FRESH_NANOS)
            })
            .cloned()
            .collect();
        members.sort_by_key(|member| member.id().host);
        members
    }

    fn ask_roll(&self, whom: &Identity, after: HostId, sum: u64, out: &mut Vec<Output>) {
        out.push(Output::Send {
            to: whom.host,
            address: whom.address,
            datagram: roll::ask(self.wire, self.identity(), after, sum),
        });
    }

    /// Compares with somebody.
    pub(super) fn compare(&mut self, now: Time, out: &mut Vec<Output>) {
        self.roll_at = now.plus_nanos(self.settings.roll_nanos);
        let active: Vec<_> = self.view.active().map(Seen::identity).collect();
        if let Some(whom) = self.rng.choose(&active) {
            // 0 would ask for the roll in any case.
            self.ask_roll(whom, roll::START, self.sum().max(1), out);
        }
        self.accuse(out);
    }

    /// Tells suspects that they are suspected, so that they object.
    ///
    /// What foca says of a suspicion is said a bounded number of times, maybe while the suspect can't be reached; and
    /// when this host takes a new identity, foca drops the timers that would call suspects down. A suspect that goes on
    /// answering would stay one for ever.
    fn accuse(&self, out: &mut Vec<Output>) {
        let states = self.foca.iter_membership_state();
        let suspects = states.filter(|member| member.state() == State::Suspect);
        for suspect in suspects.take(self.settings.rejoin_members) {
            let to = suspect.id();
            let page = std::slice::from_ref(suspect);
            out.push(Output::Send {
                to: to.host,
                address: to.address,
                datagram: roll::tell(self.wire, self.identity(), page, self.settings.datagram_bytes),
            });
        }
    }
}
