//! The thread on which this host's part in its cluster is decided, and what it's asked.
//!
//! One thread takes one note after the other, gives it to the machine (`granary_core::cluster`) and does what that says. It does
//! what takes long nowhere: commits go to the log's thread, records to the journal's, frames to the link, states are read by the
//! [reader](super::reader). A thread of its own, so that guests that compute don't keep the host from renewing its ballots.
//!
//! **Not here:** rules (the machine), how frames travel (`link`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use granary_core::cluster::{self as machine, Cluster, Edited, Input, News, Output, PeerMessage};
use granary_core::config_chain::config::Config;
use granary_core::id::{GrainId, GrainName, HostId};
use granary_core::message::Token;
use granary_core::placement::Beat;
use granary_core::routing;
use granary_core::time::Time;
use tokio::sync::oneshot;

use super::copies::stored_of;
use super::files::Files;
use super::handle::Counts;
use super::link::Link;
use super::notes::{Edit, Hear, Note, OpenError, Opened, View, Way};
use super::reader::Reader;
use super::wire;
use crate::clock::Clock;
use crate::threads;

/// Notes that are taken before what they led to is sent: they share frames.
const BATCH: usize = 256;
/// Frames above this go the way of long ones.
const LONG_FRAME: usize = 64 << 10;
/// A round that takes longer than this is counted: ballots that aren't renewed in time end activations.
const BUSY_NANOS: u64 = 100_000_000;
/// How long nothing may be due, so that a stopped host is noticed.
const REST: Duration = Duration::from_millis(500);

/// Who is behind an activation.
struct Listener {
    grain: GrainId,
    hear: Arc<dyn Hear>,
    /// Until it's opened, or refused.
    reply: Option<oneshot::Sender<Result<Opened, OpenError>>>,
}

/// Who edits a table, and how, until it's made.
struct Editor {
    edit: Option<Edit>,
    reply: oneshot::Sender<Edited>,
}

/// See the file's text.
pub(super) struct Office {
    cluster: Cluster,
    files: Files,
    reader: Reader,
    link: Arc<dyn Link>,
    clock: Clock,
    /// The newest configuration, for those who ask without waiting.
    config: Arc<Mutex<Option<Arc<Config>>>>,
    /// What it is behind with, for the same.
    counts: Arc<Counts>,
    listeners: HashMap<Token, Listener>,
    readers: HashMap<Token, oneshot::Sender<bool>>,
    editors: HashMap<Token, Editor>,
    ways: HashMap<Token, oneshot::Sender<Way>>,
    /// The last token that was drawn here; those of ways are drawn by who asks.
    tokens: u64,
    mail: HashMap<HostId, Vec<PeerMessage>>,
}

impl Office {
    pub(super) fn new(
        cluster: Cluster,
        (files, reader): (Files, Reader),
        link: Arc<dyn Link>,
        clock: Clock,
        config: Arc<Mutex<Option<Arc<Config>>>>,
        counts: Arc<Counts>,
    ) -> Office {
        Office {
            cluster,
            files,
            reader,
            link,
            clock,
            config,
            counts,
            listeners: HashMap::new(),
            readers: HashMap::new(),
            editors: HashMap::new(),
            ways: HashMap::new(),
            tokens: 0,
            mail: HashMap::new(),
        }
    }

