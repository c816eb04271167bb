//! One connection to one peer, dialled when somebody wants to send and again when it has ended.
//!
//! Frames wait in a bounded queue while it's dialled; when that fails they are dropped, and whoever wants an answer sends again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use granary_core::id::{HostId, Lsn};
use quinn::{Connection, ConnectionError, SendStream, VarInt};
use tokio::sync::{Notify, mpsc, watch};

use super::super::link::CallError;
use super::allowance::Allowance;
use super::endpoint::Quic;
use super::incoming::Answered;
use super::known::Met;
use super::message;
use crate::threads;

/// Frames that wait to be sent.
const FRAMES_MOST: usize = 4096;
/// Bytes of them.
const BYTES_MOST: usize = 64 << 20;
/// Datagrams that wait for a connection; further ones push out the oldest.
const DATAGRAMS_MOST: usize = 16;
/// The longest frame and the longest answer.
pub(super) const FRAME_MOST: usize = 64 << 20;
/// By this a host closes its connections that stops when it has answered all that it has taken on.
pub(super) const ANSWERED: VarInt = VarInt::from_u32(5);
/// Before each frame: its length, and up to where the sender's log is durable.
pub(super) const HEAD_BYTES: usize = 12;
/// Between a dial that has failed and the next.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// How long a dial may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(3);

/// See the file's text.
pub(super) struct Lane {
    queue: mpsc::Sender<Bytes>,
    queued: Arc<AtomicUsize>,
    datagrams: Mutex<VecDeque<Bytes>>,
    wanted: Notify,
    state: watch::Sender<State>,
    /// Of answers that come.
    answers: Allowance,
    /// Of frames that wait for any host, and those that were dropped.
    outgoing: Arc<Outgoing>,
}

/// What waits to be sent, on all lanes.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) bytes: AtomicUsize,
    pub(super) dropped: AtomicU64,
}

/// How it stands with the connection.
#[derive(Clone, Debug)]
enum State {
    /// Nobody has wanted it yet, or it has ended.
    Idle,
    Up(Connection),
    /// It couldn't be made, a moment ago.
    Failed(String),
}

impl Lane {
    /// A lane to a host; its task ends with the endpoint.
    pub(super) fn open(quic: &Arc<Quic>, to: HostId) -> Arc<Lane> {
        let (queue, frames) = mpsc::channel(FRAMES_MOST);
        let lane = Arc::new(Lane {
            queue,
            queued: Arc::default(),
            datagrams: Mutex::default(),
            wanted: Notify::new(),
            state: watch::Sender::new(State::Idle),
            answers: quic.held().answers.clone(),
            outgoing: quic.outgoing().clone(),
        });
        let keep = lane.clone().keep(quic.clone(), to, frames);
        quic.spawn(threads::task("net-lane", keep));
        lane
    }

    /// Queues a frame; drops it when the queue is full.
    pub(super) fn send(&self, frame: Bytes) {
        let len = frame.len();
        if len > FRAME_MOST || self.queued.fetch_add(len, Ordering::Relaxed) + len > BYTES_MOST {
            self.queued.fetch_sub(len, Ordering::Relaxed);
            self.outgoing.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(bytes = len, "a frame was dropped: too many wait to be sent");
            return;
        }
        self.outgoing.bytes.fetch_add(len, Ordering::Relaxed);
        if self.queue.try_send(frame).is_err() {
            self.outgoing.dropped.fetch_add(1, Ordering::Relaxed);
            self.taken(len);
        }
        self.wanted.notify_one();
    }

    /// Sends a datagram at once, or keeps it for the connection that is being made.
    pub(super) fn datagram(&self, datagram: Bytes) {
        let connection = match &*self.state.borrow() {
            State::Up(connection) => Some(connection.clone()),
            State::Idle | State::Failed(_) => None,
        };
        match connection {
            // Datagrams get lost anyway; one that is too long would always be.
            Some(connection) => {
                if let Err(error) = connection.send_datagram(datagram) {
                    tracing::debug!(%error, "a datagram wasn't sent");
                }
            }
            None => {
                let mut waiting = self.datagrams.lock().expect("no panic under this lock");
                if waiting.len() >= DATAGRAMS_MOST {
                    waiting.pop_front();
                }
                waiting.push_back(datagram);
                self.wanted.notify_one();
            }
        }
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(&self, question: Bytes) -> Result<Bytes, CallError> {
        let connection = self.connected().await.map_err(CallError::NotSent)?;
        let unsent = |error: String| CallError::NotSent(error);
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| unsent(error.to_string()))?;
        // The other side begins when it has all of it.
        let written = message::write(&mut send, vec![question]).await;
        written.map_err(|error| unsent(error.to_string()))?;
        let answer = message::read(&mut receive, &self.answers).await;
        let (answer, _held) = answer.ok_or_else(|| unanswered(connection.close_reason()))?;
        match Answered::read(&answer) {
            Answered::With(answer) => Ok(answer),
            Answered::NotTaken => {
                let why = "it isn't ready, or can't read the question: another release?";
                Err(CallError::NotSent(why.to_owned()))
            }
            Answered::Lost => Err(CallError::Unknown("it lost the question under way".to_owned())),
        }
    }

