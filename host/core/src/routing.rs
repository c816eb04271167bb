//! A request's way to its grain: here, there, or ask first.
//!
//! A warm request for a grain here is served at once; for a grain elsewhere the cache says where. Only when neither knows,
//! the request waits for the directory. A request that comes to a host by mistake goes on from there, and whoever sent it
//! is told: the one message that keeps caches right, also for calls that nobody answers.
//!
//! Requests for one grain keep their order: as long as one waits, later ones wait behind it, whatever is known by then.
//!
//! # Architecture invariants
//!
//! - A request is forwarded at most [`HOPS_MOST`] times, however wrong everybody is; then it is refused, unharmed.
//! - A request is never sent back to the host that just sent it on, unless the directory says so.
//! - No request waits for ever: the directory gives up, and [`Input::Withdraw`] takes away those whose callers have.
//!
//! **Not here:** the requests themselves, which wait in the host by their tokens, and the retry of a forward that got no answer: that is
//! the caller's, by [`Travel::tried`].

mod cache;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use self::cache::Cache;
use crate::directory::{self, Directory, DirectoryMessage, Located, Lost};
use crate::id::{Ballot, GrainId, HostId};
use crate::message::Token;
use crate::placement::Policy;
use crate::time::Time;

/// How often a request is forwarded at most. One is normal, two when something has just moved; a circle of wrong caches ends here.
pub const HOPS_MOST: u8 = 3;

/// How many, how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Grains whose host is remembered.
    pub cache_most: usize,
    /// How long it's remembered.
    pub cache_nanos: u64,
    /// Requests that may wait for the directory. Stops a burst of cold requests from eating memory.
    pub waiting_most: usize,
    /// Requests for a grain that was handed to another host are sent on for so long.
    pub handed_nanos: u64,
    /// Of so many grains.
    pub handed_most: usize,
    /// The directory's.
    pub directory: directory::Settings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cache_most: 100_000,
            cache_nanos: 600_000_000_000,
            waiting_most: 1 << 16,
            handed_nanos: 30_000_000_000,
            handed_most: 1 << 16,
            directory: directory::Settings::default(),
        }
    }
}

/// What travels with a request from host to host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Travel {
    /// How often it was forwarded.
    pub hops: u8,
    /// The receiver shall activate the grain, by a ballot above this counter.
    pub granted: Option<u64>,
    /// It was sent to this host, which didn't answer or is gone.
    pub tried: Option<HostId>,
}

/// A request that needs a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Which request: unique among those that wait.
    pub token: Token,
    /// For which grain.
    pub grain: GrainId,
    /// How the grain's type is placed.
    pub policy: Policy,
    /// The host that sent it here; `None` when it begins here.
    pub from: Option<HostId>,
    /// What came with it.
    pub travel: Travel,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A request needs a way.
    Request(Errand),
    /// Its caller waits no longer.
    Withdraw {
        /// For which grain.
        grain: GrainId,
        /// Which request.
        token: Token,
    },
    /// A reply told which activation has answered.
    Learned {
        /// For which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
    },
    /// This host has handed the grain to another one.
    Handed {
        /// Which grain.
        grain: GrainId,
        /// The activation there.
        to: Ballot,
    },
    /// Something for the directory.
    Directory(directory::Input),
}

/// Why a request gets no way. It did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was forwarded [`HOPS_MOST`] times, and the grain isn't here either: it's moving faster than the news of it. A retry helps.
    TooManyHops,
    /// Too many requests wait for the directory. A retry helps, later.
    TooManyWaiting,
    /// The directory has no answer.
    Lost(Lost),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The request is for this host.
    Serve {
        /// Which one.
        token: Token,
        /// The grain isn't active here: activate it by a ballot above this counter.
        activate: Option<u64>,
    },
    /// Send the request on.
    Forward {
        /// Which one.
        token: Token,
        /// Where to.
        to: HostId,
        /// What goes with it.
        travel: Travel,
    },
    /// Tell the caller that the request didn't run.
    Refuse {
        /// Which one.
        token: Token,
        /// Why.
        why: Refusal,
    },
    /// What the directory wants; never what this machine takes for itself (`Located`, `Unlocated`, `Moved`).
    Directory(directory::Output),
}

/// How often what has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were served here.
    pub served: u64,
    /// Requests that were sent on.
    pub forwarded: u64,
    /// Requests that came here by mistake.
    pub strayed: u64,
    /// Questions to the directory.
    pub asked: u64,
    /// Requests that got no way.
    pub refused: u64,
}