    /// Takes notes until it's told to stop.
    pub(super) fn run(mut self, notes: &Receiver<Note>) {
        self.flush();
        loop {
            let now = self.clock.time();
            let rest = match self.cluster.deadline() {
                _ if self.cluster.has_work() => Duration::ZERO,
                Some(at) => Duration::from_nanos(at.nanos_since(now)).min(REST),
                None => REST,
            };
            let mut next = match notes.recv_timeout(rest) {
                Ok(note) => Some(note),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let began = self.clock.time();
            for taken in 0..BATCH {
                let Some(note) = next else { break };
                if matches!(note, Note::Stop) {
                    self.flush();
                    return;
                }
                if matches!(note, Note::Frame { .. }) {
                    self.counts.frames.fetch_sub(1, Ordering::Relaxed);
                }
                self.take(note);
                next = if taken + 1 < BATCH { notes.try_recv().ok() } else { None };
            }
            let now = self.clock.time();
            if self.cluster.deadline().is_some_and(|at| at <= now) {
                self.give(now, Input::Wake);
            }
            self.flush();
            let journal = &self.files.journal;
            self.counts.journal_bytes.store(journal.waiting(), Ordering::Relaxed);
            let is_long = journal.is_long();
            self.cluster.tidy(is_long, &mut self.files);
            if self.clock.time().nanos_since(began) > BUSY_NANOS {
                self.counts.busy.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Gives the machine an input, does what it says, and answers what it asks.
    pub(super) fn give(&mut self, now: Time, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            self.cluster.handle(now, input, &mut self.files, &mut out);
            inputs.extend(out.into_iter().filter_map(|output| self.heed(output)));
        }
    }

    fn take(&mut self, note: Note) {
        let now = self.clock.time();
        match note {
            Note::Frame { from, frame, _held } => match wire::unframe(&frame) {
                None => tracing::warn!(%from, bytes = frame.len(), "a frame can't be read: another release?"),
                Some(messages) => {
                    for message in messages {
                        self.give(now, Input::Received { from, message });
                    }
                }
            },
            Note::Durable => {
                let upto = self.files.storage.durable();
                self.give(now, Input::LogDurable(upto));
            }
            Note::Tell(input) => self.give(now, input),
            Note::Loaded { grain, state, taken } => {
                drop(taken);
                self.give(now, Input::Loaded { grain, state });
            }
            Note::Stop => {}
            asked => self.take_ask(now, asked),
        }
    }

    /// What this host's own activations, router and tools ask.
    fn take_ask(&mut self, now: Time, note: Note) {
        match note {
            Note::Open { name, hear, reply } => self.open(now, name, hear, reply),
            Note::Reload { grain, last, reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(self.cluster.has(grain, last));
            }
            Note::Read { grain, by, sees, reply } => {
                let token = self.token();
                self.readers.insert(token, reply);
                let read = Input::Read { token, grain, by, sees };
                self.give(now, read);
            }
            Note::Route { errand, reply } => {
                self.ways.insert(errand.token, reply);
                self.give(now, Input::Route(routing::Input::Request(errand)));
            }
            Note::Withdraw { grain, token } => {
                if self.ways.remove(&token).is_some() {
                    self.give(now, Input::Route(routing::Input::Withdraw { grain, token }));
                }
            }
            Note::Edit { table, edit, reply } => {
                let token = self.token();
                let edit = Some(edit);
                self.editors.insert(token, Editor { edit, reply });
                self.give(now, Input::Edit { token, table });
            }
            Note::Look(reply) => {
                let _ = reply.send(self.view());
            }
            Note::Ping(reply) => {
                let _ = reply.send(());
            }
            Note::Frame { .. } | Note::Durable | Note::Tell(_) | Note::Loaded { .. } | Note::Stop => {}
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn open(
        &mut self,
        now: Time,
        name: GrainName,
        hear: Arc<dyn Hear>,
        reply: oneshot::Sender<Result<Opened, OpenError>>,
    ) {
        let token = self.token();
        let (grain, reply) = (name.id(), Some(reply));
        self.listeners.insert(token, Listener { grain, hear, reply });
        self.count_activations();
        self.give(now, Input::Open { token, name });
    }

    fn no_longer_listens(&mut self, token: Token) {
        self.listeners.remove(&token);
        self.count_activations();
    }

    /// At once: an activation is counted before whoever asked for it knows of it.
    fn count_activations(&self) {
        self.counts.activations.store(self.listeners.len(), Ordering::Release);
    }

    /// Does what the machine says. Returns what it is to hear of that.
    fn heed(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Send { to, message } => self.mail.entry(to).or_default().push(message),
            Output::Load { name } => self.reader.read(name),
            Output::Opened { token, opened } => return self.opened(token, opened),
            Output::News { token, news } => self.tell(token, news),
            Output::Confirmed { token, is_confirmed } => {
                if let Some(reply) = self.readers.remove(&token) {
                    let _ = reply.send(is_confirmed);
                }
            }
            Output::Edit { token, table, bytes } => {
                let edit = self.editors.get_mut(&token)?.edit.take()?;
                let next = edit(bytes.as_deref());
                return Some(Input::Rewritten { table, next });
            }
            Output::Edited { token, edited } => {
                if let Some(editor) = self.editors.remove(&token) {
                    let _ = editor.reply.send(edited);
                }
            }
            Output::Route(output) => self.way(output),
            Output::Configured(config) => {
                tracing::info!(
                    n = config.n.0,
                    hosts = config.members.len(),
                    "a configuration is in force"
                );
                *self.config.lock().expect("no panic under this lock") = Some(config);
            }
            Output::Unsound { from } => {
                tracing::error!(%from, "a peer sends a commit that isn't what it is said to be: it isn't taken");
            }
            Output::Forked { n, host, is_odd } => {
                tracing::error!(n = n.0, %host, "two configurations of one number: a copied data folder, or a fault; that host isn't listened to");
                if is_odd {
                    tracing::error!("most of this host's voters have another configuration: it stops");
                    threads::end_process();
                }
            }
        }
        None
    }

    fn opened(&mut self, token: Token, opened: Result<machine::Opened, machine::OpenError>) -> Option<Input> {
        let listener = self.listeners.get_mut(&token)?;
        let (grain, reply) = (listener.grain, listener.reply.take()?);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.no_longer_listens(token);
                let error = match error {
                    machine::OpenError::Held(host) => OpenError::Held(host),
                    machine::OpenError::Over => OpenError::Over,
                };
                let _ = reply.send(Err(error));
                return None;
            }
        };
        let machine::Opened { ballot, head, state } = opened;
        let opened = match state.map(|state| stored_of(&state)).transpose() {
            Err(_) => Err(OpenError::Unreadable),
            Ok(state) => Ok(Opened { ballot, head, state }),
        };
        let is_lost = opened.is_err();
        // Whoever wanted it waits no longer.
        let is_unwanted = reply.send(opened).is_err();
        (is_lost || is_unwanted).then_some(Input::Close { grain, to: None })
    }

    fn tell(&mut self, token: Token, news: News) {
        if let Some(listener) = self.listeners.get(&token) {
            listener.hear.clone().hear(news);
        }
        if news == News::Over {
            self.no_longer_listens(token);
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
        let protocols = self.cluster.protocols();
        let (now, loads) = (self.clock.time(), protocols.routing().directory().loads());
        let members = protocols.config().into_iter().flat_map(|config| &config.members);
        members
            .filter_map(|member| Some((member.host, loads.beat(now, member.host)?)))
            .collect()
    }

    fn view(&self) -> View {
        let protocols = self.cluster.protocols();
        let replicas = protocols.replicas();
        let lives = self.cluster.lives();
        let proposers = lives.grains().filter_map(|grain| protocols.proposers().proposer(grain));
        View {
            config: protocols.config().cloned(),
            serving: replicas
                .iter()
                .filter(|(_, replica)| replica.serves().is_some())
                .count(),
            installing: replicas.iter().filter(|(_, replica)| replica.installs()).count(),
            registers: replicas.iter().map(|(_, replica)| replica.len()).sum(),
            activations: lives.len(),
            isolated: proposers.filter(|proposer| proposer.is_isolated()).count(),
            counts: protocols.routing().counts(),
            cached: protocols.routing().cached(),
            beats: self.beats(),
        }
    }
}