    async fn connected(&self) -> Result<Connection, String> {
        let mut state = self.state.subscribe();
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Up(connection) => return Ok(connection),
                State::Failed(why) => {
                    self.wanted.notify_one();
                    return Err(why);
                }
                State::Idle => {
                    self.wanted.notify_one();
                    state.changed().await.map_err(|_| "this host stops".to_owned())?;
                }
            }
        }
    }

    /// Makes the connection whenever it's wanted and isn't there.
    async fn keep(self: Arc<Self>, quic: Arc<Quic>, to: HostId, mut frames: mpsc::Receiver<Bytes>) {
        let mut pause = PAUSE;
        loop {
            self.wanted.notified().await;
            let dialled = match quic.address(to) {
                Some(address) => dial(&quic, to, address).await,
                None => Err("its address isn't known".to_owned()),
            };
            match dialled {
                Ok((met, connection, stream)) => {
                    pause = PAUSE;
                    for datagram in self.datagrams.lock().expect("no panic under this lock").drain(..) {
                        // As when it were sent later.
                        let _ = connection.send_datagram(datagram);
                    }
                    self.state.send_replace(State::Up(connection.clone()));
                    quic.traffic().begin(&connection);
                    let end = self.feed(&quic, &connection, stream, &mut frames).await;
                    quic.traffic().end(&connection);
                    drop(met);
                    tracing::debug!(host = %to, why = %end, "a connection has ended");
                    quic.judged(to, &end);
                    self.state.send_replace(State::Idle);
                }
                Err(why) => {
                    tracing::debug!(host = %to, why, "a host can't be reached");
                    self.state.send_replace(State::Failed(why));
                    self.drop_all(&mut frames);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MOST);
                }
            }
        }
    }

    async fn feed(
        &self,
        quic: &Quic,
        connection: &Connection,
        mut stream: SendStream,
        frames: &mut mpsc::Receiver<Bytes>,
    ) -> ConnectionError {
        loop {
            let frame = tokio::select! {
                frame = frames.recv() => frame,
                end = connection.closed() => return end,
            };
            let Some(frame) = frame else {
                return ConnectionError::LocallyClosed;
            };
            self.taken(frame.len());
            let head = Bytes::copy_from_slice(&head_of(&frame, quic.known().durable()));
            if stream.write_all_chunks(&mut [head, frame]).await.is_err() {
                // The connection has ended, or is of no use: then this ends it.
                connection.close(VarInt::from_u32(0), b"");
                return connection.closed().await;
            }
        }
    }

    fn drop_all(&self, frames: &mut mpsc::Receiver<Bytes>) {
        while let Ok(frame) = frames.try_recv() {
            self.taken(frame.len());
        }
    }

    /// A frame doesn't wait any more.
    fn taken(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        self.outgoing.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a question has come to whose answer can't come any more.
fn unanswered(end: Option<ConnectionError>) -> CallError {
    match end {
        Some(ConnectionError::ApplicationClosed(close)) if close.error_code == ANSWERED => {
            CallError::NotSent("it stops, and hasn't taken the question on".to_owned())
        }
        _ => CallError::Unknown("the connection has ended".to_owned()),
    }
}

/// What stands before a frame, which is no longer than [`FRAME_MOST`].
fn head_of(frame: &Bytes, durable: Lsn) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&(frame.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&durable.0.to_le_bytes());
    head
}

pub(super) fn read_head(head: [u8; HEAD_BYTES]) -> (usize, Lsn) {
    let (mut len, mut durable) = ([0; 4], [0; 8]);
    len.copy_from_slice(&head[..4]);
    durable.copy_from_slice(&head[4..]);
    (u32::from_le_bytes(len) as usize, Lsn(u64::from_le_bytes(durable)))
}

async fn dial(quic: &Quic, to: HostId, address: SocketAddr) -> Result<(Met, Connection, SendStream), String> {
    let connecting = quic.connect(to, address)?;
    let dialled = async {
        let connection = connecting.await.map_err(|error| {
            quic.doubted();
            error.to_string()
        })?;
        let met = quic.meet(to, address, &connection)?;
        let stream = connection.open_uni().await.map_err(|end| {
            quic.judged(to, &end);
            end.to_string()
        })?;
        Ok((met, connection, stream))
    };
    let late = || Err(format!("{address} doesn't answer"));
    tokio::time::timeout(DIAL_PATIENCE, dialled)
        .await
        .unwrap_or_else(|_| late())
}
