//! Clients, their requests' ways through the cluster, and the activations that commit for them.

use std::collections::BTreeMap;

use granary_core::cluster::Input;
use granary_core::id::{GrainId, GrainKey, GrainName, GrainType, HostId, Seq};
use granary_core::message::Token;
use granary_core::placement::Policy;
use granary_core::replication::messages::{Payload, Proposal};
use granary_core::replication::proposer;
use granary_core::routing::{self, Errand, HOPS_MOST, Travel};

use super::host::Live;
use super::{Event, MILLI, Whole};

/// Clients.
pub(super) const CLIENTS: usize = 8;
const GRAINS: u64 = 12;
/// A host notices after this that a request couldn't be sent.
const UNREACHABLE: u64 = 500 * MILLI;
/// A client asks again after this.
const PATIENCE: u64 = 1_500 * MILLI;

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
    /// Of those on their way: which grain, by how many hops, from whom.
    grains: BTreeMap<u64, (GrainId, Travel)>,
    reached: BTreeMap<u64, Reached>,
    pub(super) acknowledged: u64,
    pub(super) asked: u64,
}

/// One of the grains, and how its type wants it placed.
pub(super) fn grain(number: u64) -> GrainId {
    let key = GrainKey::new(&number.to_string()).expect("a number is a key");
    GrainName::new(GrainType::new("t").expect("a name"), key).id()
}

pub(super) fn all_grains() -> Vec<GrainId> {
    (0..GRAINS).map(grain).collect()
}

fn policy(grain: GrainId) -> Policy {
    let all = [Policy::Primary, Policy::Local, Policy::Random, Policy::Balanced];
    all[usize::from(grain.0[15]) % all.len()]
}

impl Whole {
    /// A client's next request, if it still waits for what it did when this was planned.
    pub(super) fn client(&mut self, client: usize, waits: Option<u64>) {
        if self.errands.of_clients.get(&client).copied() != waits {
            return;
        }
        self.errands.of_clients.remove(&client);
        let grain = grain(self.dice.below(GRAINS));
        let up: Vec<usize> = (0..self.hosts.len()).filter(|at| self.hosts[*at].is_up()).collect();
        if let Some(at) = self.dice.pick(&up) {
            let errand = self.ask(at, grain);
            self.errands.of_clients.insert(client, errand);
        }
        let waits = self.errands.of_clients.get(&client).copied();
        self.push(PATIENCE, Event::Client(client, waits));
    }

    /// A new request for a grain, at a host.
    pub(super) fn ask(&mut self, at: usize, grain: GrainId) -> u64 {
        self.errands.next += 1;
        self.errands.asked += 1;
        let errand = self.errands.next;
        self.route(at, errand, grain, None, Travel::default());
        errand
    }

    /// Where a request was served.
    pub(super) fn reached(&self, errand: u64) -> Option<Reached> {
        self.errands.reached.get(&errand).copied()
    }

    pub(super) fn route(&mut self, at: usize, errand: u64, grain: GrainId, from: Option<HostId>, travel: Travel) {
        if travel.hops > HOPS_MOST {
            self.hold(|_| Err(format!("a request is passed on at most {HOPS_MOST} times: {travel:?}")));
        }
        self.errands.grains.insert(errand, (grain, travel));
        let errand = Errand {
            token: Token(errand),
            grain,
            policy: policy(grain),
            from,
            travel,
        };
        self.give(at, Input::Route(routing::Input::Request(errand)));
    }

    pub(super) fn way(&mut self, at: usize, way: routing::Output) {
        match way {
            routing::Output::Serve { token, .. } => self.serve(at, token.0),
            routing::Output::Forward { token, to, travel } => {
                self.coverage.count("way", "forward");
                let grain = self.errands.grains[&token.0].0;
                let there = self.index(to);
                let errand = token.0;
                if self.hosts[there].is_up() && self.passes(at, there) {
                    let (from, delay) = (Some(self.hosts[at].id), self.dice.between(200_000, MILLI));
                    let to = there;
                    let event = Event::Errand {
                        to,
                        from,
                        errand,
                        grain,
                        travel,
                    };
                    self.push(delay, event);
                } else {
                    // The host finds that it can't send, and looks for another way.
                    let travel = Travel {
                        tried: Some(to),
                        ..Travel::default()
                    };
                    let (to, from) = (at, None);
                    let event = Event::Errand {
                        to,
                        from,
                        errand,
                        grain,
                        travel,
                    };
                    self.push(UNREACHABLE, event);
                }
            }
            routing::Output::Refuse { .. } => self.coverage.count("way", "refuse"),
            routing::Output::Directory(_) => {}
        }
    }

