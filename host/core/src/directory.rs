//! Where is a grain? Every slot's primary knows where the slot's grains are active; everyone asks it.
//!
//! The primary is the slot's first replica that isn't suspected, so it needs no election and moves by itself when it dies. It
//! looks in its map (`keeper`), then at whom its own replica has promised the grain, and only then places it
//! ([`crate::placement`]). The map is soft state: hosts register what they have with the new primary after a change (`registrar`), the
//! highest ballot wins, and meanwhile the replicas' promises, which are durable, answer in its place.
//!
//! Two hosts may take different ones for the primary, as their views differ, and two activations may come of it. That costs
//! time, nothing else: which of them may commit is decided by ballots at the replicas.
//!
//! # Architecture invariants
//!
//! - Nothing that a directory says authorises a commit.
//! - A host that doesn't hold a slot never answers about it: it says whom to ask, and by which configuration.
//! - An activation that has been outdated hears of it ([`Output::Outdated`]): the loser of a recovery isn't left alive.
//! - A message of another configuration is never an error; it may show that one side is behind ([`Output::Behind`]).
//!
//! **Not here:** the request and its hops ([`crate::routing`]), ballots and promises (`replication`).

mod asker;
mod event;
mod keeper;
mod message;
mod registrar;
mod sight;
#[cfg(test)]
mod tests;

use self::asker::{Asker, Letter};
pub use self::event::{Input, Located, Lost, Output, Question, Settings};
use self::keeper::Keeper;
pub use self::message::DirectoryMessage;
use self::registrar::{BATCH, Registrar};
use self::sight::Sight;
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId};
use crate::placement::Loads;
use crate::rng::Rng;
use crate::slot::Slot;
use crate::time::Time;

/// Hosts whose load is kept; as many as may be known.
const HOSTS_MOST: usize = 4_096;

/// One host's directory: as a primary, and as one who asks. See the module's text.
#[derive(Clone, Debug)]
pub struct Directory {
    settings: Settings,
    sight: Sight,
    keeper: Keeper,
    asker: Asker,
    registrar: Registrar,
    loads: Loads,
    rng: Rng,
}

impl Directory {
    /// The directory of `me`, which knows no configuration yet.
    pub fn new(me: HostId, settings: Settings, seed: u64) -> Directory {
        Directory {
            sight: Sight::new(me),
            keeper: Keeper::default(),
            asker: Asker::default(),
            registrar: Registrar::default(),
            loads: Loads::new(settings.beat_nanos, HOSTS_MOST),
            rng: Rng::new(seed),
            settings,
        }
    }

