//! Whether a connection is at rest, in the middle of a request's headers, or busy, and whether its client takes what it is
//! sent: told by the bytes that come and go and by the requests that are answered, read now and then by the one who closes
//! connections that are too slow.
//!
//! A request costs a few relaxed stores here. A timer of its own would cost it an entry in the runtime's timer wheel.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::listener::Stream;
use super::wait::Wait;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests. Also while a reply is being sent.
    Resting,
    /// Some bytes of a request have come, not yet all of its headers.
    Heading,
    /// A request is being answered.
    Busy,
}

/// A connection's phase and how many there were: the same beat twice means that nothing has changed between.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<Beats>);

#[derive(Debug, Default)]
struct Beats {
    /// Phases so far; the last two bits are the current one.
    phase: AtomicU64,
    /// Bytes that the system took for the client.
    sent: AtomicU64,
    /// Whether the system takes no more of them.
    is_stuck: AtomicBool,
    /// Nanoseconds that the bytes which came last had waited; 0 when that isn't known.
    waited: AtomicU64,
    /// Whether somebody wants to know if the connection is broken.
    is_asked: AtomicBool,
    /// Whether the reply that is being sent goes on until its client leaves.
    is_endless: AtomicBool,
}

const PHASES: u64 = 4;

impl Pulse {
    /// The phase, with a number that is different in each.
    pub(super) fn beat(&self) -> (Phase, u64) {
        let beat = self.0.phase.load(Ordering::Relaxed);
        let phase = match beat % PHASES {
            0 => Phase::Resting,
            1 => Phase::Heading,
            _ => Phase::Busy,
        };
        (phase, beat)
    }

    /// The reply that comes now goes on until its client leaves.
    pub(super) fn begin_endless(&self) {
        self.0.is_endless.store(true, Ordering::Relaxed);
    }

    /// Whether such a reply is being sent.
    pub(super) fn is_endless(&self) -> bool {
        self.0.is_endless.load(Ordering::Relaxed)
    }

    /// A request's headers are complete.
    pub(super) fn busy(&self) {
        self.0.is_endless.store(false, Ordering::Relaxed);
        self.0.phase.store(self.turn() + 2, Ordering::Relaxed);
    }

    /// A request is answered.
    pub(super) fn rest(&self) {
        self.0.phase.store(self.turn() + PHASES, Ordering::Relaxed);
    }

    /// Nanoseconds that the request which came last waited for its turn; 0 when it came along with the one before.
    pub(super) fn waited(&self) -> u64 {
        self.0.waited.swap(0, Ordering::Relaxed)
    }

    /// Bytes sent so far, while there are more that the client doesn't take.
    pub(super) fn stuck(&self) -> Option<u64> {
        let is_stuck = self.0.is_stuck.load(Ordering::Relaxed);
        is_stuck.then(|| self.0.sent.load(Ordering::Relaxed))
    }

    /// Has the connection looked at when it's polled next: one that is broken ends, and one whose client has ended its half of it while it gets
    /// an endless reply. Nothing else tells while a request is being answered, since nothing is read then.
    pub(super) fn look(&self) {
        self.0.is_asked.store(true, Ordering::Relaxed);
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        self.0.is_stuck.store(polled.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(bytes)) = polled {
            // Only the connection's own task writes here, too.
            let sent = self.0.sent.load(Ordering::Relaxed);
            self.0.sent.store(sent + *bytes as u64, Ordering::Relaxed);
        }
    }

    fn bytes(&self, waited: Option<u64>) {
        if let Some(waited) = waited {
            self.0.waited.store(waited, Ordering::Relaxed);
        }
        if self.beat().0 == Phase::Resting {
            self.0.phase.store(self.turn() + 1, Ordering::Relaxed);
        }
    }

    /// Only the connection's own task writes, so there is no race between reading and storing.
    fn turn(&self) -> u64 {
        let beat = self.0.phase.load(Ordering::Relaxed);
        beat - beat % PHASES
    }
}

