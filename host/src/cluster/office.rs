//! The thread on which this host's part in its cluster is decided, and what it's asked.
//!
//! One thread takes one note after the other, gives it to the machine (`granary_core::cluster`) and does what that says. It does
//! what takes long nowhere: commits go to the log's thread, records to the journal's, frames to the link. A thread of its own, so that
//! guests that compute don't keep the host from renewing its ballots.
//!
//! **Not here:** rules (the machine), what is written where (`granary_core::cluster::persistence`), how frames travel (`link`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granary_core::cluster::persistence::{Persistence, TABLE};
use granary_core::cluster::soundness::is_sound;
use granary_core::cluster::{Cluster, Input, Output, PeerMessage};
use granary_core::config_chain::config::Config;
use granary_core::id::{Ballot, GrainId, GrainName, HostId, Seq};
use granary_core::message::Token;
use granary_core::placement::Beat;
use granary_core::replication::messages::{Accepted, CommitHash, Payload, Proposal, State};
use granary_core::replication::proposer;
use granary_core::routing::{self, Errand};
use granary_core::time::Time;
use tokio::sync::oneshot;

use super::copies::stored_of;
use super::files::Files;
use super::link::Link;
use super::notes::{Edit, Edited, Hear, News, Note, OpenError, Opened, View, Way};
use super::wire;
use crate::clock::Clock;

/// Notes that are taken before what they led to is sent: they share frames.
const BATCH: usize = 256;
/// Frames above this go the way of long ones.
const LONG_FRAME: usize = 64 << 10;
/// How long nothing may be due, so that a stopped host is noticed.
const REST: Duration = Duration::from_millis(500);

/// An activation, or a table that is being edited.
struct Live {
    /// What was here when it began.
    had: Option<CommitHash>,
    is_active: bool,
    /// An earlier activation of this host has to end first.
    waits: bool,
    kind: Kind,
}

enum Kind {
    Grain {
        hear: Arc<dyn Hear>,
        reply: Option<oneshot::Sender<Result<Opened, OpenError>>>,
    },
    Table {
        edit: Option<Edit>,
        written: Option<(u64, Vec<u8>)>,
        reply: Option<oneshot::Sender<Edited>>,
    },
}

/// See the file's text.
pub(super) struct Office {
    pub(super) machine: Cluster,
    pub(super) persistence: Persistence,
    pub(super) files: Files,
    pub(super) link: Arc<dyn Link>,
    pub(super) clock: Clock,
    /// The newest configuration, for those who ask without waiting.
    pub(super) config: Arc<Mutex<Option<Arc<Config>>>>,
    live: HashMap<GrainId, Live>,
    reads: HashMap<u64, oneshot::Sender<bool>>,
    ways: HashMap<Token, oneshot::Sender<Way>>,
    tickets: u64,
    mail: HashMap<HostId, Vec<PeerMessage>>,
}

impl Office {
    pub(super) fn new(
        machine: Cluster,
        (persistence, files): (Persistence, Files),
        link: Arc<dyn Link>,
        clock: Clock,
        config: Arc<Mutex<Option<Arc<Config>>>>,
    ) -> Office {
        Office {
            machine,
            persistence,
            files,
            link,
            clock,
            config,
            live: HashMap::new(),
            reads: HashMap::new(),
            ways: HashMap::new(),
            tickets: 0,
            mail: HashMap::new(),
        }
    }

