//! One host's part in its cluster, without its threads, its files and its network: what a host drives and what the simulator drives is this
//! machine.
//!
//! ```text
//!  peers, membership --Received, Seen--> protocols --Send--> peers
//!  grains' drivers -----Open, Read, ...--> activations <--> protocols
//!                                             persistence <-- records -- protocols
//!  disks ----------LogDurable, Journaled--> persistence ----> the log, the journal
//! ```
//!
//! - [`protocols`] are configuration, replication, directory and routing: what hosts agree on.
//! - [`activations`] are the lives of this host's activations in the cluster, edits of tables included.
//! - [`persistence`] says which record goes into which file, and what may be durable before what; [`recovery`] reads both at a start.
//! - [`soundness`] checks what peers send before a replica sees it.
//!
//! **Not here:** membership (it probes on a thread of its own), turns, threads, sockets and files.

pub mod activations;
mod event;
pub mod persistence;
pub mod protocols;
pub mod recovery;
pub mod soundness;

use std::collections::{BTreeSet, VecDeque};

use self::activations::{Activations, Effects};
pub use self::event::{Edited, Input, News, OpenError, Opened, Output, PeerMessage, Record};
use self::persistence::{Files, Persistence};
pub use self::protocols::Settings;
use self::protocols::{Output as Said, Protocols};
use self::soundness::is_sound;
use crate::id::{GrainId, GrainName};
use crate::message::Token;
use crate::replication::messages::{CommitHash, State};
use crate::replication::proposer;
use crate::slot::Slot;
use crate::time::Time;

/// See the module's text. Made by [`Recovery::finish`](recovery::Recovery::finish).
#[derive(Debug)]
pub struct Cluster {
    protocols: Protocols,
    activations: Activations,
    persistence: Persistence,
    /// Grains of which a proposer wants the whole state, for a replica that is far behind.
    images: BTreeSet<GrainId>,
    /// What the protocols still have to take in.
    inputs: VecDeque<protocols::Input>,
}

impl Cluster {
    pub(super) fn new(protocols: Protocols, persistence: Persistence) -> Cluster {
        Cluster {
            protocols,
            activations: Activations::default(),
            persistence,
            images: BTreeSet::new(),
            inputs: VecDeque::new(),
        }
    }

    /// Takes one input, writes to `files`, and appends what else is to be done, in order. No message of a peer can make it panic.
    ///
    /// # Panics
    ///
    /// When a commit is proposed that doesn't follow the one before: a fault of this host.
    pub fn handle(&mut self, now: Time, input: Input, files: &mut dyn Files, out: &mut Vec<Output>) {
        match input {
            Input::Start { founds } => self.inputs.push_back(protocols::Input::Start { founds }),
            Input::Received { from, message } => match is_sound(&message) {
                true => self.inputs.push_back(protocols::Input::Received { from, message }),
                false => out.push(Output::Unsound { from }),
            },
            Input::LogDurable(upto) => {
                let marks = self.persistence.log_durable(upto, files);
                self.inputs.extend(marks.into_iter().map(protocols::Input::Persisted));
            }
            Input::Journaled(marks) => {
                self.persistence.journaled(&marks);
                self.inputs.extend(marks.into_iter().map(protocols::Input::Persisted));
            }
            Input::Loaded { grain, state } => self.loaded(grain, state),
            Input::Seen(change) => self.inputs.push_back(protocols::Input::Seen(change)),
            Input::Beat(beat) => self.inputs.push_back(protocols::Input::Beat(beat)),
            Input::Open { token, name } => self.open(now, token, &name, files, out),
            Input::Propose { grain, proposal } => self.activations(out, |lives, to| lives.propose(grain, proposal, to)),
            Input::Read { token, grain, by, sees } => {
                self.activations(out, |lives, to| lives.read(token, grain, (by, sees), to));
            }
            Input::Close { grain, to } => self.activations(out, |lives, effects| lives.close(grain, to, effects)),
            Input::Edit { token, table } => {
                let had = self.persistence.table(table).map(|state| state.hash);
                let is_busy = self.protocols.proposers().proposer(table).is_some();
                self.activations(out, |lives, to| lives.edit(token, table, had, is_busy, to));
            }
            Input::Rewritten { table, next } => self.activations(out, |lives, to| lives.rewritten(table, next, to)),
            Input::Route(input) => self.inputs.push_back(protocols::Input::Route(input)),
            Input::Wake => self.inputs.push_back(protocols::Input::Wake),
        }
        self.run(now, files, out);
    }

    /// When [`Input::Wake`] is due.
    pub fn deadline(&self) -> Option<Time> {
        self.protocols.deadline()
    }

