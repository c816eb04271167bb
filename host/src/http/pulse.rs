//! Whether a connection is at rest, in the middle of a request's headers, or busy: told by the bytes that come and by the
//! requests that are answered, read now and then by the one who closes connections that are too slow.
//!
//! A request costs two relaxed stores here. A timer of its own would cost it an entry in the runtime's timer wheel.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

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
pub(super) struct Pulse(Arc<AtomicU64>);

const PHASES: u64 = 4;

impl Pulse {
    /// The phase, with a number that is different in each.
    pub(super) fn beat(&self) -> (Phase, u64) {
        let beat = self.0.load(Ordering::Relaxed);
        let phase = match beat % PHASES {
            0 => Phase::Resting,
            1 => Phase::Heading,
            _ => Phase::Busy,
        };
        (phase, beat)
    }

    /// A request's headers are complete.
    pub(super) fn busy(&self) {
        self.0.store(self.turn() + 2, Ordering::Relaxed);
    }

    /// A request is answered.
    pub(super) fn rest(&self) {
        self.0.store(self.turn() + PHASES, Ordering::Relaxed);
    }

    fn bytes(&self) {
        if self.beat().0 == Phase::Resting {
            self.0.store(self.turn() + 1, Ordering::Relaxed);
        }
    }

    /// Only the connection's own task writes, so there is no race between reading and storing.
    fn turn(&self) -> u64 {
        let beat = self.0.load(Ordering::Relaxed);
        beat - beat % PHASES
    }
}

/// A stream that tells a pulse when bytes come.
#[derive(Debug)]
pub(super) struct Felt {
    pub(super) stream: TcpStream,
    pub(super) pulse: Pulse,
}

impl AsyncRead for Felt {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.bytes();
        }
        polled
    }
}

impl AsyncWrite for Felt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
            pulse.bytes();
            seen.push(pulse.beat());
            pulse.bytes();
            assert_eq!(pulse.beat(), *seen.last().unwrap());
            pulse.busy();
            seen.push(pulse.beat());
            pulse.bytes();
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
