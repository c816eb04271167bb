//! Connections that others have dialled: who they are is looked at first, then what comes of them are events.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use granary_core::id::{HostId, Lsn};
use granary_core::membership::Life;
use quinn::{Connection, ConnectionError, Incoming, RecvStream, VarInt};

use super::allowance::{Allowance, Held};
use super::endpoint::Quic;
use super::known::Met;
use super::lane::{FRAME_MOST, HEAD_BYTES, read_head};
use super::strangers::{Admission, Stranger};
use super::tls::{JOIN, PEERS, host_of, speaks, welcome_peer};
use super::{join, message};

/// Connections of peers at a time; more are refused.
const PEERS_MOST: usize = 4096;
/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// Between lines in the log about refusals, which strangers can cause.
const LOG_PAUSE: Duration = Duration::from_millis(100);
/// Why a connection is closed, for the other side's log.
const STRANGER: VarInt = VarInt::from_u32(1);

/// An answer on its way; nothing when the question can't be read.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It's answered.
    With(Bytes),
    /// It wasn't taken on: it can't be read here, or this host isn't ready for it.
    NotTaken,
    /// Who worked on it has gone without an answer, and what was done by then isn't known.
    Lost,
}

/// An answer's first byte.
const WITH: u8 = 0;
const NOT_TAKEN: u8 = 1;

impl Answered {
    /// The bytes that go back; none say that the answer is lost.
    fn written(self) -> Vec<Bytes> {
        match self {
            Answered::With(answer) => vec![Bytes::from_static(&[WITH]), answer],
            Answered::NotTaken => vec![Bytes::from_static(&[NOT_TAKEN])],
            Answered::Lost => Vec::new(),
        }
    }

    /// Reads them.
    pub(super) fn read(bytes: &Bytes) -> Answered {
        match bytes.first() {
            Some(&WITH) => Answered::With(bytes.slice(1..)),
            Some(&NOT_TAKEN) => Answered::NotTaken,
            _ => Answered::Lost,
        }
    }
}

/// Until this host is ready for others, or why it isn't.
pub(crate) type Joining = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Until others were told.
pub(crate) type Telling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What comes from other hosts, each known by its certificate.
pub(crate) trait Events: Send + Sync {
    /// A frame, with its share of what may be held.
    fn frame(&self, from: HostId, frame: Bytes, held: Held);
    /// A datagram.
    fn datagram(&self, from: HostId, datagram: Bytes);
    /// A dialled address is this host's.
    fn introduced(&self, host: HostId, address: std::net::SocketAddr);
    /// A question.
    fn ask(&self, from: HostId, question: Bytes) -> Answering;
    /// A host that may join is about to.
    fn joins(&self, host: HostId, from: std::net::SocketAddr) -> Joining;
    /// Another host takes another process for this host, for good: this one has to end before it does any harm.
    fn disowned(&self, by: HostId, why: &str);
    /// A process shows another host's identity and lacks what that host has acknowledged, which was durable up to there. Until the others know.
    fn rewound(&self, host: HostId, life: Life, durable: Lsn) -> Telling;
    /// Where the other hosts are, for one that joins.
    fn hosts(&self) -> Vec<(HostId, std::net::SocketAddr)>;
}

/// Takes connections until the endpoint is closed.
pub(super) async fn accept(quic: Arc<Quic>) {
    while let Some(incoming) = quic.endpoint().accept().await {
        let remote = incoming.remote_address();
        let is_proved = incoming.remote_address_validated();
        match quic.strangers().admit(remote.ip().to_canonical(), is_proved) {
            Admission::Greet(stranger) => drop(tokio::spawn(greet(quic.clone(), stranger, incoming))),
            // The other side begins anew with the proof.
            Admission::Prove => drop(incoming.retry()),
            Admission::Refuse => {
                quic.refused(&remote, "too many connections of which nobody knows whose they are");
                incoming.refuse();
            }
        }
    }
}