    /// Whether [`Cluster::tidy`] has something to do at once.
    pub fn has_work(&self) -> bool {
        self.persistence.has_work()
    }

    /// Does a bounded part of what nobody waits for: takes out grains that are gone, and writes the journal anew when it `is_long`.
    pub fn tidy(&mut self, is_long: bool, files: &mut dyn Files) {
        self.persistence.step(files);
        if is_long && !self.persistence.is_compacting() {
            self.persistence.compact(self.protocols.snapshot(), files);
        }
    }

    /// Whether this host's storage has the grain with this as its last commit, all that was written so far considered.
    pub fn has(&self, grain: GrainId, last: CommitHash) -> bool {
        let stored = self.persistence.stored(grain);
        stored.is_some_and(|stored| stored.hash == last) || last == [0; 16]
    }

    /// The protocols, for what is to be seen of them.
    pub fn protocols(&self) -> &Protocols {
        &self.protocols
    }

    /// The activations, for what is to be seen of them.
    pub fn lives(&self) -> &Activations {
        &self.activations
    }

    fn activations(&mut self, out: &mut Vec<Output>, act: impl FnOnce(&mut Activations, &mut Effects<'_>)) {
        let inputs = &mut self.inputs;
        act(&mut self.activations, &mut Effects { inputs, out });
    }

    /// The protocols take in what there is, and what comes of it is done.
    fn run(&mut self, now: Time, files: &mut dyn Files, out: &mut Vec<Output>) {
        let mut said = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            self.protocols.handle(now, input, &mut said);
            for output in said.drain(..) {
                self.heed(output, files, out);
            }
        }
    }

    fn heed(&mut self, said: Said, files: &mut dyn Files, out: &mut Vec<Output>) {
        match said {
            Said::Send { to, message } => out.push(Output::Send { to, message }),
            Said::Persist { mark, record } => self.persistence.write(mark, record, files),
            Said::Load { grain } => self.load(grain, out),
            Said::Grain {
                grain,
                output: proposer::Output::NeedImage,
            } => {
                self.images.insert(grain);
                self.load(grain, out);
            }
            Said::Grain { grain, output } => {
                let inputs = &mut self.inputs;
                let effects = &mut Effects { inputs, out };
                self.activations.hear(grain, output, &self.persistence, effects);
            }
            Said::Route(way) => out.push(Output::Route(way)),
            Said::Configured(config) => out.push(Output::Configured(config)),
            Said::Outdated { grain, .. } => self.activations(out, |lives, to| lives.drop_it(grain, to)),
            Said::Forked { n, host, is_odd } => out.push(Output::Forked { n, host, is_odd }),
        }
    }

    fn open(&mut self, now: Time, token: Token, name: &GrainName, files: &mut dyn Files, out: &mut Vec<Output>) {
        let grain = name.id();
        self.persistence.name(name);
        self.activations(out, |lives, to| lives.drop_it(grain, to));
        // So that what the earlier one's end comes to is known.
        self.run(now, files, out);
        let stored = self.persistence.stored(grain).filter(|stored| !stored.deleted);
        let had = stored.map(|stored| stored.hash);
        let is_busy = self.protocols.proposers().proposer(grain).is_some();
        self.activations(out, |lives, to| lives.open(token, grain, had, is_busy, to));
    }

    /// A state is wanted: it's in memory, or has to be read.
    fn load(&mut self, grain: GrainId, out: &mut Vec<Output>) {
        if let Some(state) = self.in_memory(grain) {
            return self.loaded(grain, Some(state));
        }
        match self.persistence.name_of(grain) {
            Some(name) => out.push(Output::Load { name: name.clone() }),
            None => self.loaded(grain, None),
        }
    }

    /// A deletion, or a table.
    fn in_memory(&self, grain: GrainId) -> Option<State> {
        let replica = self.protocols.replicas().replica(Slot::of(grain));
        let accepted = replica.and_then(|replica| replica.register(grain).1);
        match accepted.filter(|accepted| accepted.deleted) {
            Some(accepted) => Some(State {
                seq: accepted.seq,
                hash: accepted.hash,
                deleted: true,
                body: Default::default(),
            }),
            None => self.persistence.table(grain).cloned(),
        }
    }

    fn loaded(&mut self, grain: GrainId, state: Option<State>) {
        if self.images.remove(&grain)
            && let Some(state) = state.clone()
        {
            let input = proposer::Input::Image(state);
            self.inputs.push_back(protocols::Input::Grain { grain, input });
        }
        self.inputs.push_back(protocols::Input::Loaded { grain, state });
    }
}
