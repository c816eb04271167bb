//! What goes wrong, and how it's mended.

use granary_core::id::GrainId;
use granary_core::membership::Standing;

use super::disk::File;
use super::host::Host;
use super::{Event, MILLI, Rule, SECOND, Whole};

/// Hosts of a run, those that are gone included.
const HOSTS_MOST: usize = 8;
/// So long after a host was lost no configuration is made any more that has it, unless the one before had.
const FORGOTTEN: u64 = 10 * SECOND;
/// Hosts at a time.
const RUNNING_MOST: usize = 5;

/// The end of a fault.
#[derive(Clone, Debug)]
pub(super) enum Mend {
    Start(usize),
    Join(Vec<(usize, usize)>),
    Quiet,
    /// The next fault, while this one lasts.
    Crash(usize),
}

impl Whole {
    pub(super) fn fault(&mut self) {
        let up: Vec<usize> = (0..self.hosts.len()).filter(|at| self.hosts[*at].is_up()).collect();
        let lasts = self.dice.between(300 * MILLI, 6 * SECOND);
        if let Some(at) = self.dice.pick(&up) {
            match self.dice.below(28) {
                0..=5 => self.crash(at, lasts),
                6..=9 => {
                    let others = (0..self.hosts.len()).filter(|other| *other != at);
                    self.cut(
                        "isolation",
                        others.flat_map(|other| [(at, other), (other, at)]).collect(),
                        lasts,
                    );
                }
                10..=11 => {
                    let other = self.dice.below(self.hosts.len() as u64) as usize;
                    self.cut("one way", vec![(at, other)], lasts);
                }
                12..=13 => {
                    self.coverage.count("fault", "loss");
                    self.loss_permille = 150;
                    self.push(lasts, Event::Mend(Mend::Quiet));
                }
                14..=15 => self.join(&up),
                16..=17 => self.leave(at, &up),
                18 => self.outage(&up),
                19..=20 => self.hand_over(at),
                21..=23 => self.slow_down(at, lasts),
                _ => self.evict(at),
            }
        }
        let pause = self.dice.between(300 * MILLI, 3 * SECOND);
        self.push(pause, Event::Fault);
    }

    fn crash(&mut self, at: usize, lasts: u64) {
        self.coverage.count("fault", "crash");
        self.lose_disk(at, 15);
        self.stop(at, lasts);
        self.repair(at, 90);
    }

    /// One of a host's files takes long to be synced, and now and then it crashes meanwhile.
    fn slow_down(&mut self, at: usize, lasts: u64) {
        self.coverage.count("fault", "slow disk");
        let file = if self.dice.percent(50) {
            File::Log
        } else {
            File::Journal
        };
        self.hosts[at].slow = (file, self.now.plus_nanos(lasts));
        if self.dice.percent(60) {
            // Just when the other file has been written anew.
            let (after, life) = (self.dice.between(0, lasts), self.hosts[at].incarnation);
            let is_long = true;
            self.push(after, Event::Tidy { at, life, is_long });
            let after = after + self.dice.between(MILLI, 30 * MILLI);
            self.push(after, Event::Mend(Mend::Crash(at)));
        }
    }

    /// Now and then a host comes back damaged, and repairing it means that a part of its memory is given up. It's another host then, that
    /// joins.
    fn repair(&mut self, at: usize, percent: u64) {
        if self.hosts[at].is_over || !self.is_whole() || !self.dice.percent(percent) || self.hosts.len() >= HOSTS_MOST {
            return;
        }
        if self.hosts[at].disk.lose_a_part(&mut self.dice) {
            self.coverage.count("fault", "repair");
            if self.broken_rule != Some(Rule::KeptIdentity) {
                self.hosts[at].end(self.now);
            }
        }
    }

    /// Now and then a host's disk is gone with it: two others have copies of all.
    fn lose_disk(&mut self, at: usize, percent: u64) {
        if self.is_whole() && self.dice.percent(percent) && self.hosts.len() < HOSTS_MOST {
            self.coverage.count("fault", "lost disk");
            self.hosts[at].end(self.now);
        }
    }

    /// What isn't synced is lost, but for what happened to be written.
    fn stop(&mut self, at: usize, lasts: u64) {
        self.hosts[at].crash(&mut self.dice);
        if !self.hosts[at].is_over {
            self.push(lasts, Event::Mend(Mend::Start(at)));
        }
    }

