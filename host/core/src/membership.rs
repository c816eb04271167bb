//! Who is there: SWIM by foca, with what SWIM leaves out.
//!
//! Each host probes a random member every half second, and asks others to try when there is no answer. A member that
//! answers nobody is suspected, everybody hears of it, and unless it objects it's called down (Das, Gupta, Motivala: "SWIM",
//! 2002). foca does that part. This machine adds:
//!
//! - `Health`: a host that is in trouble itself gives others more time to object.
//! - `Timers`: time in which this host didn't run isn't counted against anybody.
//! - `Rejoin`: the missing are called until they are back, so every partition heals, one of two hosts included.
//! - `roll`: what gossip has dropped is found by comparing with a random member, and suspects are told that they are.
//! - a leave that can be told from a death, since it's part of the [`Identity`].
//! - [`View`]: who is there since when, as data, and each change of it as an output.
//! - [`Lives`]: which of several processes with one host's identity is believed; whoever isn't any more ends ([`Output::Superseded`]).
//! - a probe that got no answer, directly or through others, ends when that is clear, not when its period does.
//!
//! # Architecture invariants
//!
//! - A view is a hint: nothing that needs agreement is decided by it.
//! - For one host, what is known only moves to higher identities ([`Identity`]).
//! - A host never calls itself dead. When others do, it comes back under a higher identity and says so ([`Output::Renewed`]).
//! - What peers can fill is bounded: hosts by [`Settings::hosts_most`], datagrams by [`Settings::datagram_bytes`].
//!
//! **Not here:** sockets and certificates, who may join, what load a host has (it changes too fast for gossip), and the
//! configuration, which is agreed elsewhere.

mod event;
mod health;
mod identity;
mod inbox;
mod lives;
mod rejoin;
mod roll;
mod said;
#[cfg(test)]
mod tests;
mod timers;
mod view;
mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use foca::{Foca, NoCustomBroadcast, Timer};

pub use self::event::{Input, Output, Refusal, Settings};
use self::health::Health;
pub use self::identity::Identity;
pub use self::lives::{Doubt, Life, Lives, NoLife};
use self::rejoin::Rejoin;
use self::said::Said;
use self::timers::Timers;
pub use self::view::{Change, Seen, Standing, View};
use self::wire::Wire;
use crate::id::HostId;
use crate::rng::Rng;
use crate::time::Time;

/// A good-bye is said this often, in case one gets lost.
const GOODBYES: u8 = 4;
/// Between two good-byes.
const GOODBYE_NANOS: u64 = 100_000_000;
/// Deaths are passed on at once this often at most. Stops the death of half a cluster from causing a storm.
const ALARM_NANOS: u64 = 20_000_000;

/// The good-byes that are left, and when the next one is due.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    left: u8,
    at: Time,
}

/// One host's part in the membership. See the module's text.
pub struct Membership {
    settings: Settings,
    foca: Foca<Identity, Wire, Rng, NoCustomBroadcast>,
    wire: Wire,
    rng: Rng,
    timers: Timers,
    health: Health,
    view: View,
    rejoin: Rejoin,
    /// The running probe: whom, and its number, until it's answered.
    probing: Option<(HostId, u8)>,
    /// The next death may be passed on at once from here on.
    alarm_at: Time,
    /// When to compare with somebody.
    roll_at: Time,
    leaving: Option<Leaving>,
    gone: bool,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("identity", self.identity())
            .field("health", &self.health)
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// A member of `cluster` that knows nobody yet. `identity` has an incarnation that this host has never used before.
    pub fn new(now: Time, identity: Identity, cluster: &[u8], settings: Settings, seed: u64) -> Membership {
        let mut rng = Rng::new(seed);
        let wire = Wire::new(cluster);
        let foca_rng = Rng::new(rng.draw());
        Membership {
            foca: Foca::new(identity, settings.for_foca(), foca_rng, wire),
            wire,
            rng,
            timers: Timers::new(settings.late_nanos, settings.suspicion_nanos),
            health: Health::new(settings.score_most),
            view: View::default(),
            rejoin: Rejoin::new(now),
            probing: None,
            alarm_at: now,
            roll_at: now.plus_nanos(settings.roll_nanos),
            leaving: None,
            gone: false,
            settings,
        }
    }