    /// Takes notes until it's told to stop.
    pub(super) fn run(mut self, notes: &Receiver<Note>, frames: &AtomicUsize) {
        self.flush();
        loop {
            let now = self.clock.time();
            let rest = match self.machine.deadline() {
                _ if self.persistence.has_work() => Duration::ZERO,
                Some(at) => Duration::from_nanos(at.nanos_since(now)).min(REST),
                None => REST,
            };
            let mut next = match notes.recv_timeout(rest) {
                Ok(note) => Some(note),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for taken in 0..BATCH {
                let Some(note) = next else { break };
                if matches!(note, Note::Stop) {
                    self.flush();
                    return;
                }
                if matches!(note, Note::Frame { .. }) {
                    frames.fetch_sub(1, Ordering::Relaxed);
                }
                self.take(note);
                next = if taken + 1 < BATCH { notes.try_recv().ok() } else { None };
            }
            let now = self.clock.time();
            if self.machine.deadline().is_some_and(|at| at <= now) {
                self.give(now, Input::Wake);
            }
            self.flush();
            self.tidy_files();
        }
    }

    /// Gives the machine an input and does what it says.
    pub(super) fn give(&mut self, now: Time, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(now, input, &mut out);
        for output in out {
            self.heed(now, output);
        }
    }

    fn take(&mut self, note: Note) {
        let now = self.clock.time();
        match note {
            Note::Frame { from, frame } => match wire::unframe(&frame) {
                None => tracing::warn!(%from, bytes = frame.len(), "a frame can't be read: another release?"),
                Some(messages) => {
                    for message in messages {
                        if is_sound(&message) {
                            self.give(now, Input::Received { from, message });
                        } else {
                            tracing::error!(%from, "a peer sends a commit that isn't what it is said to be: it isn't taken");
                        }
                    }
                }
            },
            Note::Durable => {
                let upto = self.files.storage.durable();
                for mark in self.persistence.log_durable(upto, &mut self.files) {
                    self.give(now, Input::Persisted(mark));
                }
            }
            Note::Journaled(marks) => {
                self.persistence.journaled(&marks);
                for mark in marks {
                    self.give(now, Input::Persisted(mark));
                }
            }
            Note::Seen(change) => self.give(now, Input::Seen(change)),
            Note::Beat(beat) => self.give(now, Input::Beat(beat)),
            Note::Stop => {}
            asked => self.take_ask(now, asked),
        }
    }

    /// What this host's own activations, router and tools ask.
    fn take_ask(&mut self, now: Time, note: Note) {
        match note {
            Note::Open { name, hear, reply } => self.open(now, &name, hear, reply),
            Note::Propose { grain, proposal } => {
                // An activation that is over may not know it yet; what it proposes goes nowhere.
                if self.live.get(&grain).is_some_and(|live| live.is_active) {
                    let input = proposer::Input::Propose(proposal);
                    self.give(now, Input::Grain { grain, input });
                }
            }
            Note::Reload { grain, last, reply } => {
                let stored = self.persistence.stored(grain);
                // Whoever asked may have gone.
                let _ = reply.send(stored.is_some_and(|stored| stored.hash == last) || last == [0; 16]);
            }
            Note::Read { grain, sees, reply } => {
                if !self.live.get(&grain).is_some_and(|live| live.is_active) {
                    let _ = reply.send(false);
                    return;
                }
                self.tickets += 1;
                let ticket = self.tickets;
                self.reads.insert(ticket, reply);
                let input = proposer::Input::Read { ticket, sees };
                self.give(now, Input::Grain { grain, input });
            }
            Note::Close { grain, to } => self.close(now, grain, to),
            Note::Route {
                grain,
                policy,
                from,
                travel,
                reply,
            } => {
                self.tickets += 1;
                let token = Token(self.tickets);
                self.ways.insert(token, reply);
                let errand = Errand {
                    token,
                    grain,
                    policy,
                    from,
                    travel,
                };
                self.give(now, Input::Route(routing::Input::Request(errand)));
            }
            Note::Handed { grain, to } => self.give(now, Input::Route(routing::Input::Handed { grain, to })),
            Note::Edit { table, edit, reply } => self.edit(now, table, edit, reply),
            Note::Look(reply) => {
                let _ = reply.send(self.view());
            }
            Note::Frame { .. } | Note::Durable | Note::Journaled(_) | Note::Seen(_) | Note::Beat(_) | Note::Stop => {}
        }
    }

    fn heed(&mut self, now: Time, output: Output) {
        match output {
            Output::Send { to, message } => self.mail.entry(to).or_default().push(message),
            Output::Persist { mark, record } => self.persistence.write(mark, record, &mut self.files),
            Output::Load { grain } => {
                let (_, accepted) = self.register(grain);
                let state = match accepted {
                    Some(accepted) if accepted.deleted => Some(State {
                        seq: accepted.seq,
                        hash: accepted.hash,
                        deleted: true,
                        body: Default::default(),
                    }),
                    _ => self.state(grain),
                };
                self.give(now, Input::Loaded { grain, state });
            }
            Output::Grain { grain, output } => self.hear(now, grain, output),
            Output::Route(output) => self.way(output),
            Output::Configured(config) => {
                tracing::info!(
                    n = config.n.0,
                    hosts = config.members.len(),
                    "a configuration is in force"
                );
                *self.config.lock().expect("no panic under this lock") = Some(config);
            }
            Output::Outdated { grain, by } => {
                tracing::debug!(%grain, ?by, "an activation seems to be outdated");
                self.over(now, grain);
            }
            Output::Forked { n, host } => {
                tracing::error!(n = n.0, %host, "two configurations of one number: a copied data folder, or a fault; this host stops");
                std::process::exit(70);
            }
        }
    }

    /// What nobody waits for: grains that are taken out, a journal that has grown long.
    fn tidy_files(&mut self) {
        self.persistence.step(&mut self.files);
        if self.files.journal.is_long() && !self.persistence.is_compacting() {
            self.persistence.compact(self.machine.snapshot(), &mut self.files);
        }
    }

    fn state(&self, grain: GrainId) -> Option<State> {
        self.files.state(&self.persistence, grain)
    }

    fn register(&self, grain: GrainId) -> (Option<Ballot>, Option<Accepted>) {
        let slot = granary_core::slot::Slot::of(grain);
        let replica = self.machine.replicas().replica(slot);
        replica.map_or((None, None), |replica| replica.register(grain))
    }

    fn open(
        &mut self,
        now: Time,
        name: &GrainName,
        hear: Arc<dyn Hear>,
        reply: oneshot::Sender<Result<Opened, OpenError>>,
    ) {
        let grain = name.id();
        self.persistence.name(name);
        // Its own earlier activation, which it has dropped.
        self.over(now, grain);
        let stored = self.persistence.stored(grain).filter(|stored| !stored.deleted);
        let had = stored.map(|stored| stored.hash);
        let reply = Some(reply);
        self.begin(now, grain, had, Kind::Grain { hear, reply });
    }

    fn begin(&mut self, now: Time, grain: GrainId, had: Option<CommitHash>, kind: Kind) {
        let waits = self.machine.proposers().proposer(grain).is_some();
        let live = Live {
            had,
            is_active: false,
            waits,
            kind,
        };
        self.live.insert(grain, live);
        if !waits {
            self.give(now, Input::Activate { grain, have: had });
        }
    }

    fn close(&mut self, now: Time, grain: GrainId, to: Option<HostId>) {
        if self.live.contains_key(&grain) {
            let input = proposer::Input::Release { to };
            self.give(now, Input::Grain { grain, input });
        }
    }

    fn edit(&mut self, now: Time, table: GrainId, edit: Edit, reply: oneshot::Sender<Edited>) {
        if self.live.contains_key(&table) {
            let _ = reply.send(Edited::Again);
            return;
        }
        let had = self.persistence.stored(table).map(|stored| stored.hash);
        let kind = Kind::Table {
            edit: Some(edit),
            written: None,
            reply: Some(reply),
        };
        self.begin(now, table, had, kind);
    }

    /// An activation is over, whatever it was doing.
    fn over(&mut self, now: Time, grain: GrainId) {
        let Some(live) = self.live.remove(&grain) else { return };
        let input = proposer::Input::Release { to: None };
        self.give(now, Input::Grain { grain, input });
        live.end();
    }

    /// Does what an activation's proposer says.
    fn hear(&mut self, now: Time, grain: GrainId, output: proposer::Output) {
        use proposer::Output as Said;
        match output {
            Said::ReadReady(ticket) | Said::ReadRefused(ticket) => {
                if let Some(reply) = self.reads.remove(&ticket) {
                    let _ = reply.send(matches!(output, Said::ReadReady(_)));
                }
                return;
            }
            Said::Fenced { .. } | Said::Released => {
                match self.live.get_mut(&grain) {
                    Some(live) if live.waits => {
                        live.waits = false;
                        let have = live.had;
                        self.give(now, Input::Activate { grain, have });
                    }
                    Some(_) => self.live.remove(&grain).into_iter().for_each(Live::end),
                    None => {}
                }
                return;
            }
            Said::NeedImage => {
                if let Some(state) = self.state(grain) {
                    let input = proposer::Input::Image(state);
                    self.give(now, Input::Grain { grain, input });
                }
                return;
            }
            _ => {}
        }
        let Some(live) = self.live.get_mut(&grain) else { return };
        match output {
            Said::Active { ballot, head, state } => self.active(now, grain, ballot, head, state),
            Said::Held { holder, .. } => {
                let live = self.live.remove(&grain);
                if let Some(Kind::Grain { reply: Some(reply), .. }) = live.map(|live| live.kind) {
                    let _ = reply.send(Err(OpenError::Held(holder)));
                }
            }
            Said::Committed(seq) => match &mut live.kind {
                Kind::Grain { hear, .. } => hear.clone().hear(News::Committed(seq)),
                Kind::Table { written, reply, .. } => {
                    if let (Some((version, bytes)), Some(reply)) = (written.take(), reply.take()) {
                        let _ = reply.send(Edited::Done(version, Some(bytes)));
                    }
                    self.close(now, grain, None);
                }
            },
            Said::Isolated => live.tell(News::Isolated),
            Said::Reachable => live.tell(News::Reachable),
            _ => {}
        }
    }

    fn active(&mut self, now: Time, grain: GrainId, ballot: Ballot, head: Option<Accepted>, state: Option<State>) {
        let Some(live) = self.live.get_mut(&grain) else { return };
        live.is_active = true;
        match &mut live.kind {
            Kind::Grain { reply, .. } => {
                let Some(reply) = reply.take() else { return };
                let opened = match state.filter(|state| !state.deleted).map(|state| stored_of(&state)) {
                    Some(Err(_)) => Err(OpenError::Unreadable),
                    Some(Ok(stored)) => Ok(Some(stored)),
                    None => Ok(None),
                };
                let opened = opened.map(|state| Opened { ballot, head, state });
                if reply.send(opened).is_err() {
                    self.over(now, grain);
                }
            }
            Kind::Table { edit, written, reply } => {
                let Some(edit) = edit.take() else { return };
                let present = match (&head, state) {
                    (None, _) => None,
                    (Some(_), Some(state)) => Some(state),
                    (Some(_), None) => self.files.state(&self.persistence, grain),
                };
                let bytes = present.as_ref().and_then(|state| state.body.as_bytes().get(1..));
                let seq = head.map_or(Seq(0), |head| head.seq);
                match edit(bytes) {
                    None => {
                        if let Some(reply) = reply.take() {
                            let _ = reply.send(Edited::Done(seq.0, bytes.map(<[u8]>::to_vec)));
                        }
                        self.close(now, grain, None);
                    }
                    Some(next) => {
                        *written = Some((seq.next().0, next.clone()));
                        let proposal = table_proposal(head, &next);
                        let input = proposer::Input::Propose(proposal);
                        self.give(now, Input::Grain { grain, input });
                    }
                }
            }
        }
    }

    fn way(&mut self, output: routing::Output) {
        let (token, way) = match output {
            routing::Output::Serve { token, .. } => (token, Way::Here),
            routing::Output::Forward { token, to, travel } => (token, Way::There(to, travel)),
            routing::Output::Refuse { token, why } => (token, Way::Refused(why)),
            routing::Output::Directory(_) => return,
        };
        if let Some(reply) = self.ways.remove(&token) {
            let _ = reply.send(way);
        }
    }

    fn flush(&mut self) {
        for (to, messages) in self.mail.drain() {
            let frame = wire::frame(&messages);
            if frame.len() > LONG_FRAME {
                self.link.send_bulk(to, frame);
            } else {
                self.link.send(to, frame);
            }
        }
    }

    fn beats(&self) -> Vec<(HostId, Beat)> {
        let (now, loads) = (self.clock.time(), self.machine.routing().directory().loads());
        let members = self.machine.config().into_iter().flat_map(|config| &config.members);
        members
            .filter_map(|member| Some((member.host, loads.beat(now, member.host)?)))
            .collect()
    }

    fn view(&self) -> View {
        let replicas = self.machine.replicas();
        let isolated = self.live.keys().filter(|grain| {
            let proposer = self.machine.proposers().proposer(**grain);
            proposer.is_some_and(proposer::Proposer::is_isolated)
        });
        View {
            config: self.machine.config().cloned(),
            serving: replicas
                .iter()
                .filter(|(_, replica)| replica.serves().is_some())
                .count(),
            installing: replicas.iter().filter(|(_, replica)| replica.installs()).count(),
            registers: replicas.iter().map(|(_, replica)| replica.len()).sum(),
            activations: self.live.len(),
            isolated: isolated.count(),
            counts: self.machine.routing().counts(),
            cached: self.machine.routing().cached(),
            beats: self.beats(),
        }
    }
}

impl Live {
    fn tell(&self, news: News) {
        if let Kind::Grain { hear, .. } = &self.kind {
            hear.clone().hear(news);
        }
    }

    /// Tells whoever is behind it that it's over.
    fn end(self) {
        match self.kind {
            Kind::Grain { reply: Some(reply), .. } => {
                let _ = reply.send(Err(OpenError::Stopped));
            }
            Kind::Grain { hear, reply: None } => hear.hear(News::Over),
            Kind::Table { reply, .. } => {
                if let Some(reply) = reply {
                    let _ = reply.send(Edited::Again);
                }
            }
        }
    }
}

/// A table's next version as a commit.
fn table_proposal(head: Option<Accepted>, bytes: &[u8]) -> Proposal {
    let (seq, prev_hash) = head.map_or((Seq(0), [0; 16]), |head| (head.seq, head.hash));
    let body = [&[TABLE], bytes].concat();
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(&[&prev_hash[..], &body].concat()).as_bytes()[..16]);
    Proposal {
        seq: seq.next(),
        prev_hash,
        hash,
        deletes: false,
        payload: Payload::Full(body.into()),
    }
}
