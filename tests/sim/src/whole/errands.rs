//! Clients, what they want, and their requests' ways through the cluster.

use std::collections::BTreeMap;

use granary_core::cluster::{Edited, Input};
use granary_core::id::{Ballot, GrainId, HostId};
use granary_core::message::Token;
use granary_core::routing::{self, HOPS_MOST, Travel};

use super::grains::{Kind, policy};
use super::history::Moment;
use super::{Event, MILLI, Whole};

/// Clients.
pub(super) const CLIENTS: usize = 8;
/// A host notices after this that a request couldn't be sent.
const UNREACHABLE: u64 = 500 * MILLI;
/// A client asks again after this.
const PATIENCE: u64 = 1_500 * MILLI;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Delete,
    Get,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand {
    pub(super) grain: GrainId,
    pub(super) op: Op,
    /// The host that was asked.
    origin: usize,
    /// What was acknowledged when it was asked.
    pub(super) floor: Moment,
    /// Who had answered last by then, of a volatile grain.
    pub(super) answered: Option<Ballot>,
    travel: Travel,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) host: HostId,
    pub(super) hops: u8,
    pub(super) was_active: bool,
}

/// Requests of clients.
#[derive(Debug, Default)]
pub(super) struct Errands {
    next: u64,
    /// Which request each client waits for.
    of_clients: BTreeMap<usize, u64>,
    all: BTreeMap<u64, Errand>,
    reached: BTreeMap<u64, Reached>,
    /// Edits of tables: whose, by host and token, and how long the table was.
    edits: BTreeMap<(usize, Token), (u64, usize)>,
    pub(super) acknowledged: u64,
}

impl Errands {
    /// Nobody asks again.
    pub(super) fn end(&mut self) {
        self.of_clients.clear();
    }

    pub(super) fn of(&self, errand: u64) -> Errand {
        self.all[&errand]
    }
}

impl Whole {
    /// A client's next request, if it still waits for what it did when this was planned.
    pub(super) fn client(&mut self, client: usize, waits: Option<u64>) {
        if self.errands.of_clients.get(&client).copied() != waits {
            return;
        }
        self.errands.of_clients.remove(&client);
        let up: Vec<usize> = (0..self.hosts.len()).filter(|at| self.hosts[*at].is_up()).collect();
        if let Some(at) = self.dice.pick(&up) {
            let errand = self.next_errand(at);
            self.errands.of_clients.insert(client, errand);
        }
        let waits = self.errands.of_clients.get(&client).copied();
        self.push(PATIENCE, Event::Client(client, waits));
    }

    fn next_errand(&mut self, at: usize) -> u64 {
        let (grains, tables) = (self.grains.called(), self.grains.tables());
        if self.dice.percent(6) {
            let table = self.dice.pick(&tables).expect("there are tables");
            return self.edit(at, table);
        }
        let grain = self.dice.pick(&grains).expect("there are grains");
        let op = match self.dice.below(20) {
            0..=11 => Op::Add,
            12..=14 => Op::Delete,
            _ => Op::Get,
        };
        self.ask(at, grain, op)
    }

    fn errand(&mut self, at: usize, grain: GrainId, op: Op) -> u64 {
        self.errands.next += 1;
        let errand = Errand {
            grain,
            op,
            origin: at,
            floor: self.history.floor(grain),
            answered: self.history.answered(grain),
            travel: Travel::default(),
        };
        self.errands.all.insert(self.errands.next, errand);
        self.errands.next
    }

    /// A new request for a grain, at a host.
    pub(super) fn ask(&mut self, at: usize, grain: GrainId, op: Op) -> u64 {
        let errand = self.errand(at, grain, op);
        self.route(at, errand, None, Travel::default());
        errand
    }

    /// Where a request was served.
    pub(super) fn reached(&self, errand: u64) -> Option<Reached> {
        self.errands.reached.get(&errand).copied()
    }

    pub(super) fn route(&mut self, at: usize, number: u64, from: Option<HostId>, travel: Travel) {
        if travel.hops > HOPS_MOST {
            self.hold(|_| Err(format!("a request is passed on at most {HOPS_MOST} times: {travel:?}")));
        }
        let Some(errand) = self.errands.all.get_mut(&number) else {
            return;
        };
        errand.travel = travel;
        let grain = errand.grain;
        let errand = routing::Errand {
            token: Token(number),
            grain,
            policy: policy(grain),
            from,
            travel,
        };
        self.give(at, Input::Route(routing::Input::Request(errand)));
    }

