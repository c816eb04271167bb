//! How faults are done, and undone.

use super::{Event, HOST_LIMIT, Mend, Phase, World, name};
use crate::disk::Loss;
use crate::faults::Fault;
use crate::queue::{MICROS, MILLIS};
use crate::subject::{Authority, Input, Subject};

impl<S: Subject> World<S> {
    pub(super) fn mischief(&mut self) {
        if self.phase != Phase::Safety {
            return;
        }
        let after = Fault::pause(&mut self.dice);
        self.queue.put(after, Event::Fault);
        let fault = Fault::roll(&mut self.dice);
        let lasts = Fault::lasts(&mut self.dice);
        let members: Vec<usize> = (0..self.hosts.len()).filter(|at| !self.hosts[*at].gone).collect();
        let (Some(one), Some(other)) = (self.dice.pick(&members), self.dice.pick(&members)) else {
            return;
        };
        let victim = self.hosts[one].id;
        self.note(|| format!("fault: {} at {}, for {} ms", fault.name(), name(victim), lasts / MILLIS));
        let done = match fault {
            Fault::Crash if self.dice.percent(60) => {
                self.hosts[one].doomed = Some(lasts);
                self.hosts[one].runs()
            }
            Fault::Crash => self.crash_for(one, lasts),
            Fault::PowerLoss => members.iter().filter(|at| self.crash_for(**at, lasts)).count() > 0,
            Fault::Pause => self.pause_for(one, lasts),
            Fault::OneWay => self.cut_for(vec![(one, other)], lasts),
            Fault::Pair => self.cut_for(vec![(one, other), (other, one)], lasts),
            Fault::Isolation => {
                let ways = members.iter().flat_map(|peer| [(one, *peer), (*peer, one)]);
                self.cut_for(ways.collect(), lasts)
            }
            Fault::Split => {
                let (left, right): (Vec<usize>, Vec<usize>) = members.iter().partition(|_| self.dice.percent(50));
                let ways = left
                    .iter()
                    .flat_map(|a| right.iter().flat_map(move |b| [(*a, *b), (*b, *a)]));
                self.cut_for(ways.collect(), lasts)
            }
            Fault::Lossy => {
                self.network.loss = self.dice.below(150);
                self.network.doubles = self.dice.below(150);
                self.network.stragglers = self.dice.below(150);
                self.queue.put(lasts, Event::Mend(Mend::Network));
                true
            }
            Fault::SlowDisk => {
                self.hosts[one].sync_nanos = (10 * MILLIS, 300 * MILLIS);
                self.queue.put(lasts, Event::Mend(Mend::Disk(one)));
                true
            }
            Fault::Skew => self.skew(one),
            Fault::Join | Fault::Leave | Fault::Wipe => self.change_members(fault, one),
            Fault::Reshuffle => {
                self.adapt(true);
                true
            }
            Fault::Move => {
                let grain = self.dice.pick(&self.grains);
                let to = self.hosts[other].id;
                for at in members {
                    if let Some(grain) = grain {
                        self.feed(at, Input::Move { grain, to });
                    }
                }
                true
            }
        };
        if done {
            self.faults += 1;
            self.coverage.count("fault", fault.name());
        }
    }

    pub(super) fn crash_for(&mut self, at: usize, lasts: u64) -> bool {
        let ran = self.hosts[at].subject.is_some();
        if ran {
            self.end(at);
            self.queue.put(lasts, Event::Mend(Mend::Start(at)));
        }
        ran
    }

    /// The process ends, and what wasn't synced may be lost.
    pub(super) fn end(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.subject = None;
        host.life += 1;
        host.backlog.clear();
        host.paused = false;
        let id = host.id;
        let (loss, kept) = host.disk.crash(&mut self.dice);
        for stored in kept.iter().filter_map(S::stored) {
            self.checkers.stored(id, stored);
        }
        let loss = match loss {
            Loss::Nothing => "nothing-lost",
            Loss::Kept => "unsynced-kept",
            Loss::All => "unsynced-lost",
            Loss::Torn => "torn",
        };
        self.coverage.count("disk", loss);
        self.note(|| format!("{} ends: {loss}", name(id)));
    }

    fn pause_for(&mut self, at: usize, lasts: u64) -> bool {
        let runs = self.hosts[at].runs();
        if runs {
            self.hosts[at].paused = true;
            self.queue.put(lasts, Event::Mend(Mend::Resume(at)));
        }
        runs
    }

    fn cut_for(&mut self, mut ways: Vec<(usize, usize)>, lasts: u64) -> bool {
        ways.retain(|(from, to)| from != to && self.network.is_open(*from, *to));
        ways.iter().for_each(|(from, to)| self.network.cut(*from, *to));
        let any = !ways.is_empty();
        self.queue.put(lasts, Event::Mend(Mend::Ways(ways)));
        any
    }

    fn skew(&mut self, at: usize) -> bool {
        let now = self.queue.now();
        let host = &mut self.hosts[at];
        // Far more than a real clock's: up to 5 % fast or slow.
        host.clock.skew(now, 950_000 + self.dice.below(100_000));
        host.wake = None;
        self.set_alarm(at);
        true
    }

    fn change_members(&mut self, fault: Fault, at: usize) -> bool {
        let members = self.members().wanted.len();
        let may_join = self.plan.changes_members && self.hosts.len() < HOST_LIMIT;
        match fault {
            Fault::Join if may_join && members < 7 => self.add_host(),
            Fault::Leave if may_join && members > 3 && !self.hosts[at].leaving => self.hosts[at].leaving = true,
            Fault::Wipe if may_join && members > 3 && self.authority.may_lose(&self.members()) => {
                self.end(at);
                self.hosts[at].gone = true;
                self.lost.push(self.hosts[at].id);
                // Invariant 7: a wiped data folder is a new host.
                self.add_host();
            }
            _ => return false,
        }
        self.adapt(false);
        true
    }

    pub(super) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Start(at) => self.start(at),
            Mend::Resume(at) => {
                if !std::mem::replace(&mut self.hosts[at].paused, false) || self.hosts[at].subject.is_none() {
                    return;
                }
                self.hosts[at].wake = None;
                while let Some(input) = self.hosts[at].backlog.pop_front() {
                    self.feed(at, input);
                }
                self.set_alarm(at);
            }
            Mend::Ways(ways) => ways.iter().for_each(|(from, to)| self.network.mend(*from, *to)),
            Mend::Network => {
                (self.network.loss, self.network.doubles, self.network.stragglers) = (0, 0, 0);
            }
            Mend::Disk(at) => self.hosts[at].sync_nanos = (50 * MICROS, 400 * MICROS),
        }
    }

    pub(super) fn mend_all(&mut self) {
        self.network.heal();
        for at in 0..self.hosts.len() {
            self.mend(Mend::Disk(at));
            self.mend(Mend::Resume(at));
            self.mend(Mend::Start(at));
        }
    }
}