/// One host's routing, with its directory. See the module's text.
#[derive(Clone, Debug)]
pub struct Routing {
    me: HostId,
    settings: Settings,
    directory: Directory,
    cache: Cache,
    waiting: BTreeMap<GrainId, VecDeque<Errand>>,
    waiting_count: usize,
    handed: BTreeMap<GrainId, (Ballot, Time)>,
    /// Grains that this host was told to activate and hasn't yet, with the counter: who comes for them now is right here.
    activating: BTreeMap<GrainId, (u64, Time)>,
    counts: Counts,
}

impl Routing {
    /// The routing of `me`.
    pub fn new(me: HostId, settings: Settings, seed: u64) -> Routing {
        Routing {
            me,
            directory: Directory::new(me, settings.directory.clone(), seed),
            cache: Cache::new(settings.cache_most, settings.cache_nanos),
            waiting: BTreeMap::new(),
            waiting_count: 0,
            handed: BTreeMap::new(),
            activating: BTreeMap::new(),
            counts: Counts::default(),
            settings,
        }
    }

    /// Takes one input and appends what is to be done, in order.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Request(errand) => self.route(now, errand, out),
            Input::Withdraw { grain, token } => self.withdraw(grain, token),
            Input::Learned { grain, ballot } => {
                if ballot.host != self.me {
                    self.cache.put(now, grain, ballot);
                }
            }
            Input::Handed { grain, to } => self.hand(now, grain, to),
            Input::Directory(input) => self.direct(now, input, out),
        }
    }

    /// When `Input::Directory(Wake)` is due.
    pub fn deadline(&self) -> Option<Time> {
        self.directory.deadline()
    }

    /// The directory, for what it knows.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Requests that wait for the directory.
    pub fn waiting(&self) -> usize {
        self.waiting_count
    }

    /// Grains whose host is remembered.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    fn route(&mut self, now: Time, errand: Errand, out: &mut Vec<Output>) {
        let Errand { grain, travel, .. } = errand;
        if let Some(tried) = travel.tried {
            self.cache.clear(grain, tried);
        }
        if self.waiting.contains_key(&grain) {
            self.wait(errand, out);
            return;
        }
        if self.directory.own(grain).is_some() {
            self.serve(errand.token, None, out);
            return;
        }
        if let Some((above, _)) = self.activating.get(&grain).filter(|(_, until)| *until > now) {
            let above = *above;
            self.serve(errand.token, Some(above), out);
            return;
        }
        let handed = self
            .handed
            .get(&grain)
            .filter(|(_, until)| *until > now)
            .map(|(to, _)| *to);
        if let Some(above) = travel.granted.filter(|_| handed.is_none()) {
            self.activate(now, &errand, above, out);
            return;
        }
        let hint = handed.or_else(|| self.cache.find(now, grain));
        // Whoever sent it knows better than to have it back, and so does whoever found the other one dead.
        let hint = hint.filter(|hint| Some(hint.host) != errand.from && Some(hint.host) != travel.tried);
        if let Some(from) = errand.from {
            self.counts.strayed += 1;
            self.cache.clear(grain, from);
            let moved = DirectoryMessage::Moved {
                grain,
                old: self.me,
                new: hint,
            };
            out.push(Output::Directory(directory::Output::Send {
                to: from,
                message: moved,
            }));
        }
        if travel.hops >= HOPS_MOST {
            self.refuse(errand.token, Refusal::TooManyHops, out);
            return;
        }
        // The last hop goes where the directory says: following hints, a request could run after a grain that moves often.
        match hint.filter(|_| travel.hops + 1 < HOPS_MOST) {
            Some(ballot) => self.forward(&errand, Located::At(ballot), out),
            None => self.ask(now, errand, out),
        }
    }

    /// Has the request wait for the directory.
    fn ask(&mut self, now: Time, errand: Errand, out: &mut Vec<Output>) {
        let locate = directory::Input::Locate {
            grain: errand.grain,
            // It isn't where the caller has looked, which is here when it was sent here.
            not_here: errand.travel.tried.or(errand.from.map(|_| self.me)),
            policy: errand.policy,
        };
        if self.wait(errand, out) {
            self.counts.asked += 1;
            self.direct(now, locate, out);
        }
    }

    fn wait(&mut self, errand: Errand, out: &mut Vec<Output>) -> bool {
        if self.waiting_count >= self.settings.waiting_most {
            self.refuse(errand.token, Refusal::TooManyWaiting, out);
            return false;
        }
        self.waiting_count += 1;
        self.waiting.entry(errand.grain).or_default().push_back(errand);
        true
    }

    fn withdraw(&mut self, grain: GrainId, token: Token) {
        if let Some(errands) = self.waiting.get_mut(&grain) {
            let before = errands.len();
            errands.retain(|errand| errand.token != token);
            self.waiting_count -= before - errands.len();
        }
    }

    fn hand(&mut self, now: Time, grain: GrainId, to: Ballot) {
        if self.handed.len() >= self.settings.handed_most {
            self.handed.retain(|_, (_, until)| *until > now);
        }
        // Without room the directory has to do: a detour, no loss.
        if self.handed.len() < self.settings.handed_most && to.host != self.me {
            self.handed
                .insert(grain, (to, now.plus_nanos(self.settings.handed_nanos)));
        }
    }

    fn direct(&mut self, now: Time, input: directory::Input, out: &mut Vec<Output>) {
        match &input {
            directory::Input::Seen(change) if change.is_death() => self.cache.clear_host(change.now.host),
            directory::Input::Deactivated { grain, .. } => {
                self.activating.remove(grain);
            }
            directory::Input::Activated { grain, .. } => {
                self.handed.remove(grain);
                self.activating.remove(grain);
                self.cache.clear(*grain, self.me);
            }
            _ => {}
        }
        let mut said = Vec::new();
        self.directory.handle(now, input, &mut said);
        for output in said {
            match output {
                directory::Output::Located { grain, located } => self.release(now, grain, located, out),
                directory::Output::Unlocated { grain, why } => {
                    for errand in self.take(grain) {
                        self.refuse(errand.token, Refusal::Lost(why), out);
                    }
                }
                directory::Output::Moved { grain, old, new } => {
                    self.cache.clear(grain, old);
                    if let Some(ballot) = new.filter(|ballot| ballot.host != self.me) {
                        self.cache.put(now, grain, ballot);
                    }
                }
                other => out.push(Output::Directory(other)),
            }
        }
    }

    /// Lets everyone go who waited for this grain.
    fn release(&mut self, now: Time, grain: GrainId, located: Located, out: &mut Vec<Output>) {
        match located {
            Located::At(ballot) if ballot.host != self.me => self.cache.put(now, grain, ballot),
            _ => {}
        }
        for errand in self.take(grain) {
            if self.directory.own(grain).is_some() {
                self.serve(errand.token, None, out);
            } else if located.host() == self.me {
                // Either it was granted to this host, or this host's promise is all that's left of an activation.
                let above = match located {
                    Located::At(ballot) => ballot.counter,
                    Located::Granted(_, above) => above,
                };
                self.activate(now, &errand, above, out);
            } else if errand.travel.hops >= HOPS_MOST {
                self.refuse(errand.token, Refusal::TooManyHops, out);
            } else {
                self.forward(&errand, located, out);
            }
        }
    }

    fn take(&mut self, grain: GrainId) -> VecDeque<Errand> {
        let errands = self.waiting.remove(&grain).unwrap_or_default();
        self.waiting_count -= errands.len();
        errands
    }

    /// Serves a request whose grain isn't active here yet.
    fn activate(&mut self, now: Time, errand: &Errand, above: u64, out: &mut Vec<Output>) {
        if self.activating.len() >= self.settings.waiting_most {
            self.activating.retain(|_, (_, until)| *until > now);
        }
        if self.activating.len() < self.settings.waiting_most {
            let until = now.plus_nanos(self.settings.directory.grant_nanos);
            self.activating.entry(errand.grain).or_insert((above, until));
        }
        self.serve(errand.token, Some(above), out);
    }

    fn serve(&mut self, token: Token, activate: Option<u64>, out: &mut Vec<Output>) {
        self.counts.served += 1;
        out.push(Output::Serve { token, activate });
    }

    fn forward(&mut self, errand: &Errand, located: Located, out: &mut Vec<Output>) {
        self.counts.forwarded += 1;
        let granted = match located {
            Located::At(_) => None,
            Located::Granted(_, above) => Some(above),
        };
        out.push(Output::Forward {
            token: errand.token,
            to: located.host(),
            travel: Travel {
                hops: errand.travel.hops + 1,
                granted,
                tried: None,
            },
        });
    }

    fn refuse(&mut self, token: Token, why: Refusal, out: &mut Vec<Output>) {
        self.counts.refused += 1;
        out.push(Output::Refuse { token, why });
    }
}
