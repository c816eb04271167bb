//! The clients' side of a run, and its phases.

use granary_core::id::HostId;

use super::{Event, LIVENESS_LIMIT, Phase, World, name};
use crate::queue::{MICROS, MILLIS};
use crate::subject::{Action, Authority, Call, Input, Outcome, Subject};

impl<S: Subject> World<S> {
    pub(super) fn client_turn(&mut self, client: u16) {
        let state = &mut self.clients[usize::from(client)];
        if state.current.is_none() {
            let (lasting, mortal) = self.grains.split_at(self.plan.grains);
            match self.phase {
                Phase::Safety => {
                    state.begin(lasting, mortal, &mut self.transfers, &mut self.dice);
                }
                Phase::Ending if state.has_more() => {
                    state.begin(lasting, mortal, &mut self.transfers, &mut self.dice);
                }
                Phase::Reading if !self.unread.is_empty() => {
                    let grain = self.unread.remove(0);
                    state.begin_read(grain);
                }
                _ => return,
            }
            if let Some(current) = &mut state.current {
                current.floor = self.checkers.floor(current.call.grain);
            }
        }
        self.attempt(client);
    }

    fn attempt(&mut self, client: u16) {
        let reachable: Vec<HostId> = self
            .hosts
            .iter()
            .filter(|host| !host.gone)
            .map(|host| host.id)
            .collect();
        let state = &mut self.clients[usize::from(client)];
        let Some(current) = &mut state.current else { return };
        current.call.attempt += 1;
        let call = current.call;
        let to = state.choose(call.grain, &reachable, &mut self.dice);
        let after = self.dice.between(50 * MICROS, 500 * MICROS);
        if let Some(at) = to.and_then(|to| self.hosts.iter().position(|host| host.id == to))
            && !self.dice.permille(5)
        {
            let life = self.hosts[at].life;
            self.queue.put(
                after,
                Event::Host {
                    at,
                    life,
                    input: Input::Call(call),
                },
            );
        }
        let patience = self.dice.between(200 * MILLIS, 2000 * MILLIS);
        self.queue.put(patience, Event::Timeout { client, call });
    }

    /// A host answers: what it says is checked, whether it arrives or not.
    pub(super) fn reply(&mut self, at: usize, call: Call, outcome: Outcome) {
        let client = call.step.client;
        let from = self.hosts[at].id;
        if let Outcome::Done { head, value } = outcome {
            let current = self.clients[usize::from(client)].current;
            // Of a step that was given up nothing is known about when it had to see what.
            let floor = current
                .filter(|current| current.call.step == call.step)
                .map(|current| current.floor);
            let groups = self.authority.groups(call.grain);
            if let Some(floor) = floor {
                self.checkers.replied(&call, floor, groups, head, value);
            }
        }
        let after = self.dice.between(50 * MICROS, 500 * MICROS);
        if !self.dice.permille(5) {
            self.queue.put(
                after,
                Event::Answer {
                    client,
                    call,
                    from,
                    outcome,
                },
            );
        }
    }

    pub(super) fn answered(&mut self, client: u16, call: Call, from: HostId, outcome: Outcome) {
        let state = &mut self.clients[usize::from(client)];
        let Some(current) = state.current.filter(|current| current.call.step == call.step) else {
            return;
        };
        match outcome {
            Outcome::Done { .. } => {
                state.hint(call.grain, Some(from));
                state.current = None;
                self.coverage.count("outcome", "acknowledged");
                self.coverage
                    .count("step", if current.is_transfer { "transfer" } else { action(call) });
                self.end_step(client);
            }
            Outcome::Failed { why, elsewhere } if current.call.attempt == call.attempt => {
                state.hint(call.grain, elsewhere);
                self.coverage.count("failed", why);
                let after = self.dice.between(5 * MILLIS, 150 * MILLIS);
                self.queue.put(after, Event::Turn(client));
                // The attempt is over: its timeout must not start another.
                if let Some(current) = &mut self.clients[usize::from(client)].current {
                    current.call.attempt += 1;
                }
            }
            Outcome::Unknown if current.call.attempt == call.attempt => {
                self.coverage.count("outcome", "unknown");
                self.retry_or_give_up(client);
            }
            Outcome::Failed { .. } | Outcome::Unknown => {}
        }
    }

    pub(super) fn timed_out(&mut self, client: u16, call: Call) {
        let current = self.clients[usize::from(client)].current;
        if current.is_some_and(|current| current.call == call) {
            self.coverage.count("outcome", "timeout");
            self.retry_or_give_up(client);
        }
    }

    fn retry_or_give_up(&mut self, client: u16) {
        let state = &mut self.clients[usize::from(client)];
        let Some(current) = &mut state.current else { return };
        let (grain, is_transfer) = (current.call.grain, current.is_transfer);
        current.call.attempt += 1;
        state.hint(grain, None);
        if !is_transfer && self.phase == Phase::Safety && self.dice.percent(15) {
            state.current = None;
            self.coverage.count("outcome", "given-up");
            self.end_step(client);
        } else {
            self.queue.put(0, Event::Turn(client));
        }
    }

    fn end_step(&mut self, client: u16) {
        self.steps += 1;
        let thinks = match self.dice.percent(30) {
            true => self.dice.below(2 * MILLIS),
            false => self.dice.below(300 * MILLIS),
        };
        self.queue.put(thinks, Event::Turn(client));
    }

    pub(super) fn check_phase(&mut self) {
        let idle = || self.clients.iter().all(|client| client.current.is_none());
        let is_late = self.queue.now() >= self.phase_ends;
        match self.phase {
            Phase::Safety if self.steps >= self.plan.steps && self.faults >= self.plan.faults => {
                self.mend_all();
                self.enter(Phase::Ending);
            }
            Phase::Ending if idle() && !self.clients.iter().any(|client| client.has_more()) => {
                let sum = self.checkers.sum(|step| self.transfers.contains(&step));
                if sum != 0 {
                    self.checkers.violated(
                        "transfers",
                        format!("all transfers are done, and {sum} has come of nothing"),
                    );
                }
                self.unread.clone_from(&self.grains);
                self.enter(Phase::Reading);
                (0..self.plan.clients).for_each(|client| self.queue.put(0, Event::Turn(client)));
            }
            Phase::Reading if idle() && self.unread.is_empty() => self.phase = Phase::Over,
            Phase::Safety | Phase::Ending | Phase::Reading if is_late => self.stuck(),
            _ => {}
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_ends = self.queue.now() + LIVENESS_LIMIT;
        self.note(|| format!("phase: {phase:?}"));
    }

    fn stuck(&mut self) {
        let waiting = self.clients.iter().filter_map(|client| client.current);
        let waiting: Vec<String> = waiting.map(|current| format!("{:?}", current.call)).collect();
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .filter(|host| host.runs())
            .map(|host| name(host.id))
            .collect();
        let detail = format!(
            "{:?} is not over after {} steps and {} faults; waiting: {waiting:?}; running: {hosts:?}",
            self.phase, self.steps, self.faults
        );
        self.checkers.violated("liveness", detail);
    }
}

fn action(call: Call) -> &'static str {
    match call.action {
        Action::Add(_) => "add",
        Action::Read => "read",
        Action::Delete => "delete",
    }
}
