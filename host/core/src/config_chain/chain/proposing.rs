//! When a voter proposes, what, and how it brings that to an end.
//!
//! **Not here:** what a proposer has to take over ([`crate::config_chain::decree`]).

use super::Chain;
use crate::config_chain::config::Config;
use crate::config_chain::decree::{Attempt, Choice};
use crate::config_chain::event::{Message, Output};
use crate::config_chain::roster::Wish;
use crate::config_chain::successor;
use crate::id::{Ballot, HostId};
use crate::time::Time;

/// A back-off doubles so often at most.
const DOUBLINGS_MOST: u32 = 3;

impl Chain {
    /// Goes on with an attempt, or begins one if it's time.
    pub(super) fn propose(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.attempt.is_some() {
            self.retry(now, out);
            return;
        }
        let Some(config) = self.config.as_ref().filter(|config| config.is_voter(self.settings.me)) else {
            return;
        };
        let wish = self.roster.wish(now, config, &self.settings);
        if !self.is_wanted(now, config, &wish) {
            self.wished_at = None;
            return;
        }
        let wished_at = *self.wished_at.get_or_insert(now);
        if self.turn_at(wished_at) <= now {
            self.begin(now, out);
        }
    }

    /// When [`Chain::propose`] may have something to begin.
    pub(super) fn proposal_due(&self, now: Time) -> Option<Time> {
        let config = self
            .config
            .as_ref()
            .filter(|config| config.is_voter(self.settings.me))?;
        if self.attempt.is_some() {
            return None;
        }
        let times = &self.settings.times;
        let wish = self.roster.wish(now, config, &self.settings);
        let turn = self.wished_at.map(|wished_at| self.turn_at(wished_at));
        let finish = self
            .acceptor
            .accepted()
            .map(|_| self.voted_at.plus_nanos(times.finish_nanos));
        let settle = self
            .all_served_at
            .filter(|_| !config.is_settled())
            .map(|at| at.plus_nanos(times.report_nanos));
        let join = wish.joins.then(|| self.known_at.plus_nanos(times.settle_nanos));
        let later = [finish, settle, join]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min();
        [wish.due, turn.map(|at| at.max(now)), later]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_wanted(&self, now: Time, config: &Config, wish: &Wish) -> bool {
        let times = &self.settings.times;
        let is_calm = self.all_served_at.is_some() || now >= self.known_at.plus_nanos(times.settle_nanos);
        let is_served = self
            .all_served_at
            .is_some_and(|at| now >= at.plus_nanos(times.report_nanos));
        let is_left = self.acceptor.accepted().is_some() && now >= self.voted_at.plus_nanos(times.finish_nanos);
        wish.leaves || (wish.joins && is_calm) || (is_served && !config.is_settled()) || is_left
    }

    /// When it's this voter's turn: those that seem to be there, lowest id first, those that go last.
    fn turn_at(&self, wished_at: Time) -> Time {
        let voters = self.config.iter().flat_map(|config| &config.voters);
        let rank = |host: HostId| (self.roster.leaves(host), host);
        let me = rank(self.settings.me);
        let before =
            voters.filter(|host| **host != self.settings.me && self.roster.answers(**host) && rank(**host) < me);
        let wait = before.count() as u64 * self.settings.times.stagger_nanos;
        wished_at.plus_nanos(wait).max(self.backed_off_to)
    }

    fn begin(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(config) = &self.config else { return };
        self.counter += 1;
        let ballot = Ballot {
            counter: self.counter,
            host: self.settings.me,
            incarnation: self.settings.incarnation,
        };
        self.attempt = Some(Attempt::new(ballot, config.voters.clone()));
        self.began_at = now;
        self.ask(now, out);
    }

    /// Asks those voters that haven't answered.
    fn ask(&mut self, now: Time, out: &mut Vec<Output>) {
        self.retry_at = now.plus_nanos(self.settings.times.retry_nanos);
        let Some(attempt) = &self.attempt else { return };
        let (of, ballot) = (self.number(), attempt.ballot());
        let message = match attempt.value().cloned() {
            None => Message::Prepare { of, ballot },
            Some(config) => Message::Accept { of, ballot, config },
        };
        let missing: Vec<HostId> = attempt.missing().collect();
        for voter in missing {
            self.send(voter, message.clone(), out);
        }
    }

    fn retry(&mut self, now: Time, out: &mut Vec<Output>) {
        if now < self.retry_at {
            return;
        }
        if now >= self.began_at.plus_nanos(self.settings.times.attempt_nanos) {
            self.back_off(now);
        } else {
            self.ask(now, out);
        }
    }

    /// Gives the attempt up, and waits longer each time.
    pub(super) fn back_off(&mut self, now: Time) {
        self.attempt = None;
        self.lost = (self.lost + 1).min(DOUBLINGS_MOST);
        let most = self.settings.times.stagger_nanos << self.lost;
        self.backed_off_to = now.plus_nanos(most / 4 + self.draw(most));
    }

    pub(super) fn promised(
        &mut self,
        now: Time,
        from: HostId,
        accepted: Option<(Ballot, Config)>,
        out: &mut Vec<Output>,
    ) {
        let choice = self
            .attempt
            .as_mut()
            .and_then(|attempt| attempt.promised(from, accepted));
        let value = match choice {
            None => return,
            Some(Choice::Bound(config)) => Some(config),
            Some(Choice::Free) => self.own_value(now),
        };
        match (value, &mut self.attempt) {
            (Some(config), Some(attempt)) => {
                attempt.propose(config);
                self.ask(now, out);
            }
            // Nothing to change any more, or hand-overs have to get on first.
            _ => self.back_off(now),
        }
    }

    fn own_value(&self, now: Time) -> Option<Config> {
        let config = self.config.as_ref()?;
        let wish = self.roster.wish(now, config, &self.settings);
        let changes = wish.joins || wish.leaves;
        let members = if changes { wish.members } else { config.members.clone() };
        let settles = self.all_served_at.is_some() && !config.is_settled();
        (changes || settles)
            .then(|| successor::successor(config, members, &self.served))
            .flatten()
    }

    pub(super) fn accepted(&mut self, now: Time, from: HostId, out: &mut Vec<Output>) {
        let Some(attempt) = &mut self.attempt else { return };
        if !attempt.accepted(from) {
            return;
        }
        let Some(decided) = attempt.value().cloned() else {
            return;
        };
        let before = self.config.iter().flat_map(|config| &config.members);
        let mut hosts: Vec<HostId> = before
            .chain(&decided.members)
            .map(|member| member.host)
            .chain(self.roster.alive())
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        self.learn(now, decided.clone(), out);
        let me = self.settings.me;
        for host in hosts.into_iter().filter(|host| *host != me) {
            self.send(host, Message::Decided(decided.clone()), out);
        }
    }
}