    fn serve(&mut self, at: usize, errand: u64) {
        self.coverage.count("way", "serve");
        let (grain, travel) = self.errands.grains[&errand];
        let floor = self.history.floor(grain);
        let host = &mut self.hosts[at];
        let reached = Reached {
            host: host.id,
            hops: travel.hops,
            was_active: host.live.get(&grain).is_some_and(|live| live.is_active),
        };
        self.errands.reached.insert(errand, reached);
        if let Some(live) = host.live.get_mut(&grain) {
            match live.is_active {
                true => self.commit(at, grain, errand),
                false => live.waiting.push(errand),
            }
            return;
        }
        let live = Live {
            floor,
            waiting: vec![errand],
            ..Live::default()
        };
        host.live.insert(grain, live);
        let have = host.kept.get(&grain).map(|kept| kept.1);
        self.give(at, Input::Activate { grain, have });
    }

    fn commit(&mut self, at: usize, grain: GrainId, errand: u64) {
        let Some(live) = self.hosts[at].live.get_mut(&grain) else {
            return;
        };
        if live.is_isolated {
            return;
        }
        let before = live.head;
        live.head = self.history.propose(before);
        live.proposed.push_back((live.head, errand));
        let proposal = Proposal {
            seq: live.head.0,
            prev_hash: before.1,
            hash: live.head.1,
            deletes: false,
            payload: Payload::Delta(live.head.1.to_vec().into()),
        };
        let input = proposer::Input::Propose(proposal);
        self.give(at, Input::Grain { grain, input });
    }

    /// What the proposer of an activation says.
    pub(super) fn hear(&mut self, at: usize, grain: GrainId, output: proposer::Output) {
        use proposer::Output as Said;
        let Some(live) = self.hosts[at].live.get_mut(&grain) else {
            return;
        };
        match output {
            Said::Active { head, .. } => {
                self.coverage.count("activation", "active");
                live.is_active = true;
                live.head = head.map_or((Seq(0), [0; 16]), |head| (head.seq, head.hash));
                let (head, floor, waiting) = (live.head, live.floor, std::mem::take(&mut live.waiting));
                self.hold(|world| world.history.begins(grain, head, floor));
                waiting.into_iter().for_each(|errand| self.commit(at, grain, errand));
            }
            Said::Committed(seq) => {
                let mut done = Vec::new();
                while let Some(commit) = live.proposed.pop_front_if(|((at, _), _)| *at <= seq) {
                    done.push(commit);
                }
                for (commit, errand) in done {
                    self.acknowledge(grain, commit, errand);
                }
            }
            Said::NeedImage => {
                if let Some(state) = self.hosts[at].state(grain) {
                    let input = proposer::Input::Image(state);
                    self.give(at, Input::Grain { grain, input });
                }
            }
            Said::Isolated => {
                self.coverage.count("activation", "isolated");
                live.is_isolated = true;
            }
            Said::Reachable => live.is_isolated = false,
            Said::Held { .. } | Said::Fenced { .. } | Said::Released => {
                let name = match output {
                    Said::Held { .. } => "held",
                    Said::Fenced { .. } => "fenced",
                    _ => "released",
                };
                self.coverage.count("activation", name);
                self.hosts[at].live.remove(&grain);
            }
            _ => {}
        }
    }

    fn acknowledge(&mut self, grain: GrainId, commit: (Seq, [u8; 16]), errand: u64) {
        self.hold(|world| world.history.acknowledge(grain, commit));
        self.errands.acknowledged += 1;
        let waits = self.errands.of_clients.iter().find(|(_, waits)| **waits == errand);
        if let Some(client) = waits.map(|(client, _)| *client) {
            self.errands.of_clients.remove(&client);
            let pause = self.dice.between(MILLI, 40 * MILLI);
            self.push(pause, Event::Client(client, None));
        }
    }

    /// Drops an activation that is said to be outdated.
    pub(super) fn let_go(&mut self, at: usize, grain: GrainId) {
        if self.hosts[at].live.remove(&grain).is_some() {
            let input = proposer::Input::Release { to: None };
            self.give(at, Input::Grain { grain, input });
        }
    }
}