async fn greet(quic: Arc<Quic>, stranger: Stranger, incoming: Incoming) {
    let remote = incoming.remote_address();
    let handshake = async { incoming.accept()?.await };
    let connection = match tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            quic.doubted();
            return quic.refused(&remote, &error.to_string());
        }
        Err(_) => return quic.refused(&remote, "the handshake took too long"),
    };
    match speaks(&connection).as_deref() {
        Some(JOIN) => join::welcome(&quic, connection).await,
        Some(PEERS) => match host_of(&connection, quic.cluster()) {
            Some(host) if host != quic.me() => {
                if quic.traffic().open() >= PEERS_MOST {
                    quic.refused(&remote, "too many connections");
                    return connection.close(STRANGER, b"too many connections");
                }
                let Ok(met) = quic.meet(host, remote, &connection) else {
                    return;
                };
                drop(stranger);
                welcome_peer(&connection);
                quic.traffic().begin(&connection);
                let end = listen(&quic, host, Arc::new(met), &connection).await;
                quic.traffic().end(&connection);
                quic.judged(host, &end);
            }
            Some(_) => {
                quic.refused(&remote, "it has this host's own identity: a copied data folder?");
                connection.close(STRANGER, b"your identity is mine: a copied data folder?");
            }
            None => {
                quic.refused(&remote, "it shows no certificate of this cluster");
                connection.close(STRANGER, b"no certificate of this cluster: join with a token");
            }
        },
        _ => connection.close(STRANGER, b"unknown protocol"),
    }
}

/// Hears a peer until its connection ends.
async fn listen(quic: &Quic, from: HostId, met: Arc<Met>, connection: &Connection) -> ConnectionError {
    quic.met(from, connection.remote_address());
    let events = quic.events();
    loop {
        tokio::select! {
            datagram = connection.read_datagram() => match datagram {
                Ok(datagram) => {
                    if hear(&met, Lsn(0), connection) {
                        events.datagram(from, datagram);
                    }
                }
                Err(error) => return error,
            },
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    let frames = quic.held().frames.clone();
                    let heard = hear_frames(events.clone(), from, met.clone(), connection.clone(), stream, frames);
                    tokio::spawn(heard);
                }
                Err(error) => return error,
            },
            streams = connection.accept_bi() => match streams {
                Ok((mut send, mut receive)) if hear(&met, Lsn(0), connection) => {
                    let events = events.clone();
                    let (questions, desk) = (quic.held().questions.clone(), quic.desk().clone());
                    tokio::spawn(async move {
                        // Held until it's answered: until then its bytes are there.
                        let Some((question, held)) = message::read(&mut receive, &questions).await else { return };
                        let taken = desk.take();
                        let answer = match taken {
                            Some(_) => events.ask(from, question).await,
                            None => Answered::NotTaken,
                        };
                        drop(held);
                        // Whoever has asked may have gone.
                        if message::write(&mut send, answer.written()).await.is_ok() {
                            // A connection that is closed before loses it.
                            let _ = send.stopped().await;
                        }
                        drop(taken);
                    });
                }
                Ok(_) => {}
                Err(error) => return error,
            },
        }
    }
}

/// Whether what came on a connection counts. When the host has another life by now, it doesn't, and the connection is of no use.
fn hear(met: &Met, durable: Lsn, connection: &Connection) -> bool {
    let counts = met.hear(durable);
    if !counts {
        connection.close(STRANGER, b"this host has started again since");
    }
    counts
}

async fn hear_frames(
    events: Arc<dyn Events>,
    from: HostId,
    met: Arc<Met>,
    connection: Connection,
    mut stream: RecvStream,
    frames: Allowance,
) {
    loop {
        let mut head = [0; HEAD_BYTES];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let (len, durable) = read_head(head);
        if len > FRAME_MOST {
            tracing::warn!(%from, len, "a frame is longer than any may be");
            connection.close(STRANGER, b"a frame is longer than any may be");
            return;
        }
        let held = frames.take(len).await;
        let mut frame = vec![0; len];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        if !hear(&met, durable, &connection) {
            return;
        }
        events.frame(from, frame.into(), held);
    }
}

/// Says in the log who was refused, not more often than a reader can read.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    count: AtomicU64,
    logged: Mutex<Option<Instant>>,
}

impl Refusals {
    pub(super) fn note(&self, remote: &std::net::SocketAddr, why: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged = self.logged.lock().expect("no panic under this lock");
        if logged.is_none_or(|at| at.elapsed() >= LOG_PAUSE) {
            *logged = Some(Instant::now());
            tracing::warn!(%remote, why, count, "a connection was refused");
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
