//! After the storm: all comes back that can, and then all has to be as it should be within a bound.

use granary_core::id::{GrainId, HostId};
use granary_core::slot::Slot;
use granary_core::time::Time;

use super::errands::Op;
use super::faults::Mend;
use super::{Event, SECOND, Whole};

/// A host that's gone for good is out of the configuration a minute later; then slots are handed over.
const HEALING_MOST: u64 = 150 * SECOND;
/// Until all know that a host has failed, and its leases are over.
const TAKEOVER: u64 = 15 * SECOND;
/// Of a request to a grain whose host has failed; the first may find what was.
const TRIES: usize = 4;
/// Between looks.
const LOOK: u64 = SECOND;

impl Whole {
    pub(super) fn mend(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.queue
            .retain(|_, event| !matches!(event, Event::Fault | Event::Mend(Mend::Quiet | Mend::Crash(_))));
        self.cuts.clear();
        self.loss_permille = 0;
        for at in 0..self.hosts.len() {
            if !self.hosts[at].is_up() && !self.hosts[at].is_over {
                self.start(at);
            }
        }
        let end = self.now.plus_nanos(HEALING_MOST);
        while self.broken.is_none() && !self.unserved().is_empty() {
            if self.now >= end {
                let left = self.unserved();
                self.hold(|_| {
                    Err(format!(
                        "slot coverage: after {HEALING_MOST} ns not all slots are served: {left}"
                    ))
                });
                return;
            }
            self.run_until(self.now.plus_nanos(LOOK));
        }
        // Hosts that have left aren't needed any longer.
        for at in 0..self.hosts.len() {
            if self.hosts[at].is_over && self.hosts[at].is_up() {
                self.hosts[at].crash(&mut self.dice);
            }
        }
        // Clients stop; each grain is called once, so that it's somewhere, and then has to be found by everybody.
        self.queue.retain(|_, event| !matches!(event, Event::Client(..)));
        self.errands.end();
        self.run_until(self.now.plus_nanos(5 * SECOND));
        self.grains.called().into_iter().for_each(|grain| self.find(grain));
        self.do_without_one();
    }

    /// **A quorum is enough:** when any one host fails, each grain has a copy that is whole among the others, and goes on.
    fn do_without_one(&mut self) {
        let up: Vec<usize> = (0..self.hosts.len())
            .filter(|at| self.hosts[*at].is_up() && !self.hosts[*at].is_over)
            .collect();
        let is_enough = self.history.config().is_some_and(|config| config.r >= 3);
        let Some(fails) = self.dice.pick(&up).filter(|_| self.broken.is_none() && is_enough) else {
            return;
        };
        self.coverage.count("fault", "one of all");
        self.hosts[fails].crash(&mut self.dice);
        self.run_until(self.now.plus_nanos(TAKEOVER));
        let others: Vec<usize> = up.into_iter().filter(|at| *at != fails).collect();
        for grain in self.grains.called() {
            let before = self.errands.acknowledged;
            for _ in 0..TRIES {
                let at = self.dice.pick(&others).expect("two are left at least");
                self.ask(at, grain, Op::Add);
                self.run_until(self.later());
                if self.errands.acknowledged > before || self.broken.is_some() {
                    break;
                }
            }
            let answers = self.errands.acknowledged > before;
            let gone = self.hosts[fails].id;
            self.hold(|_| match answers {
                true => Ok(()),
                false => Err(format!("a quorum is enough: {grain:?} doesn't answer without {gone:?}")),
            });
        }
    }

    /// What is missing until all slots are served by all their replicas; empty when nothing is.
    fn unserved(&self) -> String {
        let Some(config) = self.history.config() else {
            return "no configuration".to_owned();
        };
        for member in &config.members {
            let host = &self.hosts[self.index(member.host)];
            if host.is_over {
                return format!("{:?} is gone and still in configuration {}", member.host, config.n.0);
            }
            let known = host.cluster.as_ref().and_then(|cluster| cluster.protocols().config());
            if known != Some(config) {
                return format!("{:?} doesn't know configuration {}", member.host, config.n.0);
            }
        }
        if !config.is_settled() {
            return format!("configuration {} isn't settled", config.n.0);
        }
        for slot in Slot::all() {
            let here = config.slot(slot);
            for host in here.replicas.hosts() {
                let cluster = self.hosts[self.index(*host)].cluster.as_ref();
                let serves = cluster.and_then(|cluster| cluster.protocols().replicas().replica(slot)?.serves());
                if serves != Some(here.since) {
                    return format!("{host:?} doesn't serve {slot:?}");
                }
            }
        }
        String::new()
    }

    /// **Directory convergence:** every host finds the grain with one hop at most, all at the same host.
    fn find(&mut self, grain: GrainId) {
        if self.broken.is_some() {
            return;
        }
        let up: Vec<usize> = (0..self.hosts.len())
            .filter(|at| self.hosts[*at].is_up() && !self.hosts[*at].is_over)
            .collect();
        // The first may still find what was, and corrects it.
        for at in &up {
            self.ask(*at, grain, Op::Get);
            self.run_until(self.later());
        }
        let mut found: Vec<HostId> = Vec::new();
        for at in up {
            let errand = self.ask(at, grain, Op::Get);
            self.run_until(self.later());
            match self.reached(errand) {
                Some(reached) if reached.hops <= 1 && reached.was_active => found.push(reached.host),
                other => {
                    let host = self.hosts[at].id;
                    self.hold(|_| {
                        Err(format!(
                            "directory convergence: {host:?} asked for {grain:?}: {other:?}"
                        ))
                    });
                }
            }
        }
        found.dedup();
        if found.len() > 1 {
            self.hold(|_| Err(format!("directory convergence: {grain:?} is on {found:?}")));
        }
    }

    fn later(&self) -> Time {
        self.now.plus_nanos(2 * SECOND)
    }
}