    /// Takes one input and appends what is to be done, in order.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        self.sight.tick(now);
        match input {
            Input::Wake => {}
            Input::Configured(config) => {
                if self.sight.configure(config) {
                    self.keeper.configure(&self.sight);
                    self.review(now);
                }
            }
            Input::Seen(change) => {
                self.sight.see(&change);
                self.review(now);
            }
            Input::Beat { from, beat } => self.loads.put(now, from, beat),
            Input::Received { from, message } => self.receive(now, from, message, out),
            Input::Locate {
                grain,
                not_here,
                policy,
            } => {
                match self
                    .asker
                    .start(now, (grain, not_here, policy), &self.sight, &self.settings)
                {
                    Ok(letter) => self.post(now, letter, out),
                    Err(why) => out.push(Output::Unlocated { grain, why }),
                }
            }
            Input::Activated { grain, ballot } => self.registrar.activated(now, grain, ballot),
            Input::Deactivated { grain, ballot } => {
                if let Some(primary) = self.registrar.deactivated(grain, ballot) {
                    self.send(now, primary, DirectoryMessage::Unregister { grain, ballot }, out);
                }
            }
            Input::Holder { question, ballot } => self.settle(now, &question, ballot, out),
        }
        self.fire(now, out);
    }

    /// When [`Input::Wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let (ask, register) = (self.asker.deadline(), self.registrar.deadline());
        ask.into_iter().chain(register).min()
    }

    /// The hosts' load, as far as it's known.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// The activation of a grain on this host.
    pub fn own(&self, grain: GrainId) -> Option<Ballot> {
        self.registrar.own(grain)
    }

    /// Whether a host is gone, as far as this one can know.
    pub fn has_gone(&self, host: HostId) -> bool {
        self.sight.has_gone(host)
    }

    /// How many activations this host knows as a primary.
    pub fn places(&self) -> usize {
        self.keeper.places()
    }

    fn review(&mut self, now: Time) {
        self.registrar.review(now, &self.sight, &mut self.rng, &self.settings);
        self.asker.review(now, &self.sight);
    }

    /// Does all that is due.
    fn fire(&mut self, now: Time, out: &mut Vec<Output>) {
        for letter in self.registrar.due(now, &self.sight, &self.settings) {
            self.post(now, Some(letter), out);
        }
        let (letters, lost) = self.asker.due(now, &self.sight, &self.settings);
        for letter in letters {
            self.post(now, Some(letter), out);
        }
        let why = Lost::NoAnswer;
        out.extend(lost.into_iter().map(|grain| Output::Unlocated { grain, why }));
    }

    fn receive(&mut self, now: Time, from: HostId, message: DirectoryMessage, out: &mut Vec<Output>) {
        match message {
            DirectoryMessage::Locate {
                n,
                grain,
                not_here,
                policy,
                insist,
            } => {
                self.compare(from, n, out);
                let question = Question {
                    asker: from,
                    grain,
                    not_here,
                    policy,
                };
                self.answer(now, question, insist, out);
            }
            DirectoryMessage::At { grain, ballot } => self.located(from, grain, Located::At(ballot), out),
            DirectoryMessage::Grant { grain, host, above } => {
                self.located(from, grain, Located::Granted(host, above), out);
            }
            DirectoryMessage::Elsewhere { n, grain, primary } => {
                self.compare(from, n, out);
                let letter = self
                    .asker
                    .sent_on(now, (from, grain, primary), &self.sight, &self.settings);
                self.post(now, letter, out);
            }
            DirectoryMessage::Register { n, entries } => {
                self.compare(from, n, out);
                self.register(now, from, entries, out);
            }
            DirectoryMessage::Registered { entries } => {
                let outdated = self.registrar.confirmed(from, entries);
                out.extend(outdated.into_iter().map(|(grain, by)| Output::Outdated { grain, by }));
            }
            DirectoryMessage::Unregister { grain, ballot } if ballot.host == from => {
                self.keeper.unregister(grain, ballot);
            }
            DirectoryMessage::Unregister { .. } => {}
            DirectoryMessage::Moved { grain, old, new } => out.push(Output::Moved { grain, old, new }),
        }
    }

    fn answer(&mut self, now: Time, question: Question, insist: bool, out: &mut Vec<Output>) {
        let slot = Slot::of(question.grain);
        let primary = self.sight.primary(slot);
        if !self.sight.holds(slot) || (primary != Some(self.sight.me) && !insist) {
            let elsewhere = DirectoryMessage::Elsewhere {
                n: self.sight.n(),
                grain: question.grain,
                primary,
            };
            self.send(now, question.asker, elsewhere, out);
            return;
        }
        match self.keeper.locate(now, &question, &self.sight) {
            Some(located) => self.tell(now, &question, located, out),
            None => out.push(Output::AskHolder(question)),
        }
    }

    fn settle(&mut self, now: Time, question: &Question, holder: Option<Ballot>, out: &mut Vec<Output>) {
        let known = (&self.sight, &self.loads, &mut self.rng);
        let located = self.keeper.settle(now, question, holder, known, &self.settings);
        self.tell(now, question, located, out);
    }

    fn tell(&mut self, now: Time, question: &Question, located: Located, out: &mut Vec<Output>) {
        let grain = question.grain;
        let message = match located {
            Located::At(ballot) => DirectoryMessage::At { grain, ballot },
            Located::Granted(host, above) => DirectoryMessage::Grant { grain, host, above },
        };
        self.send(now, question.asker, message, out);
    }

    fn register(&mut self, now: Time, from: HostId, mut entries: Vec<(GrainId, Ballot)>, out: &mut Vec<Output>) {
        entries.truncate(BATCH);
        // Whoever registers for others, or a slot that isn't here, gets no answer; the sender repeats it where it belongs.
        entries.retain(|(grain, ballot)| ballot.host == from && self.sight.holds(Slot::of(*grain)));
        for (grain, ballot) in &mut entries {
            *ballot = self.keeper.register(*grain, *ballot, &self.sight, &self.settings);
        }
        if !entries.is_empty() {
            self.send(now, from, DirectoryMessage::Registered { entries }, out);
        }
    }

    fn located(&mut self, from: HostId, grain: GrainId, located: Located, out: &mut Vec<Output>) {
        if self.asker.answered(from, grain) {
            out.push(Output::Located { grain, located });
        }
    }

    fn compare(&self, from: HostId, n: ConfigNumber, out: &mut Vec<Output>) {
        if n > self.sight.n() {
            out.push(Output::Behind { whom: from, n });
        }
    }

    fn post(&mut self, now: Time, letter: Option<Letter>, out: &mut Vec<Output>) {
        if let Some((to, message)) = letter {
            self.send(now, to, message, out);
        }
    }

    /// Sends a message, or takes it at once when it's this host's own.
    fn send(&mut self, now: Time, to: HostId, message: DirectoryMessage, out: &mut Vec<Output>) {
        if to == self.sight.me {
            self.receive(now, to, message, out);
        } else {
            out.push(Output::Send { to, message });
        }
    }
}
