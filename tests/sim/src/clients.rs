//! Clients: each does one thing after another, and doesn't give up easily.
//!
//! They add, read, and transfer from one grain to another: two steps, each retried until it's acknowledged, so that at the end all
//! transfers together have moved nothing into or out of the whole. A step keeps its name over all retries, on whatever host. Some grains
//! are deleted now and then; those have no part in transfers.
//!
//! **Not here:** what they may be told ([`crate::checkers`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use granary_core::id::{GrainId, HostId};

use crate::dice::Dice;
use crate::subject::{Action, Call, StepId};

/// A step under way.
#[derive(Clone, Copy, Debug)]
pub struct Current {
    /// What is asked, with the present attempt.
    pub call: Call,
    /// How much of the grain's history was known to clients when it began.
    pub floor: usize,
    /// It's half of a transfer: not given up.
    pub is_transfer: bool,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    id: u16,
    number: u32,
    todo: VecDeque<(GrainId, Action)>,
    /// What it waits for.
    pub current: Option<Current>,
    /// Who answered for a grain last.
    hints: BTreeMap<GrainId, HostId>,
}

impl Client {
    /// The client of this number.
    pub fn new(id: u16) -> Client {
        Client {
            id,
            number: 0,
            todo: VecDeque::new(),
            current: None,
            hints: BTreeMap::new(),
        }
    }

    /// Whether a transfer is half done.
    pub fn has_more(&self) -> bool {
        !self.todo.is_empty()
    }

    /// Begins the next step: the rest of a transfer, or something new out of `grains`, or of the `mortal` ones.
    pub fn begin(
        &mut self,
        grains: &[GrainId],
        mortal: &[GrainId],
        transfers: &mut BTreeSet<StepId>,
        dice: &mut Dice,
    ) -> Call {
        let rest = self.todo.pop_front();
        let (grain, action) = rest.unwrap_or_else(|| match dice.pick_if(20, mortal) {
            Some(grain) => (grain, live_or_die(dice)),
            None => self.invent(grains, dice),
        });
        let is_transfer = rest.is_some() || self.has_more();
        self.number += 1;
        let step = StepId {
            client: self.id,
            number: self.number,
        };
        if is_transfer {
            transfers.insert(step);
        }
        let call = Call {
            step,
            attempt: 0,
            grain,
            action,
        };
        self.current = Some(Current {
            call,
            floor: 0,
            is_transfer,
        });
        call
    }

    /// Begins a read of this grain.
    pub fn begin_read(&mut self, grain: GrainId) {
        self.number += 1;
        let step = StepId {
            client: self.id,
            number: self.number,
        };
        let call = Call {
            step,
            attempt: 0,
            grain,
            action: Action::Read,
        };
        self.current = Some(Current {
            call,
            floor: 0,
            is_transfer: false,
        });
    }

    fn invent(&mut self, grains: &[GrainId], dice: &mut Dice) -> (GrainId, Action) {
        // The first grain is hot.
        let one = |dice: &mut Dice| match dice.percent(30) {
            true => grains[0],
            false => dice.pick(grains).unwrap_or(grains[0]),
        };
        let (grain, amount) = (one(dice), dice.between(1, 1_000_000) as i64);
        match dice.below(10) {
            0..=3 => (grain, Action::Add(amount)),
            4..=6 => (grain, Action::Read),
            _ => {
                self.todo.push_back((one(dice), Action::Add(amount)));
                (grain, Action::Add(-amount))
            }
        }
    }

    /// Whom to ask: whoever answered last, mostly.
    pub fn choose(&self, grain: GrainId, hosts: &[HostId], dice: &mut Dice) -> Option<HostId> {
        let hint = self.hints.get(&grain).filter(|host| hosts.contains(host)).copied();
        hint.filter(|_| dice.percent(90)).or_else(|| dice.pick(hosts))
    }

    /// Notes who answers for a grain, or that nobody is known to.
    pub fn hint(&mut self, grain: GrainId, host: Option<HostId>) {
        match host {
            Some(host) => self.hints.insert(grain, host),
            None => self.hints.remove(&grain),
        };
    }
}

/// What is done to a grain that may be deleted.
fn live_or_die(dice: &mut Dice) -> Action {
    match dice.below(10) {
        0..=4 => Action::Add(dice.between(1, 1_000_000) as i64),
        5..=6 => Action::Read,
        _ => Action::Delete,
    }
}
