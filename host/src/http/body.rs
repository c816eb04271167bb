//! Reading request bodies within their limits: size, time, and the memory of all bodies together.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use granary_core::api::Code;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::error::Refusal;
use super::headers::expects_continue;
use super::memory::{Memory, SMALL, Share};

/// Slower clients than this, in bytes a second, run out of time, sending or reading.
pub(super) const SLOWEST: usize = 32 << 10;
/// How much of a body that is refused is still read, so that the client gets to see the refusal.
const DISCARD_LIMIT: usize = 32 << 20;

/// A body's bytes, with its share of the memory.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) share: Option<Share>,
}

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
    /// What is too large, for the error's text.
    pub(super) what: &'static str,
    /// What can be done about it.
    pub(super) remedy: &'static str,
}

impl Limits {
    fn too_large(&self) -> Refusal {
        let Limits {
            bytes, what, remedy, ..
        } = self;
        Refusal::new(
            Code::TooLarge,
            format!("{what} is larger than the limit of {bytes} bytes{remedy}"),
        )
    }
}

/// Reads a whole body. A body in one piece, as small ones are, is not copied.
pub(super) async fn read<B>(body: &mut B, limits: Limits, memory: &Memory) -> Result<Read, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Read::default());
    }
    let started = Instant::now();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.bytes {
        return Err(limits.too_large());
    }
    let mut share = None;
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    let mut length = 0;
    loop {
        let deadline = started + limits.time + Duration::from_millis((length * 1000 / SLOWEST) as u64);
        let Some(piece) = piece(body, deadline).await? else {
            break;
        };
        length += piece.len();
        if length > limits.bytes {
            return Err(limits.too_large());
        }
        let counted = share.as_ref().map_or(SMALL, Share::bytes);
        if length > counted {
            // Counted in steps that double, however much was announced: who sends nothing takes no room from others.
            let share = share.get_or_insert_with(|| memory.share());
            let ahead = if announced > length { announced } else { limits.bytes };
            share.grow(length.max((2 * counted).min(ahead))).await?;
        }
        if first.is_empty() && whole.is_empty() {
            first = piece;
        } else {
            if whole.is_empty() {
                whole.reserve(announced.max(length));
                whole.extend_from_slice(&first);
                first = Bytes::new();
            }
            whole.extend_from_slice(&piece);
        }
        if body.is_end_stream() {
            break;
        }
    }
    let bytes = if whole.is_empty() { first } else { whole.into() };
    Ok(Read { bytes, share })
}

/// The next piece of content; trailers are passed over.
async fn piece<B: Body<Data = Bytes> + Unpin>(body: &mut B, deadline: Instant) -> Result<Option<Bytes>, Refusal> {
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => {
                return Err(Refusal::new(
                    Code::SlowClient,
                    "the body came too slowly; at least 32 KiB a second are expected",
                ));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => {
                return Err(Refusal::new(
                    Code::BadArguments,
                    "the body broke off, or its chunks aren't what a chunked body has",
                ));
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Reads what is left of a refused request's body and forgets it: a client that is still sending wouldn't see the reply when
/// the connection closed under it. One that waits to be asked for its body (`expect: 100-continue`) isn't asked.
pub(super) async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B, headers: &HeaderMap, time: Duration) {
    if expects_continue(headers) {
        return;
    }
    let deadline = Instant::now() + time;
    let mut length = 0;
    while length < DISCARD_LIMIT && !body.is_end_stream() {
        match piece(body, deadline).await {
            Ok(Some(bytes)) => length += bytes.len(),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body_util::{Empty, Full};
    use hyper::body::Frame;

    use super::super::memory;
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 100_000,
        time: Duration::from_millis(50),
        what: "the body",
        remedy: "",
    };

    /// Pieces without an announced length; then the end, or silence.
    struct Pieces {
        left: Vec<Bytes>,
        silent: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.left.pop() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None if self.silent => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn pieces(sizes: &[usize], silent: bool) -> Pieces {
        let left = sizes.iter().map(|size| vec![b'x'; *size].into()).collect();
        Pieces { left, silent }
    }

    async fn code<B: Body<Data = Bytes> + Unpin>(body: B, memory: &Memory) -> Result<usize, Code> {
        let mut body = body;
        read(&mut body, LIMITS, memory)
            .await
            .map(|read| read.bytes.len())
            .map_err(|refusal| refusal.code())
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit() {
        let memory = memory::of(1 << 20);
        assert_eq!(code(Empty::new(), &memory).await, Ok(0));
        assert_eq!(code(Full::from(vec![b'x'; 100_000]), &memory).await, Ok(100_000));
        assert_eq!(
            code(Full::from(vec![b'x'; 100_001]), &memory).await,
            Err(Code::TooLarge)
        );
        assert_eq!(code(pieces(&[1, 0, 2], false), &memory).await, Ok(3));
        assert_eq!(code(pieces(&[50_000, 50_000], false), &memory).await, Ok(100_000));
        assert_eq!(
            code(pieces(&[1, 50_000, 50_000], false), &memory).await,
            Err(Code::TooLarge)
        );
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_a_slow_client() {
        let memory = memory::of(1 << 20);
        assert_eq!(code(pieces(&[10], true), &memory).await, Err(Code::SlowClient));
        assert_eq!(memory.used_bytes(), 0);
    }

    #[tokio::test]
    async fn all_bodies_share_one_memory() {
        let memory = memory::of(150_000);
        let held = read(&mut Full::from(vec![b'x'; 100_000]), LIMITS, &memory)
            .await
            .ok()
            .unwrap();
        assert_eq!(
            code(Full::from(vec![b'x'; 60_000]), &memory).await,
            Err(Code::Overloaded)
        );
        assert_eq!(code(pieces(&[60_000], false), &memory).await, Err(Code::Overloaded));
        assert_eq!(code(Full::from(vec![b'x'; 10_000]), &memory).await, Ok(10_000));
        drop(held);
        assert_eq!(code(Full::from(vec![b'x'; 60_000]), &memory).await, Ok(60_000));
        assert_eq!(memory.used_bytes(), 0);
    }
}