    /// Takes one input and appends what is to be done, in order.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        if self.gone {
            return;
        }
        if self.timers.notice_sleep(now, self.health) {
            self.health.worsen();
        }
        match input {
            Input::Wake => {}
            Input::Received { from, datagram } => self.receive(now, from, &datagram, out),
            Input::Introduced { host, address } => self.introduce(now, host, address, out),
            Input::Configured(members) => self.rejoin.configure(members, self.settings.hosts_most),
            Input::Leave => self.leave(now, true, out),
            Input::Stop => self.leave(now, false, out),
        }
        if !self.gone {
            self.fire(now, out);
        }
    }

    /// When [`Input::Wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        if self.gone {
            return None;
        }
        if let Some(leaving) = self.leaving {
            return Some(leaving.at);
        }
        let call = self.rejoin.deadline().min(self.roll_at);
        Some(self.timers.deadline(self.health).map_or(call, |due| due.min(call)))
    }

    /// Who is there.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What this host is called now.
    pub fn identity(&self) -> &Identity {
        self.foca.identity()
    }

    /// 0 when this host has no reason to doubt itself, up to [`Settings::score_most`].
    pub fn health_score(&self) -> u8 {
        self.health.score()
    }

    fn introduce(&mut self, now: Time, host: HostId, address: SocketAddr, out: &mut Vec<Output>) {
        if host == self.identity().host || self.leaving.is_some() {
            return;
        }
        if self.view.member(host).is_none() {
            self.rejoin.introduce(now, host, address, self.settings.hosts_most);
        }
        if !self.view.is_active(host) {
            self.announce(now, host, address, out);
        }
    }

    fn leave(&mut self, now: Time, for_good: bool, out: &mut Vec<Output>) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(Leaving {
            left: GOODBYES,
            at: now,
        });
        let mut said = Said::default();
        // Neither can fail: the identity is another one, and a member fits a datagram.
        if for_good {
            let last = self.identity().left();
            let _ = self.foca.change_identity(last, Said::default());
        }
        let _ = self.foca.leave_cluster(&mut said);
        said.renewed = false;
        self.heed(now, said, out);
    }

    /// Does all that is due.
    fn fire(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.leaving.is_some() {
            return self.say_goodbye(now, out);
        }
        while let Some(timer) = self.timers.pop(now, self.health) {
            let ends_direct_probe = matches!(timer, Timer::SendIndirectProbe { .. });
            let mut said = Said::default();
            // An error here is foca's note that a probe's timers came in another order than it likes; it goes on.
            let _ = self.foca.handle_timer(timer, &mut said);
            self.heed(now, said, out);
            if ends_direct_probe && self.probing.is_some() {
                // Two round trips, ours to those who were asked and theirs to the member. Both at their worst would be a rare
                // bad luck, and each 75 ms more here delay the sight of every death by as much.
                self.timers.hasten_probe(now, self.settings.rtt_nanos * 3 / 2);
            }
        }
        if self.rejoin.deadline() <= now {
            self.call(now, out);
        }
        if self.roll_at <= now {
            self.compare(now, out);
        }
    }

    fn say_goodbye(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(leaving) = &mut self.leaving else { return };
        if leaving.at > now {
            return;
        }
        leaving.at = now.plus_nanos(GOODBYE_NANOS);
        leaving.left = leaving.left.saturating_sub(1);
        if leaving.left == 0 {
            self.gone = true;
            out.push(Output::Gone);
            return;
        }
        let mut said = Said::default();
        let _ = self.foca.gossip(&mut said);
        self.heed(now, said, out);
    }

    /// Calls the missing.
    fn call(&mut self, now: Time, out: &mut Vec<Output>) {
        self.rejoin.postpone(now, self.settings.rejoin_nanos);
        let me = self.identity().host;
        self.rejoin.forget(now, self.settings.forget_nanos);
        self.forget();
        let alone = self.view.active().next().is_none();
        if alone || self.rejoin.is_anyone_missing(me, &self.view) {
            out.extend(
                self.settings
                    .seeds
                    .iter()
                    .map(|seed| Output::Dial { seed: seed.clone() }),
            );
            for (host, address) in self.rejoin.missing(me, &self.view, self.settings.rejoin_members) {
                self.announce(now, host, address, out);
            }
        }
    }

    /// Forgets whom foca has forgotten, unless the configuration still names them.
    fn forget(&mut self) {
        if self.foca.iter_membership_state().len() < self.view.len() {
            let known: BTreeSet<_> = self
                .foca
                .iter_membership_state()
                .map(|member| member.id().host)
                .collect();
            self.view
                .forget(|host| known.contains(&host) || self.rejoin.is_configured(host));
        }
    }

    /// Tells a host that this one is here and asks whom it knows.
    fn announce(&mut self, now: Time, host: HostId, address: SocketAddr, out: &mut Vec<Output>) {
        let mut said = Said::default();
        // The answer depends on the host alone: which incarnation it has doesn't matter.
        let _ = self.foca.announce(Identity::new(host, 0, address), &mut said);
        self.heed(now, said, out);
    }

    /// Turns what foca said into outputs, timers, the score and the view.
    fn heed(&mut self, now: Time, said: Said, out: &mut Vec<Output>) {
        // The suspicion that a failed probe causes is submitted before the score rises by it.
        for (timer, after) in said.submitted {
            self.timers.submit(now, timer, after, self.health);
        }
        if let Some(probe) = said.pinged {
            self.probing = Some(probe);
        }
        if let Some(failed) = said.failed
            // That a suspect fails again says nothing new about this host.
            && self.view.standing(failed) == Some(Standing::Alive)
        {
            self.health.worsen();
        }
        if said.acked.is_some() && said.acked == self.probing {
            self.probing = None;
            self.health.improve();
        }
        out.extend(said.sent.into_iter().map(|(to, datagram)| Output::Send {
            to: to.host,
            address: to.address,
            datagram,
        }));
        if said.news {
            self.look(now, out);
        }
        if said.renewed {
            out.push(Output::Renewed {
                renewal: self.identity().renewal,
            });
            self.rejoin.hurry(now);
            // Those that it suspects may not know.
            self.roll_at = self.roll_at.min(now.plus_nanos(self.settings.hurried_roll_nanos));
        }
    }

    /// Brings the view up to what foca knows. A death is passed on at once rather than with the next round of gossip, which would
    /// take a tenth of a second at each step.
    fn look(&mut self, now: Time, out: &mut Vec<Output>) {
        let mut has_death = false;
        for member in self.foca.iter_membership_state() {
            if let Some(change) = self.view.see(now, member.id(), member.state()) {
                if change.was.is_none() {
                    // Where one is new, there may be more.
                    self.roll_at = self.roll_at.min(now.plus_nanos(self.settings.hurried_roll_nanos));
                }
                has_death |= change.is_death();
                out.push(Output::Changed(change));
            }
        }
        if has_death && self.alarm_at <= now && self.leaving.is_none() {
            self.alarm_at = now.plus_nanos(ALARM_NANOS);
            let mut said = Said::default();
            let _ = self.foca.gossip(&mut said);
            self.heed(now, said, out);
        }
    }
}
