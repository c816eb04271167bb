//! What happens to the files of a simulated host: they are synced, read, checkpointed, tidied.

use granary_core::cluster::Input;
use granary_core::id::GrainName;
use granary_core::replication::messages::State;

use super::disk::{File, Noted};
use super::{Event, MILLI, SECOND, Whole};

impl Whole {
    /// Takes note of what was given to a host's files, and has it synced.
    pub(super) fn look_at_files(&mut self, at: usize) {
        for noted in std::mem::take(&mut self.hosts[at].disk.noted) {
            match noted {
                Noted::Record(name) => self.coverage.count("record", name),
                Noted::Forgotten(grain, deletion) => self.hold(|world| world.history.forget(grain, deletion)),
                Noted::Broken(what) => self.hold(|_| Err(what)),
            }
        }
        for file in self.hosts[at].disk.begin_sync() {
            let (slow, until) = self.hosts[at].slow;
            let (least, most) = if slow == file && until > self.now {
                (20, 200)
            } else {
                (0, 2)
            };
            let took = self.dice.between(100_000 + least * MILLI, most * MILLI);
            let life = self.hosts[at].incarnation;
            self.push(took, Event::Synced { at, life, file });
        }
        let host = &mut self.hosts[at];
        let has_work = host.cluster.as_ref().is_some_and(|cluster| cluster.has_work());
        if has_work && !std::mem::replace(&mut host.is_tidying, true) {
            let life = host.incarnation;
            let pause = self.dice.between(0, 20 * MILLI);
            let is_long = false;
            self.push(pause, Event::Tidy { at, life, is_long });
        }
    }

    pub(super) fn synced(&mut self, at: usize, life: u32, file: File) {
        if !self.lives(at, life) {
            return;
        }
        let disk = &mut self.hosts[at].disk;
        let input = match file {
            File::Log => Input::LogDurable(disk.synced_log()),
            File::Journal => Input::Journaled(disk.synced_journal()),
        };
        self.give(at, input);
    }

    /// A state is read by another thread: it's that of now or of later.
    pub(super) fn load(&mut self, at: usize, name: GrainName) {
        self.coverage.count("file", "read");
        let life = self.hosts[at].incarnation;
        let state = self.dice.percent(50).then(|| self.hosts[at].disk.state(&name));
        let took = self.dice.between(20_000, 3 * MILLI);
        let event = Event::Loaded { at, life, name, state };
        self.push(took, event);
    }

    pub(super) fn loaded(&mut self, at: usize, life: u32, name: &GrainName, state: Option<Option<State>>) {
        if self.lives(at, life) {
            let state = state.unwrap_or_else(|| self.hosts[at].disk.state(name));
            let grain = name.id();
            self.give(at, Input::Loaded { grain, state });
        }
    }

    pub(super) fn checkpoint(&mut self, at: usize, life: u32) {
        if !self.lives(at, life) {
            return;
        }
        let disk = &mut self.hosts[at].disk;
        disk.end_checkpoint();
        let pause = if self.dice.percent(50) && self.hosts[at].disk.begin_checkpoint() {
            self.coverage.count("file", "checkpoint");
            self.dice.between(MILLI, 100 * MILLI)
        } else {
            self.dice.between(100 * MILLI, 3 * SECOND)
        };
        self.push(pause, Event::Checkpoint { at, life });
        if self.dice.percent(60) {
            self.tidy(at, life, true);
        }
    }

    pub(super) fn tidy(&mut self, at: usize, life: u32, is_long: bool) {
        if !self.lives(at, life) {
            return;
        }
        let host = &mut self.hosts[at];
        host.is_tidying &= is_long;
        if let Some(cluster) = &mut host.cluster {
            cluster.tidy(is_long, &mut host.disk);
        }
        self.look_at_files(at);
    }
}