    /// All crash at once, and come back one after the other: nobody's membership knows who was there.
    fn outage(&mut self, up: &[usize]) {
        self.coverage.count("fault", "outage");
        if let Some(at) = self.dice.pick(up) {
            self.lose_disk(at, 50);
        }
        for at in up.iter().copied() {
            let lasts = self.dice.between(300 * MILLI, 6 * SECOND);
            self.stop(at, lasts);
        }
    }

    fn cut(&mut self, name: &'static str, cuts: Vec<(usize, usize)>, lasts: u64) {
        self.coverage.count("fault", name);
        self.cuts.extend(&cuts);
        self.push(lasts, Event::Mend(Mend::Join(cuts)));
    }

    fn join(&mut self, up: &[usize]) {
        if up.len() < RUNNING_MOST && self.hosts.len() < HOSTS_MOST {
            self.coverage.count("fault", "join");
            let at = self.hosts.len();
            self.hosts.push(Host::new(at as u8 + 1));
            self.start(at);
        }
    }

    /// A host says good-bye, and goes once nothing depends on it.
    fn leave(&mut self, at: usize, up: &[usize]) {
        if up.len() <= 3 || !self.is_whole() {
            return;
        }
        self.coverage.count("fault", "leave");
        self.hosts[at].end(self.now);
        let incarnation = self.hosts[at].incarnation;
        for viewer in up.iter().copied().filter(|viewer| *viewer != at) {
            self.see(viewer, at, Standing::Left, incarnation);
        }
    }

    fn hand_over(&mut self, at: usize) {
        let mine = self.idle(at);
        let (Some(grain), Some(config)) = (self.dice.pick(&mine), self.history.config().cloned()) else {
            return;
        };
        let replicas = config.replicas(granary_core::slot::Slot::of(grain));
        if let Some(to) = self.dice.pick(replicas).filter(|to| *to != self.hosts[at].id) {
            self.coverage.count("fault", "move");
            self.close(at, grain, Some(to));
        }
    }

    /// Activations that nobody calls leave memory.
    fn evict(&mut self, at: usize) {
        for grain in self.idle(at) {
            if self.dice.percent(50) {
                self.coverage.count("fault", "eviction");
                self.close(at, grain, None);
            }
        }
    }

    fn idle(&self, at: usize) -> Vec<GrainId> {
        let lives = self.hosts[at].lives.iter();
        lives
            .filter(|(_, life)| life.is_idle())
            .map(|(grain, _)| *grain)
            .collect()
    }

    /// Whether one host's disk may be lost: the configuration is settled with three copies of everything, all of whose hosts are up.
    fn is_whole(&self) -> bool {
        let Some(config) = self.history.config() else {
            return false;
        };
        let is_up = |member: &granary_core::config_chain::config::Member| {
            let host = &self.hosts[self.index(member.host)];
            !host.is_over && host.is_up()
        };
        let up = config.members.iter().filter(|member| is_up(member)).count();
        config.is_settled() && config.members.len() >= 4 && up + 1 >= config.members.len() && self.has_no_other_loss()
    }

    fn has_no_other_loss(&self) -> bool {
        let config = self.history.config().expect("asked with one");
        // A host that was about to join when it was lost may be in the next configuration all the same.
        let is_past = |host: &Host| config.member(host.id).is_none() && self.now.nanos_since(host.over_at) >= FORGOTTEN;
        self.hosts.iter().all(|host| !host.is_over || is_past(host))
    }

    pub(super) fn mend_one(&mut self, mend: Mend) {
        match mend {
            Mend::Start(at) if !self.hosts[at].is_up() && !self.hosts[at].is_over => self.start(at),
            Mend::Start(_) => {}
            Mend::Join(cuts) => {
                for cut in cuts {
                    if let Some(place) = self.cuts.iter().position(|known| *known == cut) {
                        self.cuts.swap_remove(place);
                    }
                }
            }
            Mend::Quiet => self.loss_permille = 5,
            Mend::Crash(at) => {
                if self.hosts[at].is_up() && !self.hosts[at].is_over {
                    let lasts = self.dice.between(300 * MILLI, 3 * SECOND);
                    self.coverage.count("fault", "crash with a slow disk");
                    self.stop(at, lasts);
                }
            }
        }
    }
}