/// A stream that tells a pulse when bytes come and go.
///
/// It also keeps back the HTTP library's own reply to what isn't HTTP, a bare status: whoever sent it gets a document that
/// says what would have been right.
#[derive(Debug)]
pub(super) struct Felt<S> {
    pub(super) stream: S,
    pub(super) pulse: Pulse,
    wait: Wait,
    /// What was read while a client's end was looked for.
    ahead: Vec<u8>,
    /// The status of the reply that was kept back; the last of this connection.
    pub(super) kept_back: Option<u16>,
}

impl<S> Felt<S> {
    pub(super) fn new(stream: S, pulse: Pulse) -> Felt<S> {
        Felt {
            stream,
            pulse,
            wait: Wait::new(),
            ahead: Vec::new(),
            kept_back: None,
        }
    }

    /// Keeps a bare refusal back. Our own have the request's id; a refusal that is written together with the reply before
    /// it goes out as it is.
    fn keep_back(&mut self, bytes: &[u8]) -> bool {
        let is_bare = bytes.starts_with(b"HTTP/1.1 4")
            && bytes.ends_with(b"\r\n\r\n")
            && !bytes.windows(REQUEST_ID.len()).any(|part| part == REQUEST_ID);
        if is_bare {
            let status = std::str::from_utf8(&bytes["HTTP/1.1 ".len()..][..3]);
            self.kept_back = status.ok().and_then(|status| status.parse().ok());
        }
        self.kept_back.is_some()
    }
}

impl<S: Stream> Felt<S> {
    /// Why there's nobody any more to whom the reply could be sent.
    fn look(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        let broken = self.stream.broken();
        if broken.is_some() || !self.pulse.is_endless() || !self.ahead.is_empty() {
            return broken;
        }
        let mut bytes = [0; 512];
        let mut read = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
            Poll::Pending => None,
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) if read.filled().is_empty() => Some(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(())) => {
                self.ahead.extend_from_slice(read.filled());
                // Whoever waits for bytes has no other call any more.
                cx.waker().wake_by_ref();
                None
            }
        }
    }
}

/// What every reply of ours has among its headers.
const REQUEST_ID: &[u8] = b"granary-request-id";

impl<S: AsyncRead + Unpin> AsyncRead for Felt<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let felt = &mut *self;
        let waited = felt.wait.ended();
        if !felt.ahead.is_empty() {
            let fits = felt.ahead.len().min(buf.remaining());
            buf.put_slice(&felt.ahead[..fits]);
            felt.ahead.drain(..fits);
            felt.pulse.bytes(None);
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut felt.stream).poll_read(&mut felt.wait.context(cx), buf);
        if buf.filled().len() > before {
            felt.pulse.bytes(waited);
        }
        polled
    }
}

impl<S: Stream> AsyncWrite for Felt<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.keep_back(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.pulse.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs
            && self.keep_back(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.pulse.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The library flushes whenever it's polled.
        if self.pulse.0.is_asked.swap(false, Ordering::Relaxed)
            && let Some(error) = self.look(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.kept_back.is_some() {
            // There is something to be said yet.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_the_same_only_while_nothing_happens() {
        let pulse = Pulse::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(pulse.beat());
            pulse.bytes(None);
            seen.push(pulse.beat());
            pulse.bytes(None);
            assert_eq!(pulse.beat(), *seen.last().unwrap());
            pulse.busy();
            seen.push(pulse.beat());
            pulse.bytes(None);
            assert_eq!(pulse.beat(), *seen.last().unwrap());
            pulse.rest();
        }
        let phases: Vec<Phase> = seen.iter().map(|(phase, _)| *phase).collect();
        assert_eq!(phases, [Phase::Resting, Phase::Heading, Phase::Busy].repeat(3));
        seen.sort_by_key(|(_, beat)| *beat);
        seen.dedup_by_key(|(_, beat)| *beat);
        assert_eq!(seen.len(), 9);
    }
}