    pub(super) fn way(&mut self, at: usize, way: routing::Output) {
        match way {
            routing::Output::Serve { token, .. } => self.served(at, token.0),
            routing::Output::Forward { token, to, travel } => {
                self.coverage.count("way", "forward");
                let there = self.index(to);
                let errand = token.0;
                let (to, from, travel, delay) = if self.hosts[there].is_up() && self.passes(at, there) {
                    let delay = self.dice.between(200_000, MILLI);
                    (there, Some(self.hosts[at].id), travel, delay)
                } else {
                    // The host finds that it can't send, and looks for another way.
                    let travel = Travel {
                        tried: Some(to),
                        ..Travel::default()
                    };
                    (at, None, travel, UNREACHABLE)
                };
                let event = Event::Errand {
                    to,
                    from,
                    errand,
                    travel,
                };
                self.push(delay, event);
            }
            routing::Output::Refuse { .. } => self.coverage.count("way", "refuse"),
            routing::Output::Directory(_) => {}
        }
    }

    fn served(&mut self, at: usize, errand: u64) {
        self.coverage.count("way", "serve");
        let Errand { grain, travel, .. } = self.errands.of(errand);
        let host = &self.hosts[at];
        let reached = Reached {
            host: host.id,
            hops: travel.hops,
            was_active: host.lives.get(&grain).is_some_and(|life| life.is_active()),
        };
        self.errands.reached.insert(errand, reached);
        self.serve(at, grain, errand);
    }

    /// A request is answered by an activation that has `ballot`, out of the state at `moment`.
    pub(super) fn answered(&mut self, errand: u64, moment: Moment, ballot: Ballot) {
        let Errand {
            grain,
            op,
            floor,
            answered,
            origin,
            travel,
        } = self.errands.of(errand);
        if self.grains.kind(grain) == Kind::Volatile {
            self.coverage.count("answer", "volatile");
            self.hold(|world| world.history.answer(grain, ballot, answered));
        } else {
            let is_there = self.history.value(moment).is_some();
            let name = match op {
                Op::Add => "add",
                Op::Get if is_there => "get",
                Op::Get => "get nothing",
                Op::Delete => "delete",
            };
            self.coverage.count("answer", name);
            self.hold(|world| world.history.knows(grain, moment, floor));
            self.hold(|world| world.history.acknowledge(grain, moment));
        }
        if travel.hops > 1 {
            // The reply says who has answered, so that the next request goes there.
            self.give(origin, Input::Route(routing::Input::Learned { grain, ballot }));
        }
        self.done(errand);
    }

    fn done(&mut self, errand: u64) {
        self.errands.acknowledged += 1;
        self.errands.all.remove(&errand);
        let waits = self.errands.of_clients.iter().find(|(_, waits)| **waits == errand);
        if let Some(client) = waits.map(|(client, _)| *client) {
            self.errands.of_clients.remove(&client);
            let pause = self.dice.between(MILLI, 40 * MILLI);
            self.push(pause, Event::Client(client, None));
        }
    }

    fn edit(&mut self, at: usize, table: GrainId) -> u64 {
        let errand = self.errand(at, table, Op::Add);
        let token = self.hosts[at].token();
        let floor = self.history.table(table).len();
        self.errands.edits.insert((at, token), (errand, floor));
        self.give(at, Input::Edit { token, table });
        errand
    }

    /// A table says this; an edit adds to it.
    pub(super) fn rewrite(&mut self, at: usize, token: Token, table: GrainId, bytes: Option<Vec<u8>>) {
        let (errand, floor) = self.errands.edits[&(at, token)];
        let mut bytes = bytes.unwrap_or_default();
        self.hold(|world| world.history.agreed(table, &bytes, floor));
        let next = (!self.dice.percent(10)).then(|| {
            bytes.extend((errand as u32).to_le_bytes());
            bytes
        });
        self.give(at, Input::Rewritten { table, next });
    }

    pub(super) fn edited(&mut self, at: usize, token: Token, edited: Edited) {
        let Some((errand, floor)) = self.errands.edits.remove(&(at, token)) else {
            return;
        };
        let table = self.errands.of(errand).grain;
        match edited {
            Edited::Done(_, bytes) => {
                self.coverage.count("answer", "edit");
                let bytes = bytes.unwrap_or_default();
                self.hold(|world| world.history.agreed(table, &bytes, floor));
                self.done(errand);
            }
            Edited::Again => self.coverage.count("answer", "edit again"),
        }
    }
}
